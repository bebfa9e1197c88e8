"""What docs/auth.md tells a client to do: the real SDK, the membership function as it is deployed, and a real app."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deny_matrix.javascript import NoJavaScript, install
from firelaunch.identity.firebase import EmulatorIdentity
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import DocumentStore, Set
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.emulator import Emulator
from support import ROOT, served_function
from werkzeug.serving import make_server

from .server import API_KEY, SignInServer

JSON = {"Content-Type": "application/json"}
DRIVER = Path(__file__).parent / "driver.mjs"
PAGE = (ROOT / "docs" / "auth.md").read_text()


class Failed(Exception):
    """The SDK's code, or the message of what the page threw."""


class Page:
    """The page's functions, called one after the other in one Node process."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["node", "driver.mjs"], cwd=folder, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, name: str, *given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *given]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["is"]

    def close(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture
def google(firestore_project: str) -> Iterator[SignInServer]:
    with SignInServer(firestore_project) as server:
        yield server


@pytest.fixture
def app_url(request: pytest.FixtureRequest, firestore_project: str, tmp_path: Path) -> Iterator[str]:
    """An app whose users come from that server. The parameter is more of its settings."""
    more = getattr(request, "param", "")
    settings = Settings.load(
        write_app(tmp_path / "app", SETTINGS.replace('id = "demo"', 'id = "my-app"') + more),
        {"FIRELAUNCH_DATA": str(tmp_path / "data")},
    )
    services = replace(
        build(settings),
        identity=EmulatorIdentity(firestore_project, "my-app", guests=settings.guests),
        dev_identity=None,
    )
    made = App("test")
    made.services = services  # type: ignore[attr-defined]
    init_app(made, services, lambda turn: turn.llm.stream([]))
    made.start_jobs()
    server = make_server("127.0.0.1", 0, made, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    assert services.jobs.backend is not None
    services.jobs.backend.stop()
    services.store.close()


@pytest.fixture
def page(google: SignInServer, app_url: str) -> Iterator[Page]:
    try:
        packages = install()
    except NoJavaScript as error:
        pytest.skip(f"no JavaScript SDK: {error}")
    folder = packages / f"sign-in-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    code = "\n".join(re.findall(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    (folder / "page.mjs").write_text(code.replace("https://api.example.com", app_url))
    (folder / "firebase-config.json").write_text(json.dumps({"apiKey": API_KEY, "projectId": google.project}))
    (folder / "driver.mjs").write_text(DRIVER.read_text())
    made = Page(folder, {**os.environ, "SIGN_IN_URL": f"http://{google.host}"})
    yield made
    made.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture
def membership(
    google: SignInServer, firestore_emulator: Emulator, emulator_store: DocumentStore, tmp_path: Path
) -> Iterator[str]:
    emulator_store.commit([Set("apps/my-app", {"name": "My app", "join": "open"})])
    environ = {
        "GOOGLE_CLOUD_PROJECT": google.project,
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "FIREBASE_AUTH_EMULATOR_HOST": google.host,
    }
    with served_function("membership", tmp_path, **environ) as url:
        yield url


GUESTS = """
[plans.guest]
requests_per_minute = 5
daily_usd = "0.02"

