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
from pathlib import Path

import click
import firelaunch
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError

from ..doctor.env_file import read_env
from .apps import app_folder, env_option, repo_root
from .children import Child, Log, follow
from .rules import composed_rules
from .serve import free_port, gunicorn_command

__all__ = ["command"]

_PROJECT = "demo-firelaunch"
"""The emulators' project. The prefix "demo-" keeps Google's tools from calling real services."""

_AUTH_PORT = 9099
"""The Auth emulator's default port (https://firebase.google.com/docs/emulator-suite/install_and_configure)."""

_POLL_SECONDS = 0.3
_WATCHED = {".py", ".toml", ".md", ".env", ".rules", ".json"}
_UNWATCHED = {".firelaunch", ".venv", "node_modules", "__pycache__", ".git", "tests", "web", "build"}


@click.command("dev")
@click.argument("app", default=".")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the app; 8080, or any where that is taken.")
@click.option("--embedded", is_flag=True, help="Without emulators: SQLite, as firelaunch serve has it.")
@env_option
def command(app: str, port: int | None, embedded: bool) -> None:
    """Run APP (a folder, or a name under apps/) until Ctrl-C, and restart it after each change.

    If Java and the Firestore emulator are installed, the emulator runs too, with the composed rules. If the Firebase
    CLI is installed, so does the Auth emulator. The emulators lose their data when they end. The app's .env is read.
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
    app: Child | None = None

    def say(self, line: str) -> None:
        self.log.say("dev", line)

    def emulators(self) -> None:
        """Start the emulators that are installed. Without the Firestore emulator the app uses SQLite."""
        try:
            # An emulator that FIRESTORE_EMULATOR_HOST names is used as it runs.
            self.firestore = self.stack.enter_context(Emulator.start())
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

    def load_rules(self) -> None:
        """Load the rules of all apps of the repo. Outside a repo, clients are denied direct access."""
        if self.firestore is None:
            return
        try:
            root = repo_root()
            text = composed_rules(root / "apps", root / "firestore.rules").text
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
        port = free_port(None, usual=_AUTH_PORT)
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="firelaunch-dev-")))
        emulators = {"auth": {"host": "127.0.0.1", "port": port}, "ui": {"enabled": False}, "singleProjectMode": True}
        (folder / "firebase.json").write_text(json.dumps({"emulators": emulators}), encoding="utf-8")
        command = [firebase, "emulators:start", "--only=auth", f"--project={_PROJECT}"]
        self.stack.callback(Child("auth", command, folder, os.environ, self.log).stop)
        self.mode_environ["FIREBASE_AUTH_EMULATOR_HOST"] = f"127.0.0.1:{port}"

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
        if changed and all(path.suffix == ".rules" for path in changed):
            return
        self._stop_app()
        self.app = Child("app", gunicorn_command(self.folder), self.folder, self._environ(), self.log)

    def _stop_app(self) -> None:
        if self.app is not None:
            self.app.stop()

    def _environ(self) -> Mapping[str, str]:
        server_environ = {"HOST": "127.0.0.1", "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        return {**read_env(self.folder / ".env").values, **os.environ, **server_environ, **self.mode_environ}

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
