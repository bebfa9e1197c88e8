"""The generators: JavaScript and Python packages, installed once into ``build/`` from locks."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from javascript import NoJavaScript, install
from support import ROOT

__all__ = ["NoGenerators", "javascript", "python"]

_HERE = Path(__file__).parent
_UV = Path(sys.executable).with_name("uv")


class NoGenerators(Exception):
    """The generators cannot be had here; the message says why."""


def javascript(name: str, announce: Callable[[], object] = lambda: None) -> Path:
    """The folder whose ``node_modules`` has what ``name/package-lock.json`` locks.

    Raises:
        NoGenerators: no Node, or no network to an npm registry.
    """
    try:
        return install(_HERE / name, "package.json", ROOT / "build" / "clients_js", announce)
    except NoJavaScript as error:
        raise NoGenerators(str(error)) from None


def python(name: str) -> Path:
    """The ``bin`` folder of a virtual environment with what ``python/name.lock`` locks.

    Raises:
        NoGenerators: the packages could not be installed.
    """
    lock = _HERE / "python" / f"{name}.lock"
    cache = ROOT / "build" / "clients_py"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / key
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _run("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
            interpreter = str(folder / "bin" / "python")
            _run("pip", "install", "--quiet", "--require-hashes", "--python", interpreter, "-r", str(lock))
            (folder / "installed").touch()
    return folder / "bin"


def _run(*words: str) -> None:
    done = subprocess.run([_UV, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoGenerators(f"uv {words[0]} failed: run it again with a network; it said:\n{done.stderr.strip()[-600:]}")
