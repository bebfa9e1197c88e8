"""Start processes that parse one file each, through a server that forks them (:mod:`.fork_server`)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Final

from .base import ParseLimits

__all__ = ["ForkServer", "ParsingProcess"]

_TRIES: Final = 3
_SECONDS: Final = 60.0
"""Seconds within which the server, which may have to start, takes a request."""

_END_SECONDS: Final = 10.0
"""Seconds within which the server says how a process has ended."""


class ParsingProcess:
    """A process that parses one file. Close it; that also kills it.

    Attributes:
        output: the descriptor to read the process's answer from.
    """

    def __init__(self, output: int, end: socket.socket) -> None:
        self.output = output
        self._end = end

    def wait(self) -> int:
        """Return the exit status; if a signal ended the process, its negative number.

        Raises:
            RuntimeError: the server died.
        """
        status = b""
        self._end.settimeout(_END_SECONDS)
        with suppress(OSError):
            status = self._end.recv(16)
        if not status:
            raise RuntimeError("the server that starts parsing processes has died")
        return int(status)

    def close(self) -> None:
        """Kill the process if it still runs, and wait for its end."""
        os.close(self.output)
        with self._end, suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
            self._end.settimeout(_END_SECONDS)
            while self._end.recv(16):
                pass


class ForkServer:
    """The server of this process, which is started when it is first needed. You may use it from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: tuple[int, subprocess.Popen[bytes], socket.socket] | None = None

    def start(self, format_name: str, extension: str, limits: ParseLimits, file: IO[bytes]) -> ParsingProcess:
        """Start a process that parses ``file``.

        Raises:
            RuntimeError: the server cannot be started.
        """
        request = json.dumps([format_name, extension, asdict(limits)]).encode() + b"\n"
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return _request(self._control(), request, file)
                except OSError:  # it has ended, because there was nothing to do for a while
                    self._forget()
        raise RuntimeError("the server that starts parsing processes does not run; is firelaunch wholly installed?")

    def _control(self) -> socket.socket:
        if self._server is not None and self._server[0] == os.getpid():
            return self._server[2]
        ours, theirs = socket.socketpair()
        ours.settimeout(_SECONDS)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own module, and no shell
                [sys.executable, "-I", "-B", "-X", "utf8", "-m", f"{__package__}.fork_server"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                close_fds=True,
            )
        self._server = (os.getpid(), process, ours)
        return ours

    def _forget(self) -> None:
        if self._server is not None:
            _, process, control = self._server
            self._server = None
            control.close()
            process.kill()
            process.wait()


def _request(control: socket.socket, request: bytes, file: IO[bytes]) -> ParsingProcess:
    output, their_output = os.pipe()
    end, their_end = socket.socketpair()
    try:
        try:
            socket.send_fds(control, [request], [file.fileno(), their_output, their_end.fileno()])
        finally:
            os.close(their_output)
            their_end.close()
        if control.recv(1) != b"+":
            raise ConnectionResetError
    except BaseException:
        os.close(output)
        end.close()
        raise
    return ParsingProcess(output, end)
