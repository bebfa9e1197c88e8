"""The calls of docs/mobile.md are those that a served app, its membership function and Firebase's sign-in answer so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from firebase_admin import credentials
from firelaunch.functions.membership import membership_app
from firelaunch.identity.firebase import EmulatorIdentity, EmulatorTokens
from firelaunch.membership.firebase import FirebaseDirectory
from firelaunch.membership.members import Membership, Requester
from firelaunch.membership.policy import Policy
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.models import ModelServer, Reply
from google.oauth2.credentials import Credentials
from sign_in.server import API_KEY, SignInServer
from support import ROOT
from werkzeug.serving import make_server

from .transcripts import LEAVES, Mismatch, Player, Transcript, transcripts

PAGE = (ROOT / "docs" / "mobile.md").read_text()
PROJECT, APP = "demo-mobile", "my-app"
_HOSTS = ("identitytoolkit.googleapis.com", "securetoken.googleapis.com")
_ANSWERS = (
    Reply(words=("The Volga ", "is the longest."), usage=(20, 0, 6)),
    Reply(words=("It is ", "3,530 km ", "long.")),
    Reply(words=("In the ", "Caspian ", "Sea."), pace=0.7),
)
CHANGES = (
    ('"member"', '"viewer"'),
    (', "features": []', ""),
    ('"features": []', '"features": [], "theme": "dark"'),
    ('"features": []', '"features": ["diary"]'),
    ('"UID"', '"ID_TOKEN"'),
)
"""What may change in the answer to ``GET /v1/me``."""


class _Key(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Credentials:
        return Credentials(token="owner")  # type: ignore[no-untyped-call]


@contextmanager
def served(app: App) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def running(folder: Path, model: ModelServer) -> Iterator[str]:
    """An app that takes the users of Firebase's sign-in."""
    text = SETTINGS.replace('id = "demo"', f'id = "{APP}"').replace("[limits]", "[limits]\ncheckpoint_seconds = 0.2")
    environ = {"FIRELAUNCH_DATA": str(folder / "data"), "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    settings = Settings.load(write_app(folder / "app", text), environ)
    services = replace(build(settings), identity=EmulatorIdentity(PROJECT, APP), dev_identity=None)
    app = App("test")
    app.services = services  # type: ignore[attr-defined]
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    app.start_jobs()
    with served(app) as url:
        yield url
    assert services.jobs.backend is not None
    services.jobs.backend.stop()
    services.store.close()


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    with ExitStack() as stack:
        model = stack.enter_context(ModelServer())
        model.script = list(_ANSWERS)
        google = stack.enter_context(SignInServer(PROJECT))
        api = stack.enter_context(running(tmp_path, model))
        store = SQLiteStore(tmp_path / "data" / "data.sqlite3")
        stack.callback(store.close)
        store.commit([Set(f"apps/{APP}", {"name": "My app", **Policy(join="invite").data()})])
        directory = FirebaseDirectory(PROJECT, toolkit_url=google.toolkit_url, credential=_Key())
        door = Membership(directory, lambda _: store, store, lambda: datetime.now(UTC))
        google.add("root", claims={"apps": {APP: "admin"}})
        invitation = door.invite(Requester("root", None, time.time()), APP, "member", uses=1, valid_for=timedelta(1))
        membership = stack.enter_context(served(membership_app(door, EmulatorTokens(PROJECT))))
        token, nonce = google.native_token("apple.com", "ada@example.com")
        yield Player(
            stack.enter_context(httpx.Client(trust_env=False, timeout=30)),
            {
                "api.example.com": api,
                "membership.example.com": membership,
                **{host: f"http://{google.host}/{host}" for host in _HOSTS},
            },
            {"API_KEY": API_KEY, "APPLE_TOKEN": token, "NONCE": nonce, "INVITATION": invitation.code},
        )


def test_each_call_of_the_page_is_answered_as_the_page_has_it(player: Player) -> None:
    page = list(transcripts(PAGE))
    assert len(page) > 20
    for transcript in page:
        player.play(transcript)
    assert sum(transcript.how == LEAVES for transcript in page) == 1


def test_a_page_that_is_no_longer_true_is_found_out(player: Player) -> None:
    page = list(transcripts(PAGE))
    joined = page[:5]
    for transcript in joined:
        player.play(transcript)
    me = joined[-1]
    assert me.url.endswith("/v1/me")
    assert me.status == 200
    untrue = [
        replace(me, status=201),
        replace(me, answer_headers={"Content-Type": "text/html"}),
        *(replace(me, answer=me.answer.replace(*change)) for change in CHANGES),
    ]
    for transcript in untrue:
        assert transcript != me
        with pytest.raises(Mismatch):
            player.play(transcript)
    player.play(me)


def test_firebase_takes_an_apple_token_only_with_its_own_nonce_and_deletes_only_after_a_sign_in() -> None:
    with SignInServer(PROJECT) as google:
        token, nonce = google.native_token("apple.com", "ada@example.com")

        def sign_in(nonce: str) -> tuple[int, dict[str, Any]]:
            post = f"id_token={token}&providerId=apple.com&nonce={nonce}"
            body = {"postBody": post, "requestUri": "http://localhost", "returnSecureToken": True}
            return google.answer(f"/identitytoolkit.googleapis.com/v1/accounts:signInWithIdp?key={API_KEY}", None, body)

        assert sign_in("another")[1]["error"]["message"].startswith("MISSING_OR_INVALID_NONCE")
        google.stale = True
        old = sign_in(nonce)[1]["idToken"]
        path = f"/identitytoolkit.googleapis.com/v1/accounts:delete?key={API_KEY}"
        assert google.answer(path, None, {"idToken": old})[1]["error"]["message"] == "CREDENTIAL_TOO_OLD_LOGIN_AGAIN"
        google.stale = False
        assert google.answer(path, None, {"idToken": sign_in(nonce)[1]["idToken"]})[0] == 200


def test_a_block_without_an_answer_is_no_transcript() -> None:
    with pytest.raises(IndexError):
        list(transcripts("```http\nGET https://api.example.com/v1/me\n```\n"))
    (one,) = transcripts("```http\nGET https://a.example/\nA: b\n\nHTTP/1.1 204 NO CONTENT\n```\n")
    assert one == Transcript("", "GET", "https://a.example/", {"A": "b"}, "", 204, {}, "")
