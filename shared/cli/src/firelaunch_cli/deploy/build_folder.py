"""A self-contained build folder for ``gcloud run deploy --source``: the same commit gives the same bytes.

An image holds what is named here and nothing else, so that a file lying about in an app's folder cannot get into it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from firelaunch.text_file import read_text_file

from . import secrets

__all__ = [
    "FUNCTIONS",
    "SERVICE_FILES",
    "StageError",
    "Staged",
    "pins",
    "requirements_lock",
    "stage_app",
    "stage_functions",
]

FUNCTIONS = "firelaunch-functions"
"""The functions' staged folder; no app is deployed whose id begins like this."""

_EPOCH = 1_704_067_200
"""2024-01-01, seconds: the time of every staged file and of every file in the wheel (a zip knows none before 1980)."""

SERVICE_FILES = ("firelaunch.toml", "app")
"""The files that an app runs from. Tests, evals, the web client and everything else stay behind."""

_LEFT_OUT = ("__pycache__", "*.pyc", ".DS_Store")
_SETTINGS = ("firelaunch.toml", "app/prompts")
"""The files of an app that its functions need."""

_SERVICE_FOLDER = "service"
_APPS = "apps"
_DOCKERIGNORE = "# Made by firelaunch stage: everything here is meant for the image, but for these two.\nDockerfile\n"


class StageError(Exception):
    """Something may not be staged; the message names the file and the mend."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged folder. ``digest`` is the SHA-256 of its files' names and bytes, in hexadecimal.

    Args:
        code: of functions alone: as ``digest``, without the settings of an app.
    """

    folder: Path
    digest: str
    code: str = ""


def stage_app(root: Path, app: Path, out: Path) -> Staged:
    """Make ``out`` anew: the wheel, the hashed requirements, the app and its Dockerfile.

    Args:
        root: of the firelaunch repo.
        app: the app's folder.

    Raises:
        StageError: a file is missing, leads out of the app, or holds a secret. ``out`` is as it was.
    """
    if not (app / "Dockerfile").is_file():
        raise StageError(f"{app}/Dockerfile is not there: copy it from the template, {root}/template/*/Dockerfile.")
    out = out.absolute()  # the wheel is built from another folder
    with _made(out) as new:
        _wheel(root, new)
        shutil.copyfile(requirements_lock(root, app), new / "requirements.txt")
        for name in SERVICE_FILES:
            _copy(app, name, new / _SERVICE_FOLDER / name)
        shutil.copyfile(app / "Dockerfile", new / "Dockerfile")
        (new / ".dockerignore").write_text(_DOCKERIGNORE + ".dockerignore\n", encoding="utf-8")
        return _finish(new, out)


def stage_functions(root: Path, out: Path, app: Path | None = None) -> Staged:
    """Make ``out`` anew: main.py and its like, the wheel, the hashed requirements and a Dockerfile.

    Args:
        app: folder of the app that they serve, whose settings and prompts go with them, and no code; None for the
            membership function, which serves all.

    Raises:
        StageError: a file is missing, leads out of the app, or holds a secret. ``out`` is as it was.
    """
    source = root / "functions"
    out = out.absolute()  # the wheel is built from another folder
    with _made(out) as new:
        wheel = _wheel(root, new)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lock = _text(source / "requirements.lock")
        # Where one requirement has a hash pip wants one for each, so that the wheel has its own.
        (new / "requirements.txt").write_text(f"{lock}./{wheel.name} --hash=sha256:{digest}\n", encoding="utf-8")
        for path in (*sorted(source.glob("*.py")), source / "Dockerfile"):
            shutil.copyfile(path, new / path.name)
        (new / ".dockerignore").write_text(_DOCKERIGNORE + ".dockerignore\n", encoding="utf-8")
        # The folder is in every image, so that the Dockerfile can copy it.
        (new / _APPS).mkdir()
        (new / _APPS / "README").write_text("Settings and prompts of the app that these functions serve.\n")
        code = _digest(new)
        if app is not None:
            for name in _SETTINGS:
                _copy(app, name, new / _APPS / tomllib.loads(_text(app / "firelaunch.toml"))["app"]["id"] / name)
        return replace(_finish(new, out), code=code)