[budget]
guests_daily_usd = "5"
"""


@pytest.mark.parametrize("app_url", [GUESTS], indirect=True)
def test_a_guest_whose_account_is_there_already_merges_into_it(
    page: Page, google: SignInServer, membership: str
) -> None:
    page("sendLink", "ada@example.com")
    ada = page("finishLink", google.links["ada@example.com"])
    page("join", membership, None)
    page("leave")

    guest = page("asGuest")
    me = page("call", "/v1/me")
    assert (me["status"], me["body"]["role"], me["body"]["plan"]) == (200, "guest", "guest")
    assert page("call", "/v1/devices")["body"]["error"]["code"] == "anonymous_account"
    with pytest.raises(Failed, match="takes no anonymous ones"):
        page("join", membership, None)
    assert (
        page("call", "/v1/chats", {"method": "POST", "headers": JSON, "body": '{"title": "Before"}'})["status"] == 201
    )
    page("sendLink", "ada@example.com")
    link = google.links["ada@example.com"]
    with pytest.raises(Failed, match="auth/email-already-in-use"):
        page("signUpGuest", "ada@example.com", link)
    token = page("guestToken")
    assert page("finishLink", link) == ada != guest
    page("join", membership, None)
    job = page("mergeGuest", token)
    while page("call", f"/v1/jobs/{job['id']}")["body"]["state"] in {"queued", "running"}:
        pass
    (chat,) = page("call", "/v1/chats")["body"]["items"]
    assert chat["title"] == "Before"
    assert page("mergeGuest", token)["id"] == job["id"]


def refusal(page: Page) -> tuple[int, str]:
    answer = page("call", "/v1/me")
    return answer["status"], answer["body"].get("error", {}).get("code", "")


def test_a_guest_signs_up_joins_and_is_a_member_with_the_next_token(
    page: Page, google: SignInServer, membership: str
) -> None:
    guest = page("asGuest")
    assert refusal(page) == (403, "anonymous_account")
    with pytest.raises(Failed, match="takes no anonymous ones"):
        page("join", membership, None)
    page("sendLink", "ada@example.com")
    assert page("signUpGuest", "ada@example.com", google.links["ada@example.com"]) == guest, "they keep their id"
    assert refusal(page) == (403, "forbidden")
    page("join", membership, None)
    me = page("call", "/v1/me")
    assert (me["status"], me["body"]["role"], me["body"]["uid"]) == (200, "member", guest)

    page("leave")
    assert page("user") is None
    page("sendLink", "ada@example.com")
    link = google.links["ada@example.com"]
    assert page("finishLink", link) == guest, "the same user by another link"
    assert page("call", "/v1/me")["body"]["email"] == "ada@example.com"
    page("sendLink", "ada@example.com")
    with pytest.raises(Failed, match="auth/invalid-action-code"):
        page("finishLink", link)

    page("leave")
    page("asGuest")
    with pytest.raises(Failed, match="auth/email-already-in-use"):
        page("signUpGuest", "ada@example.com", google.links["ada@example.com"])


def test_a_token_that_the_app_finds_expired_is_renewed_once(page: Page, google: SignInServer) -> None:
    google.add("ada", email="ada@example.com", emailVerified=True, claims={"apps": {"my-app": "admin"}})
    google.stale = True
    page("sendLink", "ada@example.com")
    page("finishLink", google.links["ada@example.com"])
    assert refusal(page) == (401, "unauthenticated"), "the new one is as old"
    google.stale = False
    assert page("call", "/v1/me")["body"]["role"] == "admin"


REFUSED = {
    "all": (("sendLink", "ada@example.com"), "auth/configuration-not-found"),
    "email_link": (("sendLink", "ada@example.com"), "auth/operation-not-allowed"),
    "anonymous": (("asGuest",), "auth/admin-restricted-operation"),
    "domain": (("sendLink", "ada@example.com"), "auth/unauthorized-continue-uri"),
}


def test_what_firebase_refuses_has_the_code_of_the_page(page: Page, google: SignInServer) -> None:
    for off, (call, code) in REFUSED.items():
        google.off = {off}
        with pytest.raises(Failed, match=f"^{code}$"):
            page(*call)
        assert f"`{code}`" in PAGE


def test_each_code_of_the_sdk_that_the_page_names_is_one_that_the_sdk_has() -> None:
    try:
        packages = install()
    except NoJavaScript as error:
        pytest.skip(f"no JavaScript SDK: {error}")
    sources = (packages / "node_modules" / "@firebase" / "auth" / "dist" / "node").glob("*.js")
    has = {code for source in sources for code in re.findall(r"'auth/([a-z-]+)'", source.read_text())}
    named = set(re.findall(r"`auth/([a-z-]+)`", PAGE))
    assert len(named) > 8
    assert named - has == {"configuration-not-found"}, "which the SDK makes of the server's CONFIGURATION_NOT_FOUND"
