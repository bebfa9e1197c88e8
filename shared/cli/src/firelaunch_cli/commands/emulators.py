"""Choose the ports of the emulators that ``firelaunch dev`` runs: the same at each start, since clients name them."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path

import click

__all__ = ["emulator_port"]

_USUAL = {"firestore": 8081, "auth": 9099, "functions": 5001, "stripe": 12111}
"""The emulators' default ports, but for Firestore's, which is the app's
(https://firebase.google.com/docs/emulator-suite/install_and_configure#port_configuration), and that of stripe-mock."""

_TRIED = 20
"""Ports tried, from the wanted one up."""


def emulator_port(name: str, folder: Path, *, without: frozenset[int] = frozenset()) -> int:
    """Return the port of an emulator: that of firebase.json, else the usual one; the next free one where it is taken.

    Args:
        name: "firestore", "auth", "functions" or "stripe".
        folder: the app's folder; firebase.json is there or in a folder above.
        without: ports that something else will take.

    Raises:
        ClickException: no port is free.
    """
    wanted = _configured(name, folder) or _USUAL[name]
    for port in range(wanted, wanted + _TRIED):
        if port not in without and _is_free(port):
            return port
    raise click.ClickException(
        f"The ports {wanted} to {port} are taken. End what uses them, or name another one in firebase.json: "
        f'"emulators": {{"{name}": {{"port": ...}}}}.'
    )


def _configured(name: str, folder: Path) -> int | None:
    files = [each / "firebase.json" for each in (folder, *folder.parents)]
    try:
        text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "{}")
        port = json.loads(text)["emulators"][name]["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return port if type(port) is int and 0 < port < 65_536 - _TRIED else None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True
