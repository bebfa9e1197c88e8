"""HTTP/1.1 to one model provider, over sockets whose every wait also notices that nobody wants the answer any more.

The openai package builds an object for each token and cannot be woken while it waits; see
docs/adr/0006-streams-wait-in-one-place.md for what that costs.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httptools

from ...errors import ModelTimeout, ModelUnavailable
from ..deadline import Deadline

__all__ = ["Response", "Transport"]

_CONNECT_SECONDS = 5.0
"""A provider that does not even accept a connection in this time is taken as out of reach."""

_IDLE_SECONDS = 30.0
"""How long a connection is kept for the next call; providers keep theirs for longer."""

_KEPT = 32
_READ = 65_536
_MOST_HEADERS = 65_536


class Transport:
    """Connections to the origin of ``base_url``, kept for the next call when an answer was read to its end."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http(s) address")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._kept: list[tuple[float, socket.socket]] = []
        self._lock = threading.Lock()

    def post(self, path: str, headers: Mapping[str, str], body: bytes, patience: Deadline) -> Response:
        """Send a request, and wait for the head of its response.

        Raises:
            ModelUnavailable: no connection, or one that broke.
            ModelTimeout: ``patience`` is at its end.
            Whatever ``patience.check`` raises.
        """
        lines = [f"POST {self._prefix}{path} HTTP/1.1", f"Host: {self._authority}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {_safe(value)}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, request, patience)
            except _Closed:
                # The provider let go of it while it was idle, and before it had read the request.
                pass
        try:
            return self._exchange(self._connect(patience), request, patience)
        except _Closed as error:
            raise ModelUnavailable(reason="the provider closed the connection without an answer") from error

    def _exchange(self, sock: socket.socket, request: bytes, patience: Deadline) -> Response:
        response = Response(sock, self._keep, patience)
        patience.sent = False
        try:
            response.send(request)
            patience.sent = True
            response.read_head()
        except BaseException:
            sock.close()
            raise
        return response

    def _connect(self, patience: Deadline) -> socket.socket:
        seconds = min(_CONNECT_SECONDS, patience.left())
        try:
            sock = socket.create_connection((self._host, self._port), timeout=seconds)
        except TimeoutError as error:
            raise ModelTimeout(reason=f"no connection to {self._host} in {seconds:.1f} s") from error
        except OSError as error:
            raise ModelUnavailable(reason=f"no connection to {self._host}: {error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = _tls().wrap_socket(sock, server_hostname=self._host)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise ModelUnavailable(reason=f"no TLS with {self._host}: {error}") from error
        return sock

    def _take(self) -> socket.socket | None:
        now = time.monotonic()
        with self._lock:
            while self._kept:
                since, sock = self._kept.pop()
                # One that can be read was closed, or holds bytes that nobody asked for.
                if now - since < _IDLE_SECONDS and not _readable(sock):
                    return sock
                sock.close()
        return None

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if len(self._kept) < _KEPT:
                self._kept.append((time.monotonic(), sock))
                return
        sock.close()

    def close(self) -> None:
        """Let go of the connections that are kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        for _, sock in kept:
            sock.close()


class _Closed(Exception):
    """The other side closed before the first byte of a response."""


@dataclass(slots=True)
class Response:
    """One response. Read it with ``pieces`` or ``text``, then ``close`` it; one that was read to its end is kept.

    ``headers`` has lower-case names; of a repeated one the last. ``on_body`` takes what was read of the body.
    """

    _sock: socket.socket
    _keep: Callable[[socket.socket], None]
    _patience: Deadline
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _parser: Any = None
    _body: list[bytes] = field(default_factory=list)
    _head_done: bool = False
    _done: bool = False
    _closed: bool = False
    _reusable: bool = False
    _drained: bool = False
    _failure: ModelUnavailable | None = None
    _is_tls: bool = field(init=False)
    on_body: Callable[[bytes], None] = field(init=False)

    def __post_init__(self) -> None:
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        # Called for each token, so that a method of our own would be felt.
        self.on_body = self._body.append

    # What else httptools calls while it is fed.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header was read."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head was read. Of an interim response (103 and the like) it is not the one that counts."""
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= 200

    def on_message_complete(self) -> None:
        """The response has ended."""
        self._done = self._head_done
        # Asked here, as the parser forgets it with the next message.
        self._reusable = self._parser.should_keep_alive()

    def send(self, request: bytes) -> None:
        """Send all of the request.

        Raises:
            _Closed, ModelTimeout: see :class:`Transport`.
        """
        left = memoryview(request)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._patience.wait(self._sock, select.POLLOUT)
            except OSError as error:
                raise _Closed from error

    def read_head(self) -> None:
        """Wait for status and headers."""
        self._parser = httptools.HttpResponseParser(self)
        read = 0
        while not self._head_done:
            data = self._receive()
            if data is None:
                continue
            if not data:
                raise _Closed if not read else ModelUnavailable(reason="the provider's answer broke off in its head")
            read += len(data)
            if read > _MOST_HEADERS and not self._head_done:
                raise ModelUnavailable(reason="the head of the provider's answer does not end")
            self._feed(data)

    def pieces(self) -> Iterator[bytes | None]:
        """The body as it comes, all that is there at one time in one piece; an empty one after a long silence.

        None where somebody else waits for more (see :meth:`firelaunch.llm.Deadline.hand_over`) and is to be given
        control.

        Raises:
            ModelUnavailable: it broke off.
            ModelTimeout, and whatever ``patience.check`` raises.
        """
        while True:
            if self._body:
                piece = b"".join(self._body)
                self._body.clear()
                if self._drained and not self._done and self._patience.idle(self._sock):
                    self._drained = False
                yield piece
                self._patience.take_back()
            if self._done:
                return
            if self._failure is not None:
                raise self._failure
            data = None if self._drained else self._there()
            self._drained = False
            if data is None and self._patience.hand_over(self._sock):
                yield None
                self._patience.take_back()
                continue
            if data is None and self._patience.wait(self._sock, select.POLLIN):
                continue
            if data is None:
                yield b""
            elif not data:
                self._end()
            else:
                # TLS may hold back what no poll tells of. Else less than was asked for is all that there is.
                self._drained = len(data) < _READ and not self._is_tls
                self._feed(data)

    def here(self) -> bytes:
        """What is there of the body, in the hub's thread. ``pieces`` goes on after it, and raises what it met."""
        try:
            while (data := self._there()) is not None:
                if not data:
                    self._end()
                    break
                self._parser.feed_data(data)
                # What the kernel holds is told of again, by the poll; what TLS has read ahead is not.
                if self._done or not self._is_tls or not self._sock.pending():  # type: ignore[attr-defined]
                    break
        except httptools.HttpParserError as error:
            self._failure = _no_http(error)
        except ModelUnavailable as error:
            self._failure = error
        body = self._body
        piece = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return piece

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._done or self._failure is not None

    def body(self, limit: int) -> bytes:
        """All of the body.

        Raises:
            ModelUnavailable: it broke off, or is longer than ``limit`` bytes.
            ModelTimeout, and whatever ``patience.check`` raises.
        """
        found: list[bytes] = []
        size = 0
        for piece in self.pieces():
            found.append(piece or b"")
            size += len(found[-1])
            if size > limit:
                raise ModelUnavailable(reason=f"the provider's answer is longer than {limit} bytes")
        return b"".join(found)

    def text(self, limit: int = 20_000) -> str:
        """The body, or the first ``limit`` bytes of it, for people; never fails."""
        found = b""
        try:
            for piece in self.pieces():
                found += piece or b""
                if len(found) > limit:
                    break
        except (ModelUnavailable, ModelTimeout):
            pass
        finally:
            self.close()
        return found[:limit].decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the connection: for the next call, if the response has ended.

        Not before: until the hub has let go of a stream, its socket may not be another's.
        """
        if self._closed:
            return
        self._closed = True
        if self._done and self._reusable:
            self._keep(self._sock)
        else:
            self._sock.close()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise _no_http(error) from error

    def _receive(self) -> bytes | None:
        """What has come; empty at the end, None after a long silence."""
        while True:
            data = self._there()
            if data is not None:
                return data
            if not self._patience.wait(self._sock, select.POLLIN):
                return None

    def _there(self) -> bytes | None:
        """What is there; empty at the end, None where nothing is."""
        while True:
            try:
                return self._sock.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            except ssl.SSLWantWriteError:
                self._patience.wait(self._sock, select.POLLOUT)
            except OSError as error:
                if not self._head_done:
                    raise _Closed from error
                raise ModelUnavailable(reason=f"the stream broke: {error}") from error

    def _end(self) -> None:
        """The other side closed: an end where the length was left to that, and a break anywhere else."""
        framed = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if framed:
            raise ModelUnavailable(reason="the provider's answer broke off")
        self._done = True


def _no_http(error: httptools.HttpParserError) -> ModelUnavailable:
    return ModelUnavailable(reason=f"the provider's answer is no HTTP: {error}")


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _safe(value: str) -> str:
    if "\r" in value or "\n" in value:
        raise ValueError("a header's value has one line")
    return value
