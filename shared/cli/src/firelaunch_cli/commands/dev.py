"""Implement ``firelaunch dev``: run the emulators and an app that restarts after each change, with one log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import firelaunch
from firelaunch.errors import FirelaunchError, SettingsError
from firelaunch.membership.invites import Invites
from firelaunch.settings.app import Settings
from firelaunch.store.audit import OPERATOR
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError

from ..deploy.functions import dedicated_entry
from ..doctor.env_file import with_env_file
from .apps import app_argument, app_folder, env_option
from .children import Child, Log, follow
from .emulators import emulator_port
from .local_stripe import LocalStripe, sells
from .publish import publish_policy
from .rules import rules_with
from .serve import free_port, gunicorn_command
from .web_client import VARIABLE, client_environ, starts

__all__ = ["command"]

_PROJECT = "demo-firelaunch"
"""The emulators' project. The prefix "demo-" keeps Google's tools from calling real services."""

_INVITED = 10_000
"""People who may use the invitation that is made at each start: as many as one may have."""

_INVITATION_DAYS = 90
_MEMBERSHIP = "firelaunch.functions.wiring:build_membership()"
_POLL_SECONDS = 0.3
_WEB = "web"
_WATCHED = {".py", ".toml", ".md", ".env", ".rules", ".json", ".ts", ".tsx", ".css", ".html", ".svg"}
_UNWATCHED = {".firelaunch", ".venv", "node_modules", "__pycache__", ".git", "tests", "dist", "build"}


@click.command("dev")
@app_argument
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the app; 8080, or any where that is taken.")
@click.option("--embedded", is_flag=True, help="Without emulators: SQLite, as firelaunch serve has it.")
@env_option
def command(app: str, port: int | None, embedded: bool) -> None:
    """Run APP until Ctrl-C, and restart it after each change.

    If Java and the Firestore emulator are installed, the emulator runs too, with the composed rules. If the Firebase
    CLI is installed, so does the Auth emulator, with the membership function, by which its users join the app. They
    have the ports of firebase.json, and lose their data when they end. Where the app sells plans and no Stripe key is
    set, a server stands in for Stripe. Where Node is installed, the web client is built, and served at /. The app's
    .env is read.
    """
    folder = app_folder(app)
    wanted_port = port or (int(os.environ["PORT"]) if os.environ.get("PORT", "").isdecimal() else None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    with ExitStack() as stack:
        run = _Dev(folder, free_port(wanted_port), Log(), stack)
        try:
            if not embedded:
                run.emulators()
                run.start_membership()
            run.stay()
        except KeyboardInterrupt:
            run.say("ending")


@dataclass
class _Dev:
    folder: Path
    port: int
    log: Log
    stack: ExitStack
    mode_environ: dict[str, str] = field(default_factory=lambda: {"FIRELAUNCH_MODE": "embedded"})
    firestore: Emulator | None = None
    ports: list[int] = field(default_factory=list)
    invitation: str | None = None
    stripe: LocalStripe | None = None
    app: Child | None = None
    client_waits: bool = False

    def say(self, line: str) -> None:
        self.log.say("dev", line)

    def emulators(self) -> None:
        """Start the emulators that are installed. Without the Firestore emulator the app uses SQLite."""
        try:
            # An emulator that FIRESTORE_EMULATOR_HOST names is used as it runs.
            named = os.environ.get("FIRESTORE_EMULATOR_HOST")
            self.firestore = self.stack.enter_context(Emulator.start(port=None if named else self._port("firestore")))
        except EmulatorUnavailable as error:
            self.say(f"SQLite in place of the Firestore emulator: {error}")
            return
        if self.firestore.log is not None:
            follow("firestore", self.firestore.log, self.log)
        self.mode_environ = {
            "FIRELAUNCH_MODE": "emulators",
            "FIRESTORE_EMULATOR_HOST": self.firestore.host,
            "GOOGLE_CLOUD_PROJECT": _PROJECT,
        }
        self.say(f"Firestore emulator on {self.firestore.host}, project {_PROJECT}; its data is gone when it ends")
        self.load_rules()
        self.start_auth()

    def _port(self, name: str) -> int:
        port = emulator_port(name, self.folder, without=frozenset({self.port, *self.ports}))
        self.ports.append(port)
        return port

    def load_rules(self) -> None:
        """Load the rules of all apps of the repo, and of this one, which may lie elsewhere."""
        if self.firestore is None:
            return
        try:
            text = rules_with(self.folder)
            for database in self._databases():
                self.firestore.load_rules(_PROJECT, text, database)
            self.say("rules loaded")
        except (click.ClickException, RulesError, EmulatorUnavailable, SettingsError) as error:
            self.say(f"rules not loaded: {getattr(error, 'message', error)}")

    def _databases(self) -> list[str]:
        settings = Settings.load(self.folder / "firelaunch.toml", {})
        return list(dict.fromkeys(["(default)", settings.database]))

    def start_auth(self) -> None:
        firebase = shutil.which("firebase")
        if os.environ.get("FIREBASE_AUTH_EMULATOR_HOST"):
            return
        if firebase is None:
            self.say("no Auth emulator, which the Firebase CLI has: npm install -g firebase-tools; dev tokens work")
            return
        port = self._port("auth")
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="firelaunch-dev-")))
        emulators = {"auth": {"host": "127.0.0.1", "port": port}, "ui": {"enabled": False}, "singleProjectMode": True}
        (folder / "firebase.json").write_text(json.dumps({"emulators": emulators}), encoding="utf-8")
        command = [firebase, "emulators:start", "--only=auth", f"--project={_PROJECT}"]
        self.stack.callback(Child("auth", command, folder, os.environ, self.log).stop)
        self.mode_environ["FIREBASE_AUTH_EMULATOR_HOST"] = f"127.0.0.1:{port}"
        self.say(f"Auth emulator on 127.0.0.1:{port}")

    def start_membership(self) -> None:
        """Run the membership function where there is an Auth emulator, with whose users it works."""
        auth = self._environ().get("FIREBASE_AUTH_EMULATOR_HOST")
        settings = self._settings()
        if self.firestore is None or auth is None or settings is None:
            return
        port = self._port("functions")
        own = dedicated_entry(settings.app.id, settings.cloud.database_id) if settings.database != "(default)" else ""
        own_environ = {
            "FIREBASE_AUTH_EMULATOR_HOST": auth,
            "DEDICATED_APPS": own,
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        environ = {**os.environ, **self.mode_environ, **own_environ}
        command = [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", _MEMBERSHIP]
        self.stack.callback(Child("members", command, self.folder, environ, self.log).stop)
        self.mode_environ["FIRELAUNCH_MEMBERSHIP_URL"] = f"http://127.0.0.1:{port}"
        self.say(f"users of the Auth emulator join with POST http://127.0.0.1:{port}/apps/{settings.app.id}/join")
        self.publish()

    def publish(self) -> None:
        """Write who may join to the database, as ``firelaunch publish`` does, with an invitation if one is needed."""
        settings = self._settings()
        if self.firestore is None or not self._has_membership or settings is None:
            return
        store = self.firestore.store(_PROJECT, settings.database)
        try:
            self.say(f"{settings.app.id} may be joined by {publish_policy(settings, store)}")
            if settings.membership.join != "open" and self.invitation is None:
                invites = Invites(store, settings.app.id, lambda: datetime.now(UTC))
                valid_for = timedelta(days=_INVITATION_DAYS)
                self.invitation = invites.create("member", uses=_INVITED, valid_for=valid_for, by=OPERATOR).code
                self.say(f'an invitation, for the body of that request: {{"invite": "{self.invitation}"}}')
        except FirelaunchError as error:
            self.say(f"the app cannot be joined: {error.message}")
        finally:
            store.close()

    @property
    def _has_membership(self) -> bool:
        return bool(self._environ().get("FIREBASE_AUTH_EMULATOR_HOST"))

    def _settings(self) -> Settings | None:
        """Return the app's settings, or None while they are not valid, of which the app itself tells."""
        try:
            return Settings.load(self.folder / "firelaunch.toml", {})
        except SettingsError:
            return None

    def sell(self) -> None:
        """Run a server in place of Stripe where the app sells something, unless there is a key of Stripe's."""
        settings = self._settings()
        own = with_env_file(self.folder, os.environ)
        if settings is None or not sells(settings) or own.get("STRIPE_API_KEY"):
            return
        if self.stripe is None:
            self.stripe = LocalStripe(self._port("stripe"), f"http://127.0.0.1:{self.port}", self.stack)
            self.mode_environ |= self.stripe.environ
            self.say(f"a server on {self.stripe.environ['STRIPE_API_BASE']} stands in for Stripe; nothing is charged")
        self.stripe.offer(settings)

    def build_client(self) -> None:
        """Build the web client, which the app serves, if it has changed."""
        self.client_waits = False
        self.mode_environ |= client_environ(self.folder, self._say_of_client, self._starts)

    def _starts(self) -> bool:
        """Whether the app runs or would start. If not, it says so itself, and the client is built once it does."""
        running = self.app is not None and self.app.ended() is None
        self.client_waits = not running and not starts(self.folder, self._environ())
        return not self.client_waits

    def _say_of_client(self, text: str) -> None:
        for line in text.splitlines():
            self.log.say("web", line)

    def stay(self) -> None:
        """Run the app and restart it whenever a file changes, until the command is interrupted."""
        self.stack.callback(self._stop_app)
        times: dict[Path, int] = {}
        reported = False
        while True:
            current = dict(self._files())
            changed = sorted(path for path in times.keys() | current.keys() if times.get(path) != current.get(path))
            if changed:
                self._restart(changed if times else [])
                times, reported = current, False
            if self.app is not None and (code := self.app.ended()) is not None and not reported:
                self.say(f"the app ended with {code}; it starts again when a file changes")
                reported = True
            time.sleep(_POLL_SECONDS)

    def _restart(self, changed: list[Path]) -> None:
        if changed:
            names = ", ".join(path.name for path in changed[:3]) + (" and more" if len(changed) > 3 else "")
            self.say(f"{names} changed")
        if any(path.suffix == ".rules" for path in changed):
            self.load_rules()
        if any(path.name == "firelaunch.toml" for path in changed):
            self.publish()
        self.sell()
        of_client = [path for path in changed if path.is_relative_to(self.folder / _WEB)]
        served = self.mode_environ.get(VARIABLE)
        if of_client or not changed or self.client_waits:
            self.build_client()
        same = served == self.mode_environ.get(VARIABLE)
        if changed and same and all(path.suffix == ".rules" or path in of_client for path in changed):
            return
        self._stop_app()
        self.app = Child("app", gunicorn_command(self.folder), self.folder, self._environ(), self.log)

    def _stop_app(self) -> None:
        if self.app is not None:
            self.app.stop()

    def _environ(self) -> Mapping[str, str]:
        page = {"FIRELAUNCH_RETURN_URL": f"http://localhost:{self.port}/#/plans"}
        server_environ = {"HOST": "127.0.0.1", "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        return {**page, **with_env_file(self.folder, os.environ), **server_environ, **self.mode_environ}

    def _files(self) -> Iterator[tuple[Path, int]]:
        """Yield the app's files with the times of their last changes."""
        roots = [self.folder]
        source = Path(firelaunch.__file__).parent
        if "site-packages" not in source.parts:
            roots.append(source)
        for root in roots:
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if name not in _UNWATCHED]
                for name in names:
                    if Path(name).suffix in _WATCHED or name == ".env":
                        path = Path(folder, name)
                        try:
                            yield path, path.stat().st_mtime_ns
                        except OSError:
                            continue