class _made:  # noqa: N801 - reads as what it is used for
    """A temporary folder beside ``out``, gone when the block ends: what is half-made never stands in its place."""

    def __init__(self, out: Path) -> None:
        if out.exists() and any(out.iterdir()) and not any(out.glob("firelaunch-*.whl")):
            raise StageError(f"{out} is not empty, and was not staged: it is left as it is. Name another folder.")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-")

    def __enter__(self) -> Path:
        new = Path(self._folder.name) / "new"
        new.mkdir()
        return new

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _wheel(root: Path, new: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(new)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, cwd=root / "shared" / "firelaunch", env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise StageError(f"firelaunch's wheel could not be built; 'make setup' installs what it takes. {said}")
    (wheel,) = new.glob("firelaunch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _refuse_secrets(f"shared/firelaunch/src/{name}", archive.read(name))
    return wheel


def requirements_lock(root: Path, app: Path) -> Path:
    """Find the lock that holds what the app needs: the repo's, or the app's own where it needs more than firelaunch.

    Raises:
        StageError: the app's own is missing or does not fit.
    """
    shared = root / "requirements.lock"
    if not (app / "pyproject.toml").is_file():
        return shared
    needed = {_name(line) for line in tomllib.loads(_text(app / "pyproject.toml"))["project"].get("dependencies", [])}
    needed.discard("firelaunch")
    if needed <= set(pins(_text(shared))):
        return shared
    own = app / "requirements.lock"
    mend = (
        f"resolve them with: .venv/bin/uv pip compile {app}/pyproject.toml --no-emit-package firelaunch "
        f"--constraint requirements.lock"
        f" --universal --python-version 3.11 --generate-hashes --no-emit-index-url -o {own}"
    )
    if not own.is_file():
        raise StageError(f"{app}/pyproject.toml needs {', '.join(sorted(needed))}, and {own} is not there: {mend}")
    own_pins, theirs = pins(_text(own)), pins(_text(shared))
    stale = sorted(
        name
        for name in needed | set(theirs)
        if name not in own_pins or theirs.get(name, own_pins[name]) != own_pins[name]
    )
    if stale:
        raise StageError(f"{own} does not fit the app and requirements.lock ({', '.join(stale)}): {mend}")
    return own


def pins(lock: str) -> dict[str, str]:
    """Read the version of each package from a lock's text."""
    return {
        _name(name): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    }


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", (re.match(r"[A-Za-z0-9._-]+", requirement.strip()) or [""])[0]).lower()


def _copy(app: Path, name: str, target: Path) -> None:
    source = app / name
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_inside(source, app), target)
    elif source.is_dir():
        for path in source.rglob("*"):
            _inside(path, app)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))


def _inside(path: Path, app: Path) -> Path:
    if path.is_symlink():
        raise StageError(f"{path} is a link: what it leads to would get into the image. Put the file itself in {app}.")
    return path


def _finish(new: Path, out: Path) -> Staged:
    for path in _files(new):
        if path.suffix != ".whl":
            _refuse_secrets(path.relative_to(new).as_posix().removeprefix(f"{_SERVICE_FOLDER}/"), path.read_bytes())
    digest = _digest(new)
    for path in (*new.rglob("*"), new):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_EPOCH, _EPOCH))
    shutil.rmtree(out, ignore_errors=True)
    new.replace(out)
    return Staged(out, digest)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        for part in (path.relative_to(folder).as_posix().encode(), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _refuse_secrets(name: str, data: bytes) -> None:
    mend = "take it out; keys go into Secret Manager, from where the service gets them as environment variables"
    if secrets.in_name(name):
        raise StageError(f"{name} is a file for secrets, and would be in the image: {mend}.")
    for line, kind in secrets.in_bytes(data):
        raise StageError(f"{name}, line {line}, looks like {kind}, and would be in the image: {mend}.")


def _text(path: Path) -> str:
    try:
        return read_text_file(path)
    except FileNotFoundError:
        raise StageError(f"{path} is not there; in the firelaunch repo, 'git checkout' brings it back.") from None
