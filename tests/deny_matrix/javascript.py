"""Attempts by calls of the real JavaScript SDK, with ``@firebase/rules-unit-testing``, in one Node process."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator
from javascript import NoJavaScript
from javascript import install as packages

from .attempts import Attempt, Operation, places
from .rest import Rest
from .run import ACTING, DENY_ALL, Report, seed
from .tokens import TOKENS

__all__ = ["NoJavaScript", "install", "run_javascript"]

_SOURCE = Path(__file__).parent / "js"
_CACHE = Path(__file__).parent.parent.parent / "build" / "deny_matrix_js"
_SCRIPT = "attempts.mjs"
_RUN_SECONDS = 120


def install(announce: Callable[[], object] = lambda: None, cache: Path = _CACHE) -> Path:
    """The folder with the SDK in it; see :func:`javascript.install`."""
    return packages(_SOURCE, _SCRIPT, cache, announce)


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
        seed(rest, places())
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
