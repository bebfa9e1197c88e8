"""Apps under gunicorn, and functions under functions-framework: each a fork of a process with their modules imported.

A start takes a second or two of processor time, most of it for imports. All else is as with ``python -m gunicorn`` in a
process of its own: folder, environment, standard streams, session, signals, exit code, and the modules of the app.
Tests of what a start imports, and of what a command's process becomes, start a process instead.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

__all__ = ["ForkedProcess", "start"]

_START_SECONDS = 60.0
_OF_APPS = (
    "firelaunch.server.app",
    "firelaunch.server.gunicorn_logger",
    "firelaunch.server.gunicorn_worker",
    "firelaunch.services.build",
    "firelaunch.settings.app",
)
_IMPORTED = {
    "gunicorn": (*_OF_APPS, "gunicorn.app.wsgiapp"),
    "functions_framework": (
        *_OF_APPS,
        "firelaunch.functions.wiring",
        "firelaunch.identity.firebase",
        "firelaunch.membership.firebase",
        "firelaunch.store.firestore",
        "functions_framework._cli",
        "functions_framework._http.gunicorn",
        "google.cloud.firestore",
    ),
}
"""The modules that every app, and every function, imports."""


class ForkedProcess:
    """A process that was started by :func:`start`, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        self._connection = connection
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code, which is negative after a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended after ``timeout`` seconds.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["gunicorn"], timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    words: list[str], folder: Path, environ: Mapping[str, str], out: IO[bytes], program: str = "gunicorn"
) -> ForkedProcess:
    """Run ``gunicorn WORDS`` (or functions_framework's) in a folder, as a session of its own that writes to ``out``."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_address(program))
    request = json.dumps({"words": words, "folder": str(folder), "environ": dict(environ)}).encode()
    files = array.array("i", [out.fileno()])
    connection.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    connection.sendall(request)
    return ForkedProcess(connection)


@cache
def _address(program: str) -> str:
    """The address of this process' server, which ends with it."""
    from support import clean_environ

    folder = tempfile.mkdtemp(prefix="app-forks-")
    address = f"{folder}/socket"
    process = subprocess.Popen(
        [sys.executable, __file__, address, program],
        stdin=subprocess.PIPE,
        env=clean_environ(),
        cwd=folder,
        start_new_session=True,
    )
    give_up = time.monotonic() + _START_SECONDS
    while not os.path.exists(address):  # noqa: PTH110 - a socket
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    atexit.register(process.kill)
    return address


def _serve(address: str) -> list[str]:
    """Fork for each connection, and tell it the fork's id and, later, its exit code; return in each fork."""
    ended, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(64)
    os.rename(f"{address}.new", address)  # noqa: PTH104 - a socket
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([0, listener, ended], [], [])
        if 0 in ready:
            os._exit(0)  # the process whose tests run has ended
        if ended in ready:
            os.read(ended, 4096)
            _reap(children)
        if listener in ready:
            connection, _ = listener.accept()
            words = _fork(connection, children)
            if words is not None:
                for opened in (listener, *children.values()):
                    opened.close()
                os.close(ended)
                os.close(told)
                return words


def _reap(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with children.pop(pid) as connection, suppress(BrokenPipeError):  # nobody waits for it
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _fork(connection: socket.socket, children: dict[int, socket.socket]) -> list[str] | None:
    """Make the process that a connection asks for, and return, in that process, what gunicorn is to be told."""
    head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(4))
    files = array.array("i")
    files.frombytes(ancillary[0][2])
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size:
        body += connection.recv(size - len(body))
    pid = os.fork()
    if pid:
        os.close(files[0])
        children[pid] = connection
        connection.sendall(f"{pid}\n".encode())
        return None
    request = json.loads(body)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(files[0], number)
    os.close(files[0])
    connection.close()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    sys.path[0] = request["folder"]
    words: list[str] = request["words"]
    return words


def _main() -> None:
    _, address, program = sys.argv
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # as firelaunch.server.gunicorn_config has it
    for name in _IMPORTED[program]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    words = _serve(address)
    if program == "gunicorn":
        from gunicorn.app.wsgiapp import run
        from gunicorn.config import Chdir

        Chdir.default = str(Path.cwd())  # it is the folder in which gunicorn was imported
    else:
        from functions_framework._cli import _cli as run
    sys.argv = [program, *words]
    run()


if __name__ == "__main__":
    _main()
