"""Build an app's web client by npm, where its sources have changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NODE", "BuildFailed", "WebBuild", "node_problem"]

NODE = (20, 19)
"""The oldest Node that Vite runs on (https://vite.dev/guide/#scaffolding-your-first-vite-project)."""

_MADE = ("node_modules", "dist")
_STAMP = "web.json"
_LAST_LINES = 25

Step = Callable[[str], AbstractContextManager[list[str]]]
"""Shows a step while its block runs."""


class BuildFailed(Exception):
    """npm could not install the packages or build. The message has npm's last lines."""


def node_problem(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return why no web client can be built here, in a few words; None where one can."""
    path = environ.get("PATH")
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node is None or npm is None:
        return f"{'Node' if node is None else 'npm'} is not there"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.match(r"v(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < NODE:
        return f"Node is {said.strip() or 'of an unknown version'}, and {NODE[0]}.{NODE[1]} or newer is needed"
    return None


@dataclass(frozen=True, slots=True)
class WebBuild:
    """The web client of an app: its sources in ``web/``, and what was built of them in ``web/dist``.

    The ``web/`` of an example may hold only what differs from the template's. Then the client is put together and built
    in ``.firelaunch/web``.

    Args:
        app: the app's folder.
        step: shows each step that takes long.
        environ: of npm.
        template: the template's ``web/``, where there is one.
    """

    app: Path
    step: Step
    environ: Mapping[str, str]
    template: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of all sources."""
        return self._own if self._base is None else self._state / "web"

    @property
    def there(self) -> bool:
        """Whether the app has a web client."""
        return self._base is not None or _whole(self._own)

    def current(self) -> Path | None:
        """Return the folder of what is built, or None where the client has changed since, or was never built."""
        if (base := self._base) is not None:
            self._put_together(base)
        dist = self.folder / "dist"
        is_current = self._stamp().get("sources") == _digest(_sources(self.folder), self.folder)
        return dist if is_current and (dist / "index.html").is_file() else None

    def run(self) -> Path:
        """Build what has changed, and return the folder of what is built.

        Packages are installed where package-lock.json has changed, and the client is built where any of its files has.

        Raises:
            BuildFailed: npm failed. What was built before is no longer taken for current.
        """
        if (built := self.current()) is not None:
            return built
        lock = _digest([self.folder / "package-lock.json"], self.folder)
        sources = _digest(_sources(self.folder), self.folder)
        stamp, dist = self._stamp(), self.folder / "dist"
        if stamp.get("lock") != lock or not (self.folder / "node_modules").is_dir():
            self._keep({})
            with self.step("install the web client's packages"):
                self._npm("ci", "--no-audit", "--no-fund", "--prefer-offline")
        self._keep({"lock": lock})
        with self.step("build the web client"):
            self._npm("run", "build")
        if not (dist / "index.html").is_file():
            raise BuildFailed(f"npm run build made no {dist / 'index.html'}.")
        self._keep({"lock": lock, "sources": sources})
        return dist

    def _put_together(self, template: Path) -> None:
        self._state.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if path.name not in _MADE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for source in (template, self._own):
            for path in _sources(source):
                target = self.folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def _npm(self, *words: str) -> None:
        command = ["npm", *words]
        environ = {**self.environ, "CI": "1", "npm_config_update_notifier": "false", "npm_config_fetch_retries": "1"}
        done = subprocess.run(  # noqa: S603 - npm, by fixed words
            command,
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
            raise BuildFailed(f"{' '.join(command[:3])} failed in {self.folder}:\n{said}")

    def _stamp(self) -> dict[str, str]:
        try:
            found = json.loads((self._state / _STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, stamp: Mapping[str, str]) -> None:
        self._state.mkdir(mode=0o700, exist_ok=True)
        (self._state / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")

    @property
    def _own(self) -> Path:
        return self.app / "web"

    @property
    def _base(self) -> Path | None:
        """The template's ``web/``, where the app's own needs it."""
        needed = self._own.is_dir() and not _whole(self._own)
        return self.template if needed and self.template is not None and _whole(self.template) else None

    @property
    def _state(self) -> Path:
        return self.app / ".firelaunch"


def _whole(folder: Path) -> bool:
    return (folder / "package.json").is_file() and (folder / "package-lock.json").is_file()


def _sources(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        top = Path(here) == folder
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (top and name in _MADE))
        yield from (Path(here) / name for name in sorted(names))


def _digest(paths: Iterator[Path] | list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for part in (path.relative_to(root).as_posix().encode(), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
