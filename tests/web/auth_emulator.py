"""The Auth emulator of the Firebase CLI, where that is installed (npm install -g firebase-tools)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from support import free_port

__all__ = ["FIREBASE", "auth_emulator"]

FIREBASE = shutil.which("firebase")
_START_SECONDS = 180


@contextmanager
def auth_emulator(project: str, folder: Path) -> Iterator[str]:
    """Run it, and give its host and port.

    Args:
        folder: a folder to make, for its settings and its log.
    """
    assert FIREBASE is not None
    ports = {name: free_port() for name in ("auth", "hub", "logging")}
    emulators = {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}
    settings = {"emulators": {**emulators, "ui": {"enabled": False}, "singleProjectMode": True}}
    folder.mkdir()
    (folder / "firebase.json").write_text(json.dumps(settings))
    command = [FIREBASE, "emulators:start", "--only=auth", f"--project={project}"]
    environ = {**os.environ, "CI": "1", "NO_UPDATE_NOTIFIER": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        host = f"127.0.0.1:{ports['auth']}"
        _wait(host, process, folder / "log")
        yield host
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            if httpx.get(f"http://{host}/", trust_env=False).is_success:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < give_up, log.read_text()[-2000:]
            time.sleep(0.2)
