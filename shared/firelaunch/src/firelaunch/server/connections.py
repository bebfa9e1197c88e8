"""Gather requests from slow clients, so that threads of :mod:`firelaunch.server.gunicorn_worker` rarely wait for them.

gunicorn gives a connection a thread with its first byte, and the thread then waits for the rest. Here the worker's one
loop gathers a request. A thread gets the request when its head is complete and, up to ``GATHERED_BYTES``, its body.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections import deque
from contextlib import suppress
from enum import Enum
from hashlib import blake2b
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn

from .fair_queue import NOBODY, Ticket

__all__ = ["GATHERED_BYTES", "Connection", "PacedSocket", "RequestProgress"]

GATHERED_BYTES = 65_536
"""Most bytes of a request that the loop gathers. A thread reads the rest of a longer request, and only some threads may
do so at a time. 1,000 slow connections hold 64 MB at most."""

KEPT_BYTES = 1_048_576
"""Most bytes of an answer that the loop sends on while its client is slow to read. Of a longer one a thread sends the
first part, as the client reads it."""

_UNSENT_BYTES = 65_536
"""About how many bytes of an answer the kernel takes that it cannot send yet. Linux takes 4 MB for each connection by
default: 1,000 clients that read nothing held 1.5 GB with answers of 400 kB."""

_BYTES_A_SECOND = 8_000
"""The slowest connection that the server waits for: a slow mobile connection (64 kbit/s)."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_AUTHORIZATION = re.compile(rb"^authorization:[ \t]*(.*?)\r?$", re.IGNORECASE | re.MULTILINE)
_PROBE = re.compile(rb"GET /(?:live|ready|healthz|readyz)[? ]")
_UNKNOWN_END = re.compile(rb"^(?:transfer-encoding|expect):", re.IGNORECASE | re.MULTILINE)
"""Headers of a body whose end only a parser finds, or that the client sends only after a 100 (Continue)."""


class RequestProgress(Enum):
    """What to do with a connection after more of its request has arrived."""

    WAIT = 1
    READY = 2
    TOO_LARGE = 3


