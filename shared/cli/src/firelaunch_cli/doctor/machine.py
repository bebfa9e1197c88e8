"""Check the machine: tools, the environment, the price table."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from .base import Finding, note, ok, problem
from .system import operating_system

__all__ = ["machine"]

_OLDEST_PYTHON = (3, 11)
_SECONDS = 60.0
_STALE_DAYS = 120
"""Providers change prices every few months, so that a table whose newest price is older has likely missed some."""

_EMULATORS = {
    "FIRESTORE_EMULATOR_HOST": "Firestore",
    "FIREBASE_AUTH_EMULATOR_HOST": "Auth",
    "FIREBASE_STORAGE_EMULATOR_HOST": "Storage",
    "STORAGE_EMULATOR_HOST": "Storage",
    "PUBSUB_EMULATOR_HOST": "Pub/Sub",
    "DATASTORE_EMULATOR_HOST": "Datastore",
}


@dataclass(frozen=True, slots=True)
class _Tool:
    """A program, what needs it, and the least version that will do."""

    name: str
    purpose: str
    least: tuple[int, ...]
    install: str
    version: str = "--version"


_TOOLS = (
    _Tool("git", "firelaunch upgrade", (2, 38), "https://git-scm.com/downloads"),
    _Tool("java", "the Firestore emulator", (17,), "install Java 17 or newer, such as Temurin", "-version"),
    _Tool("node", "the Firebase CLI and its Auth emulator", (20,), "https://nodejs.org"),
    _Tool("gcloud", "firelaunch deploy", (500,), "https://cloud.google.com/sdk/docs/install"),
    _Tool("firebase", "the Auth emulator of firelaunch dev", (14,), "npm install -g firebase-tools"),
)


def machine(environ: Mapping[str, str], today: date) -> Iterator[Finding]:
    """Every check of this machine. Starts the tools, to ask their versions; needs no network."""
    yield operating_system()
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield problem("python", running, "install Python 3.11 or newer, and run make again")
    else:
        yield ok("python", running)
    yield from _left_over(environ)
    for tool in _TOOLS:
        yield _tool(tool, environ)
    yield prices(today)


def _tool(tool: _Tool, environ: Mapping[str, str]) -> Finding:
    path = shutil.which(tool.name, path=environ.get("PATH"))
    if path is None:
        return note(tool.name, f"not there; {tool.purpose} needs it", tool.install)
    try:
        done = subprocess.run(  # noqa: S603 - found on the user's PATH, as they would
            [path, tool.version], env=dict(environ), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return problem(tool.name, f"{path} does not run: {error}", f"install it again: {tool.install}")
    found = re.search(r"\d+(?:\.\d+)*", done.stdout + done.stderr)
    if done.returncode or found is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        return problem(tool.name, f"{path} does not run: {said[-1:] or done.returncode}", f"install it: {tool.install}")
    version = tuple(int(part) for part in found[0].split("."))
    if version < tool.least:
        least = ".".join(map(str, tool.least))
        return problem(tool.name, f"{found[0]}; {tool.purpose} needs {least} or newer", tool.install)
    return ok(tool.name, found[0])


def _left_over(environ: Mapping[str, str]) -> Iterator[Finding]:
    mode = environ.get("FIRELAUNCH_MODE") or "embedded"
    if environ.get("K_SERVICE"):
        said = "set, as on Cloud Run: development is refused"
        yield problem("K_SERVICE", said, "unset K_SERVICE")
    for variable, what in _EMULATORS.items():
        host = environ.get(variable)
        if not host:
            continue
        if mode != "emulators":
            said = f"{host}, left in the environment: Google's libraries go to it and not to the cloud (mode {mode})"
            yield problem(variable, said, f"unset {variable}, or set FIRELAUNCH_MODE=emulators")
        elif not _answers(host):
            said = f"{host}, where no {what} emulator answers"
            yield problem(variable, said, "start it with firelaunch dev APP, or unset it")
        else:
            yield ok(variable, host)


def _answers(host: str) -> bool:
    name, _, port = host.rpartition(":")
    if not port.isdecimal():
        return False
    try:
        socket.create_connection((name.strip("[]") or "localhost", int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def prices(today: date, table: Any = None) -> Finding:
    """How old the table of model prices is, told by its newest price that is in force.

    Args:
        table: providers of genai-prices; the installed ones where left out.
    """
    if table is None:
        from genai_prices.data import providers as table
    dates = [
        start
        for provider in table
        for model in provider.models
        for price in (model.prices if isinstance(model.prices, list) else ())
        if (start := getattr(price.constraint, "start_date", None)) is not None and start <= today
    ]
    newest = max(dates, default=None)
    if newest is None:
        return problem("prices", "the table of prices holds no dates", _PRICES)
    said = f"the newest price is of {newest}"
    return note("prices", said, _PRICES) if (today - newest).days > _STALE_DAYS else ok("prices", said)


_PRICES = "make lock && make brings newer ones; a single price is set under [prices] in firelaunch.toml"
