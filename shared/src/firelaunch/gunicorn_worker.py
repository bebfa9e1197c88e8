"""gunicorn's threaded worker, with what is ours: how it says that it cannot start, how it ends, the form of errors that
it answers itself, to requests that no app gets to see, and streams that hold no thread while they wait.

For the streams it leans on what gunicorn does not promise: that ``enqueue_req`` has ``handle`` run in a thread, after
which ``method_queue`` calls ``finish_request`` with what it returned, and the response behind ``start_response``. So
its version is pinned, and tests/test_relay.py fails where another version does otherwise. Where the app runs under
another server, each stream keeps its thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import ParseException
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from .errors import SettingsError
from .lifecycle import Shutdown

if TYPE_CHECKING:
    from .hub import Hub, Served

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_PARTING_SECONDS = 2.0
"""How long a client has to close a connection that was closed for it, before what it has not read may be lost."""

_ELSEWHERE = object()
"""What ``handle`` returns of a connection whose stream goes on without its thread."""


_BODY_RATE = 8_000
"""Bytes a second that a request's body comes at, at least: what a slow mobile line has (64 kbit/s)."""


class _Paced:
    """A connection whose client has to keep sending; all but ``recv`` is the connection's own.

    Args:
        grace: seconds that a client may be behind.
    """

    def __init__(self, sock: Any, grace: float) -> None:
        self.sock, self._grace = sock, grace
        self._waited, self._got = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def recv(self, size: int) -> bytes:
        """Some of the body.

        Raises:
            TimeoutError: all of it until now took longer than a line of ``_BODY_RATE`` takes, by more than the grace.
        """
        began = time.monotonic()
        data: bytes = self.sock.recv(size)
        self._waited += time.monotonic() - began
        self._got += len(data)
        if self._got < (self._waited - self._grace) * _BODY_RATE:
            raise TimeoutError(f"{self._got} bytes of a body came in {self._waited:.0f} s")
        return data


def _write_error(sock: Any, status: int, reason: str, _detail: str) -> None:
    detail = {"code": "invalid_request" if status < 500 else "internal", "message": f"{reason}.", "request_id": ""}
    body = json.dumps({"error": detail}).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


# gunicorn has no setting for the page that it sends for a request it cannot read; a test holds that this replaces it.
util.write_error = _write_error


class _TakenOver(BaseException):
    """Out of gunicorn's own handling of a request: the response is a stream, and sent by :class:`Worker`."""

    def __init__(self, response: Response, body: Iterable[bytes], stream: Any, client: Any) -> None:
        super().__init__()
        self.response, self.body, self.stream, self.client = response, body, stream, client
        self.context = copy_context()


