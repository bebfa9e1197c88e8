"""HTTP/1.1 to one model provider, over sockets whose every wait also notices that the client has left.

The openai package creates an object for each token and cannot be woken while it waits. See
docs/adr/0006-streams-wait-in-one-place.md for the cost of that.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httptools

from ...errors import ModelTimeout, ModelUnavailable
from ..deadline import Deadline
from ..failures import garbled

__all__ = ["Response", "Transport"]

_CONNECT_SECONDS = 5.0
"""A provider that does not accept a connection within this time counts as unreachable."""

_IDLE_SECONDS = 30.0
"""Seconds that an idle connection is kept for the next call; providers keep theirs for longer."""

_MOST_IDLE = 32
_READ = 65_536
_MOST_HEADERS = 65_536

_MOST_INFLATED = 4_000_000
"""The most bytes that one piece of a compressed body may become."""


class Transport:
    """Connections to the origin of ``base_url``, each kept for the next call after a complete response.

    A query string of ``base_url``, such as Azure's ``?api-version=``, goes with every request.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http(s) address")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._query = parts.query
        self._authority = parts.netloc.rpartition("@")[2]
        self._idle: list[tuple[float, socket.socket]] = []
        self._lock = threading.Lock()

    def post(self, path: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """Send a request, and wait for the head of its response.

        Raises:
            ModelUnavailable: there is no connection, or the connection broke.
            ModelTimeout: ``deadline`` is reached.
            Whatever ``deadline.check`` raises.
        """
        target = f"{self._prefix}{path}"
        if self._query:
            target += ("&" if "?" in target else "?") + self._query
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._authority}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {_safe(value)}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        sock = self._take_idle()
        if sock is not None:
            try:
                return self._exchange(sock, request, deadline)
            except _Closed:
                # The provider closed the idle connection before it read the request, so sending it again is safe.
                pass
        try:
            return self._exchange(self._connect(deadline), request, deadline)
        except _Closed as error:
            raise ModelUnavailable(reason="the provider closed the connection without an answer") from error

    def _exchange(self, sock: socket.socket, request: bytes, deadline: Deadline) -> Response:
        """Send a request on one connection, and read the head of the response."""
        response = Response(sock, self._keep, deadline)
        deadline.sent = False
        try:
            response.send(request)
            deadline.sent = True
            response.read_head()
        except BaseException:
            sock.close()
            raise
        return response

    def _connect(self, deadline: Deadline) -> socket.socket:
        """Open a connection, with TLS if the address is https."""
        seconds = min(_CONNECT_SECONDS, deadline.left())
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

    def _take_idle(self) -> socket.socket | None:
        """Return an idle connection that is still usable; None if there is none."""
        now = time.monotonic()
        with self._lock:
            while self._idle:
                since, sock = self._idle.pop()
                # A readable idle connection was closed, or holds bytes that belong to no request.
                if now - since < _IDLE_SECONDS and not _readable(sock):
                    return sock
                sock.close()
        return None

    def _keep(self, sock: socket.socket) -> None:
        """Keep a connection for the next call, or close it if there are enough."""
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append((time.monotonic(), sock))
                return
        sock.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, sock in idle:
            sock.close()


class _Closed(Exception):
    """The provider closed the connection before the first byte of a response."""


