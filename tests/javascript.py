"""JavaScript packages for tests, installed once into build/ from a lock, and told when they cannot be had."""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

__all__ = ["NoJavaScript", "install"]

_FILES = ("package.json", "package-lock.json")
_OLDEST_NODE = 20
_INSTALL_SECONDS = 300
_NPM_CI = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


class NoJavaScript(Exception):
    """The packages cannot be had here; the message says why, and what would mend it."""


def install(source: Path, script: str, cache: Path, announce: Callable[[], object] = lambda: None) -> Path:
    """The folder with the packages that ``source`` locks, and ``script`` beside them; another one for another lock.

    Args:
        cache: where installations are kept.
        announce: called before an installation begins.

    Raises:
        NoJavaScript: no Node of version 20 or newer, or npm could not install what the lock names.
    """
    _check_node()
    lock = hashlib.sha256(b"".join((source / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    folder, done = cache / lock, cache / lock / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not done.exists():
            for name in _FILES:
                shutil.copy(source / name, folder)
            announce()
            _npm_ci(folder)
            done.touch()
        aside = folder / f"{secrets.token_hex(4)}.mjs"
        shutil.copy(source / script, aside)  # modules are looked for beside the script that imports them
        aside.replace(folder / script)
    return folder


def _check_node() -> None:
    mend = f"install Node {_OLDEST_NODE} or newer, with npm"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NoJavaScript(f"no Node: {mend}")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().lstrip("v").partition(".")[0]
    if not major.isdigit() or int(major) < _OLDEST_NODE:
        raise NoJavaScript(f"Node {said.strip() or 'without a version'}: {mend}")


def _npm_ci(folder: Path) -> None:
    try:
        done = subprocess.run(
            _NPM_CI, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NoJavaScript(f"npm ci took over {_INSTALL_SECONDS} s: run it again with a network") from None
    if done.returncode:
        said = done.stderr.strip()[-600:]
        raise NoJavaScript(f"npm ci failed: run it again with a network that reaches an npm registry; it said:\n{said}")
