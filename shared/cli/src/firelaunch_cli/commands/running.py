"""Run an app under gunicorn as a child process, for commands that call it and then stop it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from .client import Client
from .serve import gunicorn_command

__all__ = ["end_with_parent", "served"]

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


@contextlib.contextmanager
def served(
    folder: Path, app_id: str, port: int, data: Path | None = None
) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """Run the app of ``folder`` in embedded mode until the block ends, however it ends.

    Args:
        data: the folder for the app's data; by default in the app's own folder.

    Raises:
        ClickException: the app did not start; the message has the end of its log.
    """
    log = (data or folder / ".firelaunch") / "demo.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    environ = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1", "FIRELAUNCH_MODE": "embedded"}
    if data is not None:
        environ["FIRELAUNCH_DATA"] = str(data)
    # On these signals the command exits by an exception, so that the finally block below stops the server.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            gunicorn_command(folder),
            cwd=folder,
            env=environ,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
    try:
        client = Client(f"http://localhost:{port}")
        if not _ready(client, app_id, process):
            log_text = log.read_text(encoding="utf-8", errors="replace").strip()
            raise click.ClickException(f"The app did not start.\n\n{log_text[-3000:]}")
        yield client, process
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}\nWhat the app said is in {log}.") from None
    finally:
        _stop(process)


def end_with_parent() -> None:
    """Let the kernel end the server if this command is killed before it can do so itself (PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _ready(client: Client, app_id: str, process: subprocess.Popen[bytes]) -> bool:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            # The id distinguishes this app from another that took the port in the meantime.
            return client.get("/ready").get("app") == app_id
        except OSError:
            time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