def _limit_unsent(sock: Any) -> None:
    """Have the kernel take little more than it can send. What is under way to the client does not count."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with suppress(OSError):  # it is no TCP connection, or the system has no such limit
            sock.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)


class PacedSocket:
    """A client's socket for the threads that answer, on which every wait for the client has a limit.

    All attributes besides the methods below are the socket's own.

    Attributes:
        keeps: whether the loop sends what the client does not take at once, so that no thread waits for the client.
        kept_bytes: the bytes that the loop has to send.

    Args:
        sock: the socket.
        grace: seconds that a client may lag behind the slowest accepted connection, and that it may be silent.
        body_seconds: seconds for all of a request's body.
    """

    def __init__(self, sock: Any, grace: float, body_seconds: float) -> None:
        self.sock = sock
        self._grace, self._body_seconds = grace, body_seconds
        self._ended = self._reads = False
        self._waited, self._received, self._read_until = 0.0, 0, 0.0
        self.keeps = False
        self._kept: deque[memoryview] = deque()
        self.kept_bytes = self._kept_sent = 0
        self._kept_since = 0.0
        _limit_unsent(sock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def setblocking(self, flag: bool) -> None:
        """Block for at most ``grace`` seconds, or not at all."""
        self.sock.settimeout(self._grace if flag else 0.0)

    def head(self) -> None:
        """Prepare for the parsing of a request's head, which is gathered already."""
        self._ended = self._reads = False

    def body(self, *, reads: bool) -> None:
        """Prepare for the app to read the body.

        Args:
            reads: whether the thread may wait for more of the body.
        """
        self._ended, self._reads = not reads, reads
        self._waited, self._received, self._read_until = 0.0, 0, time.monotonic() + self._body_seconds

    def recv(self, size: int) -> bytes:
        """Read some of the body. While the head is parsed, return nothing, since no thread waits for a head.

        Raises:
            TimeoutError: the body is too slow, takes too long in all, or the thread may not wait for it.
        """
        if not (self._reads or self._ended):
            return b""
        began = time.monotonic()
        if self._ended or began >= self._read_until:
            raise TimeoutError("the request's body is not waited for any longer")
        self.sock.settimeout(min(self._grace, self._read_until - began))
        data: bytes = self.sock.recv(size)
        self._waited += time.monotonic() - began
        self._received += len(data)
        if self._received < (self._waited - self._grace) * _BYTES_A_SECOND:
            raise TimeoutError(f"{self._received} bytes of a body came in {self._waited:.0f} s")
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``, or, where ``keeps`` is set, keep what the client does not take at once.

        Raises:
            ConnectionResetError: the client reads more slowly than the slowest accepted connection.
        """
        if self.keeps:
            data = self._keep(data)
        if data:
            self._send_paced(data)

    def _keep(self, data: bytes) -> bytes:
        """Send what the client takes at once and keep the rest. Return what is too much to be kept."""
        sent = 0
        if not self._kept:
            with suppress(BlockingIOError):
                # Not the socket's own method, which waits until the client reads.
                sent = os.write(self.sock.fileno(), data)
            self._kept_since, self._kept_sent = time.monotonic(), 0
        left = len(data) - sent
        if self.kept_bytes + left <= KEPT_BYTES:
            if left:
                self._kept.append(memoryview(data)[sent:])
                self.kept_bytes += left
            return b""
        while self._kept:
            piece = self._kept.popleft()
            self.kept_bytes -= len(piece)
            self._send_paced(piece)
        return bytes(memoryview(data)[sent:])

    def send_kept(self) -> bool:
        """Send what the client takes now of the bytes that are kept, and return whether all of them are sent.

        Raises:
            OSError: the client has left.
        """
        while self._kept:
            piece = self._kept[0]
            try:
                sent = os.write(self.sock.fileno(), piece)
            except BlockingIOError:
                return False
            self.kept_bytes -= sent
            self._kept_sent += sent
            if sent < len(piece):
                self._kept[0] = piece[sent:]
            else:
                self._kept.popleft()
        return True

    @property
    def kept_until(self) -> float:
        """The time until which the loop waits for the client to read on."""
        return self._kept_since + self._grace + self._kept_sent / _BYTES_A_SECOND

    def _send_paced(self, data: bytes | memoryview) -> None:
        left, waited, sent = memoryview(data), 0.0, 0
        while left:
            began = time.monotonic()
            try:
                accepted = self.sock.send(left)
            except TimeoutError:
                raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing") from None
            waited, sent, left = waited + time.monotonic() - began, sent + accepted, left[accepted:]
            # Only time spent in send counts: a client is not slow while the app computes.
            if left and sent < (waited - self._grace) * _BYTES_A_SECOND:
                raise ConnectionResetError(errno.ECONNRESET, "the client takes too little")


class Connection(TConn):  # type: ignore[misc]
    """A connection and the bytes gathered of its next request.

    Attributes:
        sock: a :class:`PacedSocket`.
        deadline: time of ``time.monotonic`` at which the loop stops waiting.
        watched: whether the connection is registered with the loop's poller.
        needs_reader: whether a thread has to wait for some of the body.
        place: its ticket among the connections for whose bodies threads wait; None if it has none.
        is_probe: whether the request asks for the process's health.
        caller: whose turn the request waits for, and then, once the app knows, whose it is.
        token_digest: stands for what the request shows as Authorization; empty if that is nothing.
        stream: the streamed response that is still to be sent, set while a thread answers; None for other responses.
    """

    def __init__(self, cfg: Any, sock: Any, client: Any, server: Any, grace: float, body_seconds: float) -> None:
        super().__init__(cfg, PacedSocket(sock, grace, body_seconds), client, server)
        self._grace, self._body_seconds = grace, body_seconds
        self.deadline = 0.0
        self.watched = self.needs_reader = False
        self.place: Ticket | None = None
        self.caller = NOBODY
        self.stream: Any = None
        self.is_probe, self.token_digest, self.reusable = False, b"", False
        self._gathered = bytearray()
        self._end: int | None = None
        self._began = 0.0

    @property
    def has_head(self) -> bool:
        """Whether the request's head is complete."""
        return self._end is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request has arrived."""
        return not self._gathered

    def renew(self, seconds: float) -> None:
        """Start to wait for the next request, at most ``seconds`` for its first byte."""
        self._gathered, self._end = bytearray(), None
        self.needs_reader = False
        self.deadline = time.monotonic() + seconds
        self.sock.keeps = False
        self.sock.setblocking(False)

    def receive(self) -> bytes | None:
        """Return the request's next bytes: None if none have arrived, empty if none will."""
        try:
            data: bytes = self.sock.sock.recv(max(1, GATHERED_BYTES - len(self._gathered)))
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return data

    def take(self, data: bytes) -> RequestProgress:
        """Add ``data`` to the request and return what to do with the connection."""
        if not self._gathered:
            self._began = time.monotonic()
            self.deadline = self._began + self._grace
        # The end of the head may lie across two pieces.
        search_from = max(0, len(self._gathered) - len(_HEAD_END) + 1)
        self._gathered += data
        if self._end is None:
            at = self._gathered.find(_HEAD_END, search_from)
            if at < 0:
                return RequestProgress.TOO_LARGE if len(self._gathered) >= GATHERED_BYTES else RequestProgress.WAIT
            self._read_head(at + len(_HEAD_END))
        assert self._end is not None  # noqa: S101 - set just above
        if self.needs_reader or len(self._gathered) >= self._end:
            return RequestProgress.READY
        # Each byte that arrives extends the wait, by the time that the slowest accepted connection takes for it.
        seconds = self._grace + len(self._gathered) / _BYTES_A_SECOND
        self.deadline = self._began + min(seconds, self._body_seconds)
        return RequestProgress.WAIT

    def _read_head(self, end: int) -> None:
        head = bytes(self._gathered[:end])
        length = _LENGTH.search(head)
        self._end = end + (int(length[1]) if length else 0)
        self.needs_reader = self._end > GATHERED_BYTES or _UNKNOWN_END.search(head) is not None
        self.is_probe = _PROBE.match(head) is not None
        shown = _AUTHORIZATION.search(head)
        self.token_digest = blake2b(shown[1], digest_size=16).digest() if shown else b""
        self._began = time.monotonic()

    def begin(self) -> None:
        """Hand the gathered bytes to the parser. Call it in the thread that answers."""
        self.data_ready = True
        self.init()
        self.sock.head()
        self.parser.unreader.unread(bytes(self._gathered))
        self._gathered = bytearray()

    def left_over(self) -> bytes:
        """Take and return the bytes read beyond the end of the request."""
        data: bytes = self.parser.unreader.take_buffered()
        return data

    @property
    def is_unread(self) -> bool:
        """Whether some of the request's body is still unread, so that the connection cannot serve another request."""
        reader = self.parser.mesg.body.reader
        if isinstance(reader, LengthReader):
            return bool(reader.length > self.parser.unreader.buf.getbuffer().nbytes)
        return getattr(reader, "parser", None) is not None
