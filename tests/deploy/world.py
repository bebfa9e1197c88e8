"""A project in the server that plays Google's APIs, a clone of the repo with apps, and the real gcloud between them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import commands
from fakes.google import GoogleCloud
from support import clean_environ, copy_repo, copy_template

__all__ = ["Done", "World", "folded", "gcloud_is_there"]

_OVERRIDE = re.compile(r"collectionGroups/(?!-/)[^/]+/(?:fields/[^/]+|indexes)$")
_POLL = re.compile(r"GET firestore\.googleapis\.com/\S+/operations/\S+")
_GENERATED = re.compile(r"(?<=/operations/)b\d+$|(?<=/rulesets/)\d+$")


def gcloud_is_there() -> bool:
    """Whether the Google Cloud CLI is installed here."""
    return shutil.which("gcloud") is not None


@dataclass(frozen=True)
class Done:
    """What one command did: its exit code, what it said, and the requests that reached the server."""

    code: int
    said: str
    requests: list[str]


class World:
    """A clone of the repo below ``folder``, and a project that is empty at first."""

    def __init__(self, folder: Path, cloud: GoogleCloud) -> None:
        self.cloud = cloud
        self.root = copy_repo(folder / "repo")
        self._environ = clean_environ(
            **cloud.environ(folder / "home"),
            GOOGLE_CLOUD_PROJECT=cloud.project,
            OPENAI_API_KEY="a-key-for-tests",
            STRIPE_API_KEY="a-key-for-tests-of-stripe",
            STRIPE_WEBHOOK_SECRET="a-key-for-tests-of-webhooks",
        )

    def app(self, app_id: str, **settings: str) -> Path:
        """An app of the template; ``database="dedicated"`` replaces that key's line, wherever it is."""
        folder = copy_template(self.root / "apps" / app_id)
        path = folder / "firelaunch.toml"
        text = path.read_text()
        for key, value in {"id": app_id, **settings}.items():
            text, count = re.subn(rf'^{key} = "[^"]*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
            assert count, key
        path.write_text(text)
        return folder

    def change(self, app_id: str, text: str) -> None:
        """Change something that goes into an app's image."""
        (self.root / "apps" / app_id / "app" / "note.txt").write_text(text)

    def deploy(self, *arguments: str, **environ: str) -> Done:
        """``firelaunch deploy``, agreeing to rules and sign-in; with more variables."""
        return self.firelaunch("deploy", "--yes", *arguments, **environ)

    def shell(self, command: str) -> Done:
        """A line for a shell; what it asks of Firestore by curl reaches the server too, as a proxy sees no https."""
        before = len(self.cloud.requests)
        text = command.replace("https://firestore.googleapis.com/", f"{self.cloud.url}/firestore.googleapis.com/")
        done = subprocess.run(
            ["bash", "-c", text], cwd=self.root, env=self._environ, capture_output=True, text=True, check=False
        )
        return Done(done.returncode, done.stdout + done.stderr, self.cloud.requests[before:])

    def firelaunch(self, *arguments: str, **environ: str) -> Done:
        """A command of ``firelaunch``, from the root of the clone; with more variables."""
        before = len(self.cloud.requests)
        done = commands.run(self.root, arguments, {**self._environ, **environ}, timeout=900)
        return Done(done.returncode, done.stdout + done.stderr, self.cloud.requests[before:])

    def broken_off(self, at: int, *arguments: str) -> bool:
        """A deploy that is killed, gcloud and all, once it has made ``at`` requests; whether it made so many."""
        before = len(self.cloud.requests)
        command = [sys.executable, "-m", "firelaunch_cli", "deploy", "--yes", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and len(self.cloud.requests) - before < at:
            time.sleep(0.005)
        killed = process.poll() is None
        if killed:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return killed


def folded(requests: list[str]) -> list[str]:
    """Requests as they compare: waits for Firestore's operations are left out, and generated names are cut.

    The fields of ``firestore.indexes.json`` are cut too, and have a test of their own. Of lines in a row that are then
    the same, one stays.
    """
    lines = [
        _OVERRIDE.sub("collectionGroups/...", _GENERATED.sub("...", line))
        for line in requests
        if not _POLL.fullmatch(line)
    ]
    return [line for number, line in enumerate(lines) if number == 0 or line != lines[number - 1]]
