"""Attempts by calls of the real JavaScript SDK, with ``@firebase/rules-unit-testing``, in one Node process."""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator

from .attempts import Attempt, Operation, places
from .rest import Rest
from .run import ACTING, DENY_ALL, DOCUMENT, Report
from .tokens import TOKENS

__all__ = ["NoJavaScript", "install", "run_javascript"]

_SOURCE = Path(__file__).parent / "js"
_CACHE = Path(__file__).parent.parent.parent / "build" / "deny_matrix_js"
_FILES = ("package.json", "package-lock.json")
_SCRIPT = "attempts.mjs"
_OLDEST_NODE = 20
_INSTALL_SECONDS = 300
_RUN_SECONDS = 120
_NPM_CI = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


class NoJavaScript(Exception):
    """The SDK cannot be had here; the message says why, and what would mend it."""


def install(announce: Callable[[], object] = lambda: None, cache: Path = _CACHE) -> Path:
    """The folder with the SDK in it; installed anew only when the lock has changed.

    Args:
        announce: called before an installation begins.
        cache: where installations are kept.

    Raises:
        NoJavaScript: no Node of version 20 or newer, or npm could not install what the lock names.
    """
    _check_node()
    lock = hashlib.sha256(b"".join((_SOURCE / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    folder, done = cache / lock, cache / lock / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not done.exists():
            for name in _FILES:
                shutil.copy(_SOURCE / name, folder)
            announce()
            _npm_ci(folder)
            done.touch()
        aside = folder / f"{secrets.token_hex(4)}.mjs"
        shutil.copy(_SOURCE / _SCRIPT, aside)  # modules are looked for beside the script that imports them
        aside.replace(folder / _SCRIPT)
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


def run_javascript(emulator: Emulator, rules: str, attempts: Sequence[Attempt], folder: Path) -> Report:
    """Make ``attempts`` in a project of their own, after the canary in another.

    Args:
        folder: as :func:`install` gave it.

    Raises:
        RuntimeError: under rules that deny everything the SDK was let through, or Node came to no end.
    """
    began = time.monotonic()
    closed, project = (f"demo-{secrets.token_hex(8)}" for _ in range(2))
    for name, source in ((closed, DENY_ALL), (project, rules)):
        rest = Rest(emulator.host, name)
        rest.put({place.path: DOCUMENT for place in places()})
        rest.close()
        emulator.load_rules(name, source)
    canaries = [Attempt(ACTING, operation, allowed=False) for operation in _own()]
    host, _, port = emulator.host.rpartition(":")
    asked = {"host": host, "port": int(port), "runs": [_run(closed, canaries), _run(project, attempts)]}
    let_through, answers = _node(folder, asked)
    if let_through != [False] * len(canaries):
        raise RuntimeError(f"the rules do not bind the JavaScript SDK: {let_through}")
    report = Report()
    for attempt, got in zip(attempts, answers, strict=True):
        if isinstance(got, bool):
            report.add(attempt, got)
        else:
            report.unclear.append(f"{attempt}: {got}")
    report.seconds = time.monotonic() - began
    return report


def _own() -> list[Operation]:
    chat = "apps/alpha/users/ada/chats/c1"
    found = [Operation(name, "javascript", "get", chat) for name in ("get", "listen to a document")]
    found += [Operation("list", "javascript", "list", "apps/alpha/users/ada/chats")]
    return [*found, Operation("rename", "javascript", "rename", chat, (("title", "x"),))]


def _run(project: str, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    said = [
        {"token": a.token, "name": a.operation.name, "target": a.operation.target, "data": dict(a.operation.data)}
        for a in attempts
    ]
    return {"project": project, "tokens": {a.token: TOKENS[a.token] for a in attempts}, "attempts": said}


def _node(folder: Path, asked: Mapping[str, Any]) -> Any:
    done = subprocess.run(
        ["node", _SCRIPT],
        cwd=folder,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"node {_SCRIPT} failed: {done.stderr.strip()[-1000:]}")
    return json.loads(done.stdout)