class _Body:
    """A request's body. Where its chunks are malformed it breaks off, as any other that does not come whole."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def read(self, size: int | None = None) -> bytes:
        """See io.RawIOBase."""
        try:
            found: bytes = self._body.read(size)
        except ParseException as error:
            raise OSError("the body's chunks are malformed") from error
        return found


class _Streams:
    """The app, with the streams among its responses taken over."""

    def __init__(self, app: Any, begun: Callable[[Any], object]) -> None:
        self._app, self._begun = app, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        from .llm.client import CLIENT_KEY, STREAM_KEY, Client

        self._begun(environ["gunicorn.socket"])
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        response = getattr(start_response, "__self__", None)
        if type(response) is not Response:
            return self._app(environ, start_response)  # type: ignore[no-any-return]  # HTTP/2, which streams by itself
        client = environ[CLIENT_KEY] = Client(environ["gunicorn.socket"])
        body: Iterable[bytes] = self._app(environ, start_response)
        stream = environ.pop(STREAM_KEY, None)
        if stream is None:
            return body
        raise _TakenOver(response, body, stream, client)


class _Sending:
    """A stream, and the gunicorn of it: its connection and its response."""

    def __init__(self, conn: Any, taken: _TakenOver) -> None:
        from .hub import Served

        self.conn, self.context = conn, taken.context
        self._response, self._body = taken.response, taken.body
        self.served = Served(iter(taken.stream), taken.client, self._frame, lambda: None)

    def begin(self, write_seconds: float) -> Served:
        """Have the connection write as threads do: blocking, and not for ever."""
        self.conn.sock.settimeout(write_seconds)
        return self.served

    def lend(self, worker: Worker) -> None:
        """Make the stream ready for the hub."""
        if not self._response.headers_sent:
            self._response.send_headers()
        self.served.leave = lambda: worker.resume(self)

    def write(self, data: bytes) -> None:
        """Send a piece. A client that does not take it is gone."""
        try:
            self._response.write(data)
        except OSError:
            self.served.left()
            if not self.served.client.goes_on:
                self.served.items.close()  # type: ignore[attr-defined]  # a generator, which settles what was said

    def end(self) -> bool:
        """End the response; whether the connection can be used again."""
        kept = False
        if not self.served.gone and not self.served.failed:
            with contextlib.suppress(OSError):
                self._response.close()
                kept = not self._response.should_close()
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
        if kept:
            self.conn.sock.setblocking(True)
        elif self.served.gone:
            # Nothing more is told to a client that left, so nothing is waited for.
            with contextlib.suppress(OSError):
                self.conn.sock.shutdown(socket.SHUT_RDWR)
        return kept

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._response.chunked else data


class Worker(ThreadWorker):  # type: ignore[misc]
    """See the module."""

    def load_wsgi(self) -> None:
        """Load the app; on a settings error say what to mend, and end gunicorn with status 4."""
        try:
            super().load_wsgi()
        except SettingsError as error:
            sys.stderr.write(f"The app cannot start:\n{error}\n")
            sys.stderr.flush()
            sys.exit(Arbiter.APP_LOAD_ERROR)
        from .hub import Hub

        self.hub: Hub = Hub(getattr(self.wsgi, "write_seconds", 30.0))
        self._until: dict[Any, float] = {}
        self._handled: dict[Any, Any] = {}
        self._parting: dict[Any, float] = {}
        self.wsgi: Any = _Streams(self.wsgi, self._head_is_read)
        start_jobs = getattr(self.wsgi, "start_jobs", None)
        if start_jobs is not None:
            start_jobs()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: take no more connections; answers that are being given have the app's grace."""
        # By its attribute: gunicorn's master imports this file, and has no use for what an app imports.
        shutdown = getattr(getattr(self, "wsgi", None), "shutdown", None)
        if isinstance(shutdown, Shutdown):
            shutdown.begin()
        super().handle_exit(sig, frame)

    def handle(self, conn: Any) -> Any:
        """Answer the request on a connection, in a thread of the pool.

        gunicorn waits for ever for the rest of a request, so that a few clients that never end theirs would hold all
        threads. Here a request's head has ``write_seconds`` in all, and so has each piece of its body, which must
        come at ``_BODY_RATE`` besides.
        """
        sock, seconds = conn.sock, self.hub.write_seconds
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))
        self._until[sock] = time.monotonic() + seconds
        self._handled[sock] = conn
        try:
            return super().handle(conn)
        except _TakenOver as taken:
            return self._go_on(_Sending(conn, taken))
        finally:
            self._until.pop(sock, None)
            self._handled.pop(sock, None)

    def _head_is_read(self, sock: Any) -> None:
        self._until.pop(sock, None)
        conn = self._handled.get(sock)
        unreader = None if conn is None else getattr(conn.parser, "unreader", None)
        if unreader is not None:  # HTTP/2 has none, and TLS another socket
            unreader.sock = _Paced(sock, self.hub.write_seconds)

    def murder_pending(self) -> None:
        """Close connections that said nothing, as gunicorn does, and those whose head does not come to its end."""
        super().murder_pending()
        now = time.monotonic()
        for sock, until in list(self._until.items()):
            if until <= now and self._until.pop(sock, None) is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for conn in [conn for conn, until in self._parting.items() if until <= now]:
            self._parted(conn)

    def _go_on(self, sending: _Sending) -> Any:
        """Send a stream until it ends or does nothing but wait; whether the connection can be used again then."""
        kept = sending.context.run(self._send, sending)
        if kept is _ELSEWHERE:
            # Last of all: the hub may have it resumed at once, and a context is entered by one thread at a time.
            self.hub.add(sending.served)
        return kept

    def _send(self, sending: _Sending) -> Any:
        from .stream import Paused

        served = sending.begin(self.hub.write_seconds)
        try:
            for item in served.items:
                if item is Paused.WAITING:
                    sending.lend(self)
                    return _ELSEWHERE
                if item is not Paused.LEAVING and not served.gone:
                    sending.write(item)
        except Exception:
            log.exception("a stream failed")
            served.failed = True
        return self._keepalive_after(sending.conn, sending.end())

    def resume(self, sending: _Sending) -> None:
        """Go on with a stream that has more to do than to wait, in a thread of the pool."""

        def go_on() -> None:
            result: Future[Any] = Future()
            try:
                result.set_result(self._go_on(sending))
            except BaseException as error:
                log.exception("a stream's connection failed")
                result.set_exception(error)
            self._answered(sending.conn, result)

        with contextlib.suppress(RuntimeError):  # the pool is closed: the process ends, and its time is up
            self.tpool.submit(go_on)

    def enqueue_req(self, conn: Any) -> None:
        """Have the request on a connection answered by a thread of the pool."""
        self.tpool.submit(self.handle, conn).add_done_callback(partial(self._answered, conn))

    def _answered(self, conn: Any, result: Future[Any]) -> None:
        """Have gunicorn's loop finish with a connection; not woken where its stream goes on."""
        if result.cancelled() or result.exception() is not None or result.result() is not _ELSEWHERE:
            self.method_queue.defer(self.finish_request, conn, result)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection, or keep it for the next request."""
        if not fs.cancelled() and fs.exception() is None and not fs.result():
            self._part(conn)
        else:
            super().finish_request(conn, fs)

    def _part(self, conn: Any) -> None:
        """Close a connection once its client has (https://www.rfc-editor.org/rfc/rfc9112#section-9.6).

        gunicorn waits for that in its one loop, so that clients which never close would keep all others out.
        """
        self._parting[conn] = time.monotonic() + _PARTING_SECONDS
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._heard, conn))
        except (OSError, ValueError):
            self._parted(conn)

    def _heard(self, conn: Any, sock: Any) -> None:
        """Read what still comes, so that it does not have the kernel throw away what the client has not read yet."""
        try:
            if sock.recv(65_536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._parted(conn)

    def _parted(self, conn: Any) -> None:
        if self._parting.pop(conn, None) is None:
            return
        self.nr_conns -= 1
        with contextlib.suppress(KeyError, OSError, ValueError):
            self.poller.unregister(conn.sock)
        conn.close()
