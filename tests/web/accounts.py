"""An app whose users sign in with Firebase: its service, the membership function, and Firebase Auth's part, played."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from firebase_admin import credentials
from firelaunch.functions.membership import membership_app
from firelaunch.identity.firebase import EmulatorIdentity, EmulatorTokens
from firelaunch.membership.firebase import FirebaseDirectory
from firelaunch.membership.invites import Invites
from firelaunch.membership.members import Membership
from firelaunch.membership.policy import Policy
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.audit import OPERATOR
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app
from google.oauth2.credentials import Credentials
from sign_in.server import API_KEY, SignInServer
from werkzeug.serving import make_server

from .hosting import Host, hosted
from .parts import APP

__all__ = ["signing_in", "signing_in_at"]

_PROJECT = "demo-web"
_GUESTS = """
[plans.guest]
requests_per_minute = 100
daily_usd = "0.50"

[budget]
guests_daily_usd = "5"
"""


class _Key(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Credentials:
        return Credentials(token="owner")  # type: ignore[no-untyped-call]


@dataclass
class SigningIn:
    """A hosted page whose users sign in, and an invitation to its app."""

    host: Host
    invite: str


@contextmanager
def signing_in(folder: Path, dist: Path) -> Iterator[SigningIn]:
    """Serve the app, the function and the page. ``GET /emulator/...oobCodes`` lists the links, as the emulator does."""
    with SignInServer(_PROJECT, domain="localhost") as google, _hosted_app(folder, dist, google.toolkit_url) as made:
        host = made.host
        host.config["auth_emulator"] = host.url
        host.passed = f"http://{google.host}"
        host.answers[f"/emulator/v1/projects/{_PROJECT}/oobCodes"] = lambda: {
            "oobCodes": [{"email": email, "oobLink": link} for email, link in google.links.items()]
        }
        yield made


@contextmanager
def signing_in_at(emulator: str, folder: Path, dist: Path) -> Iterator[SigningIn]:
    """The same with the Auth emulator at the host and port ``emulator``."""
    with _hosted_app(folder, dist, f"http://{emulator}/identitytoolkit.googleapis.com/v1") as made:
        made.host.config["auth_emulator"] = f"http://{emulator}"
        made.host.connect.append(f"http://{emulator}")
        yield made


@contextmanager
def _hosted_app(folder: Path, dist: Path, toolkit: str) -> Iterator[SigningIn]:
    settings = Settings.load(
        write_app(folder, SETTINGS.replace('id = "demo"', 'id = "my-app"') + _GUESTS),
        {"FIRELAUNCH_DATA": str(folder / "data")},
    )
    services = replace(
        build(settings),
        identity=EmulatorIdentity(_PROJECT, APP["id"], guests=settings.guests),
        dev_identity=None,
    )
    app = App("test")
    app.services = services  # type: ignore[attr-defined]
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    app.start_jobs()
    store = SQLiteStore(folder / "members.sqlite3")
    store.commit([Set(f"apps/{APP['id']}", {"name": APP["name"], **Policy().data()})])
    directory = FirebaseDirectory(_PROJECT, toolkit_url=toolkit, credential=_Key())
    members = Membership(directory, lambda _: store, store, lambda: datetime.now(UTC))
    with _served(app) as api, _served(membership_app(members, EmulatorTokens(_PROJECT))) as membership:
        config = {
            "app": APP,
            "mode": "cloud",
            "api": api,
            "membership": membership,
            "firebase": {"apiKey": API_KEY, "authDomain": "localhost", "projectId": _PROJECT},
            "sign_in": ["email_link", "google", "anonymous"],
        }
        with hosted(dist, config, api, membership) as host:
            yield SigningIn(host, _invite(store))
    assert services.jobs.backend is not None
    services.jobs.backend.stop()
    services.store.close()
    store.close()


def _invite(store: SQLiteStore) -> str:
    invites = Invites(store, APP["id"], lambda: datetime.now(UTC))
    return invites.create("member", uses=50, valid_for=timedelta(days=1), by=OPERATOR).code


@contextmanager
def _served(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
