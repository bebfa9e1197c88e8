"""Connections of :mod:`firelaunch.server.gunicorn_worker`, and how much of a client's slowness a thread has to bear.

gunicorn gives a connection a thread as soon as its first byte is there, and the thread then waits for the rest. Here
the worker's one loop gathers a request. A thread gets it when its head is there and, up to ``GATHERED_BYTES``, its
body.
"""

from __future__ import annotations

import errno
import re
import time
from enum import Enum
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn

__all__ = ["GATHERED_BYTES", "Connection", "PacedSocket", "RequestProgress"]

GATHERED_BYTES = 65_536
"""Bytes of a request that the loop gathers at most. A thread reads the rest of a longer one; few threads may do so at a
time. 1,000 slow connections hold 64 MB at the very most."""

_BYTES_A_SECOND = 8_000
"""The slowest line that is waited for: what a slow mobile connection has (64 kbit/s)."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_UNTOLD = re.compile(rb"^(?:transfer-encoding|expect):", re.IGNORECASE | re.MULTILINE)
"""A body whose end only a parser finds, or that does not come before the client was told to go on."""


class RequestProgress(Enum):
    """What is to be done with a connection after more of its request came."""

    WAIT = 1
    READY = 2
    TOO_LARGE = 3


class PacedSocket:
    """A client's socket for the threads that answer: no wait for the client is without an end.

    All but the methods below is the socket's own.

    Args:
        sock: the socket.
        grace: seconds that a client may be behind the slowest line that is waited for, and that it may be silent.
        body_seconds: seconds for all of a request's body.
    """

    def __init__(self, sock: Any, grace: float, body_seconds: float) -> None:
        self.sock = sock
        self._grace, self._body_seconds = grace, body_seconds
        self._ended = self._reads = False
        self._waited, self._got, self._read_until = 0.0, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def setblocking(self, flag: bool) -> None:
        """Block for ``grace`` seconds at most, or not at all."""
        self.sock.settimeout(self._grace if flag else 0.0)

    def head(self) -> None:
        """Expect the head of a request to be parsed, all of which has been gathered."""
        self._ended = self._reads = False

    def body(self, *, reads: bool) -> None:
        """Expect the app to read the body.

        Args:
            reads: whether more of it may be waited for.
        """
        self._ended, self._reads = not reads, reads
        self._waited, self._got, self._read_until = 0.0, 0, time.monotonic() + self._body_seconds

    def recv(self, size: int) -> bytes:
        """Read some of the body; nothing while the head is parsed, since no thread waits for that.

        Raises:
            TimeoutError: the body is too slow, takes too long in all, or is not waited for at all.
        """
        if not (self._reads or self._ended):
            return b""
        began = time.monotonic()
        if self._ended or began >= self._read_until:
            raise TimeoutError("the request's body is not waited for any longer")
        self.sock.settimeout(min(self._grace, self._read_until - began))
        data: bytes = self.sock.recv(size)
        self._waited += time.monotonic() - began
        self._got += len(data)
        if self._got < (self._waited - self._grace) * _BYTES_A_SECOND:
            raise TimeoutError(f"{self._got} bytes of a body came in {self._waited:.0f} s")
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            ConnectionResetError: the client takes it more slowly than the slowest line that is waited for.
        """
        left, waited, sent = memoryview(data), 0.0, 0
        while left:
            began = time.monotonic()
            try:
                taken = self.sock.send(left)
            except TimeoutError:
                raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing") from None
            waited, sent, left = waited + time.monotonic() - began, sent + taken, left[taken:]
            if left and sent < (waited - self._grace) * _BYTES_A_SECOND:
                raise ConnectionResetError(errno.ECONNRESET, "the client takes too little")


class Connection(TConn):  # type: ignore[misc]
    """A connection, and what has been gathered of its next request.

    Attributes:
        sock: a :class:`PacedSocket`.
        deadline: time of ``time.monotonic`` at which the loop stops waiting.
        watched: whether the loop's poller has it.
        needs_reader: whether a thread has to wait for some of the body.
        has_place: whether it counts as one of those for which a thread waits.
    """

    def __init__(self, cfg: Any, sock: Any, client: Any, server: Any, grace: float, body_seconds: float) -> None:
        super().__init__(cfg, PacedSocket(sock, grace, body_seconds), client, server)
        self._grace, self._body_seconds = grace, body_seconds
        self.deadline = 0.0
        self.watched = self.needs_reader = self.has_place = False
        self._gathered = bytearray()
        self._end: int | None = None
        self._began = 0.0

    @property
    def has_head(self) -> bool:
        """Whether all of the request's head is there."""
        return self._end is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request is there."""
        return not self._gathered

    def renew(self, seconds: float) -> None:
        """Wait for the next request, ``seconds`` at most for its first byte."""
        self._gathered, self._end = bytearray(), None
        self.needs_reader = False
        self.deadline = time.monotonic() + seconds
        self.sock.setblocking(False)

    def receive(self) -> bytes | None:
        """Read what is there of the request; None where nothing is, and empty where nothing comes any more."""
        try:
            data: bytes = self.sock.sock.recv(max(1, GATHERED_BYTES - len(self._gathered)))
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return data

    def take(self, data: bytes) -> RequestProgress:
        """Add ``data`` to the request."""
        if not self._gathered:
            self._began = time.monotonic()
            self.deadline = self._began + self._grace
        searched = max(0, len(self._gathered) - len(_HEAD_END) + 1)
        self._gathered += data
        if self._end is None:
            at = self._gathered.find(_HEAD_END, searched)
            if at < 0:
                return RequestProgress.TOO_LARGE if len(self._gathered) >= GATHERED_BYTES else RequestProgress.WAIT
            self._read_head(at + len(_HEAD_END))
        assert self._end is not None  # noqa: S101 - set just above
        if self.needs_reader or len(self._gathered) >= self._end:
            return RequestProgress.READY
        seconds = self._grace + len(self._gathered) / _BYTES_A_SECOND
        self.deadline = self._began + min(seconds, self._body_seconds)
        return RequestProgress.WAIT

    def _read_head(self, end: int) -> None:
        head = bytes(self._gathered[:end])
        length = _LENGTH.search(head)
        self._end = end + (int(length[1]) if length else 0)
        self.needs_reader = self._end > GATHERED_BYTES or _UNTOLD.search(head) is not None
        self._began = time.monotonic()

    def begin(self) -> None:
        """Hand what was gathered to the parser, in the thread that answers."""
        self.data_ready = True
        self.init()
        self.sock.head()
        self.parser.unreader.unread(bytes(self._gathered))
        self._gathered = bytearray()

    def left_over(self) -> bytes:
        """Take what was read past the end of the request."""
        data: bytes = self.parser.unreader.take_buffered()
        return data

    @property
    def is_unread(self) -> bool:
        """Whether some of the request's body is still to come, so that the connection cannot serve another request."""
        reader = self.parser.mesg.body.reader
        if isinstance(reader, LengthReader):
            return bool(reader.length > self.parser.unreader.buf.getbuffer().nbytes)
        return getattr(reader, "parser", None) is not None