@dataclass(slots=True)
class Response:
    """One response. Read it with ``pieces`` or ``text``, then ``close`` it, which keeps the connection if it can be
    reused.

    ``headers`` has lower-case names; of a repeated header it holds the last. httptools calls ``on_body`` with the
    pieces of the body.
    """

    _sock: socket.socket
    _keep: Callable[[socket.socket], None]
    _deadline: Deadline
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _parser: Any = None
    _body: list[bytes] = field(default_factory=list)
    _head_done: bool = False
    _done: bool = False
    _closed: bool = False
    _reusable: bool = False
    _drained: bool = False
    _inflate: Any = None
    _failure: ModelUnavailable | None = None
    _is_tls: bool = field(init=False)
    on_body: Callable[[bytes], None] = field(init=False)

    def __post_init__(self) -> None:
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        # httptools calls this for each token: list.append is noticeably faster than a method of our own.
        self.on_body = self._body.append

    # httptools calls these methods, too, while it parses.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that the head is complete, unless it is that of an interim response (such as 103)."""
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= 200
        if self.headers.get("content-encoding", "").lower() in {"gzip", "x-gzip", "deflate"}:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: either form's header

    def on_message_complete(self) -> None:
        """Note that the response is complete."""
        self._done = self._head_done
        # Read it now, because the parser forgets it with the next message.
        self._reusable = self._parser.should_keep_alive()

    def send(self, request: bytes) -> None:
        """Send all of the request.

        Raises:
            _Closed, ModelTimeout: see :class:`Transport`.
        """
        remaining = memoryview(request)
        while remaining:
            try:
                remaining = remaining[self._sock.send(remaining) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._deadline.wait(self._sock, select.POLLOUT)
            except OSError as error:
                raise _Closed from error

    def read_head(self) -> None:
        """Wait for the status and the headers."""
        self._parser = httptools.HttpResponseParser(self)
        read = 0
        while not self._head_done:
            data = self._receive()
            if data is None:
                continue
            if not data:
                raise (_Closed if not read else ModelUnavailable(reason="the provider's answer broke off in its head"))
            read += len(data)
            if read > _MOST_HEADERS and not self._head_done:
                raise ModelUnavailable(reason="the head of the provider's answer does not end")
            self._feed(data)
            if not self._head_done:
                self._deadline.record_sign_of_life()  # an interim response, such as 102

    def pieces(self) -> Iterator[bytes | None]:
        """Yield the body as it arrives, all that has arrived in one piece; an empty piece after a long silence.

        Yields None if the stream loop takes over the wait for more (see :meth:`firelaunch.llm.Deadline.hand_over`) and
        the caller must give it control.

        Raises:
            ModelUnavailable: the response broke off.
            ModelTimeout, and whatever ``deadline.check`` raises.
        """
        # What has arrived is yielded first, even if the connection failed after it.
        while True:
            if self._body:
                piece = self._taken()
                if self._drained and not self._done and self._deadline.idle(self._sock):
                    self._drained = False
                yield piece
                self._deadline.take_back()
            if self._done:
                return
            if self._failure is not None:
                raise self._failure
            data = None if self._drained else self._receive_available()
            self._drained = False
            if data is None and self._deadline.hand_over(self._sock):
                yield None
                self._deadline.take_back()
                continue
            if data is None and self._deadline.wait(self._sock, select.POLLIN):
                continue
            if data is None:
                yield b""
            elif not data:
                self._end()
            else:
                # TLS may buffer bytes that poll does not report. Without TLS, a short read means that no more is there.
                self._drained = len(data) < _READ and not self._is_tls
                self._feed(data)

    def receive_now(self) -> bytes:
        """Return what has arrived of the body; for the stream loop's thread.

        ``pieces`` continues after it, and raises the failures that it met.
        """
        try:
            while (data := self._receive_available()) is not None:
                if not data:
                    self._end()
                    break
                self._parser.feed_data(data)
                # The next poll reports bytes that are left in the kernel, but not bytes that TLS has read ahead.
                if self._done or not self._is_tls or not self._sock.pending():  # type: ignore[attr-defined]
                    break
        except httptools.HttpParserError as error:
            self._failure = _no_http(error)
        except ModelUnavailable as error:
            self._failure = error
        return self._taken()

    def _taken(self) -> bytes:
        """Return what has been parsed of the body and not been returned yet, without its compression.

        Raises:
            ModelUnavailable: it cannot be decompressed.
        """
        body = self._body
        piece = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        if self._inflate is None:
            return piece
        try:
            inflated: bytes = self._inflate.decompress(piece, _MOST_INFLATED)
        except zlib.error as error:
            raise garbled(f"the provider's answer cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise garbled("the provider's answer is too large when it is decompressed")
        return inflated

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._done or self._failure is not None

    def body(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            ModelUnavailable: the response broke off, or is longer than ``limit`` bytes.
            ModelTimeout, and whatever ``deadline.check`` raises.
        """
        pieces: list[bytes] = []
        size = 0
        for piece in self.pieces():
            pieces.append(piece or b"")
            size += len(pieces[-1])
            if size > limit:
                raise garbled(f"the provider's answer is longer than {limit} bytes")
        return b"".join(pieces)

    def text(self, limit: int = 20_000) -> str:
        """Return the body, or its first ``limit`` bytes, as text for people; never fails."""
        content = b""
        try:
            for piece in self.pieces():
                content += piece or b""
                if len(content) > limit:
                    break
        except (ModelUnavailable, ModelTimeout):
            pass
        finally:
            self.close()
        return content[:limit].decode("utf-8", "replace")

    def close(self) -> None:
        """Release the connection: keep it for the next call if the response is complete, else close it.

        Call it only when the stream loop has let go of the stream; until then its socket must not serve another call.
        """
        if self._closed:
            return
        self._closed = True
        self._parser = None  # they refer to each other: neither would be freed before a garbage collection
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
        """Wait for bytes; return them, empty at the end of the stream, None after a long silence."""
        while True:
            data = self._receive_available()
            if data is not None:
                return data
            if not self._deadline.wait(self._sock, select.POLLIN):
                return None

    def _receive_available(self) -> bytes | None:
        """Return the bytes that have arrived; empty at the end of the stream, None if there are none."""
        while True:
            try:
                return self._sock.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            except ssl.SSLWantWriteError:
                self._deadline.wait(self._sock, select.POLLOUT)
            except OSError as error:
                if not self._head_done:
                    raise _Closed from error
                raise ModelUnavailable(reason=f"the stream broke: {error}") from error

    def _end(self) -> None:
        """Handle a close by the provider.

        It is the end of the body if no header gives its length, and a broken response otherwise.
        """
        framed = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if framed:
            raise ModelUnavailable(reason="the provider's answer broke off")
        self._done = True


def _no_http(error: httptools.HttpParserError) -> ModelUnavailable:
    return garbled(f"the provider's answer is no HTTP: {error}")


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
