"""gunicorn's threaded worker, with what is ours.

Its threads are for requests that are whole: the loop waits for clients (:mod:`firelaunch.server.connections`), and the
hub waits for models (:mod:`firelaunch.server.stream_loop`). Besides, it says why it cannot start, ends in order, and
answers in our form what no app gets to see.

It leans on what gunicorn does not promise: that ``enqueue_req`` has ``handle`` run in a thread, after which
``method_queue`` calls ``finish_request`` with what it returned; that ``run`` calls ``accept`` and ``murder_pending``;
the parser's ``unreader``; and the response behind ``start_response``. So its version is pinned, and tests/test_relay.py
and tests/test_hostile_clients.py fail where another version does otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import selectors
import socket
import sys
import threading
import time
from collections import deque
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

from ..errors import SettingsError
from ..shutdown import Shutdown
from .connections import Connection, RequestProgress

if TYPE_CHECKING:
    from .stream_loop import Served, StreamLoop

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_PARTING_SECONDS = 2.0
"""How long a client has to close a connection that was closed for it, before what it has not read may be lost."""

_STOP_SECONDS = 2.0
"""How long a worker that was told to end waits for requests that may be on their way."""

_LOOK_SECONDS = 0.25
"""Seconds between two looks at which connections have waited for too long."""

_ACCEPTED_AT_ONCE = 64
_OUT_OF_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_ELSEWHERE = object()
"""What ``handle`` returns of a connection whose stream goes on without its thread."""


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
    """The app, with the streams among its responses taken over.

    Args:
        answering: has the connection that the current thread answers, as ``conn``.
    """

    def __init__(self, app: Any, answering: threading.local) -> None:
        self._app, self._answering = app, answering

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        from ..llm.client_connection import CLIENT_KEY, STREAM_KEY, ClientConnection

        conn: Connection = self._answering.conn
        conn.sock.body(reads=conn.has_place)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        response: Response = start_response.__self__  # type: ignore[attr-defined]
        client = environ[CLIENT_KEY] = ClientConnection(conn.sock.sock)
        body: Iterable[bytes] = self._app(environ, start_response)
        if conn.is_unread:
            response.force_close()
        stream = environ.pop(STREAM_KEY, None)
        if stream is None:
            return body
        raise _TakenOver(response, body, stream, client)


class _Sending:
    """A stream, and the gunicorn of it: its connection and its response."""

    def __init__(self, conn: Any, taken: _TakenOver) -> None:
        from .stream_loop import Served

        self.conn, self.context = conn, taken.context
        self._response, self._body = taken.response, taken.body
        self.served = Served(iter(taken.stream), taken.client, self._frame, lambda: None)

    def begin(self) -> Served:
        """Have the connection write as threads do: blocking, and not for ever."""
        self.conn.sock.setblocking(True)
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
        if self.served.gone:
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
        if self.cfg.is_ssl:
            sys.stderr.write("The app cannot start:\nThis worker speaks no TLS: end it in front of the app.\n")
            sys.exit(Arbiter.APP_LOAD_ERROR)
        try:
            super().load_wsgi()
        except SettingsError as error:
            sys.stderr.write(f"The app cannot start:\n{error}\n")
            sys.stderr.flush()
            sys.exit(Arbiter.APP_LOAD_ERROR)
        from .stream_loop import StreamLoop

        self.hub: StreamLoop = StreamLoop(getattr(self.wsgi, "write_seconds", 30.0))
        self._body_seconds: float = getattr(self.wsgi, "body_seconds", 300.0)
        self._waiting: dict[Connection, None] = {}
        self._queue: deque[Connection] = deque()
        self._parting: dict[Connection, float] = {}
        self._readers, self._most_readers = 0, max(1, self.cfg.threads // 2)
        self._next_look = 0.0
        self._answering = threading.local()
        self.wsgi: Any = _Streams(self.wsgi, self._answering)
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

    def accept(self, listener: Any) -> None:
        """Accept what there is. Where there are as many connections as may be, the one that waits longest ends."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if self.nr_conns >= self.worker_connections and not self._make_room():
                return
            try:
                sock, address = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_MEANS:
                    if not self._make_room():
                        time.sleep(0.01)  # else the loop would come here again at once
                elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                    raise
                return
            self.nr_conns += 1
            seconds = self.hub.write_seconds, self._body_seconds
            conn = Connection(self.cfg, sock, address, listener.getsockname(), *seconds)
            self._wait(conn, b"")

    def _make_room(self) -> bool:
        """Close the connection that has waited longest; whether there was one."""
        for conn in self._parting:
            self._parted(conn)
            return True
        for conn in self._waiting:
            self._drop(conn)
            return True
        return False

    def _wait(self, conn: Connection, data: bytes) -> None:
        """Gather a connection's next request, of which ``data`` is there."""
        conn.renew(self.cfg.keepalive if self.alive else _STOP_SECONDS)
        self._waiting[conn] = None
        if data:
            self._gather(conn, data)
        if conn in self._waiting:
            self._hear(conn)

    def _hear(self, conn: Connection, _: Any = None) -> None:
        data = conn.receive()
        if data:
            self._gather(conn, data)
        elif data is None:
            self._watch(conn)
        elif conn.has_head:
            self._dispatch(conn)  # the parser comes to the end, and the app to a body that breaks off
        else:
            self._drop(conn)

    def _gather(self, conn: Connection, data: bytes) -> None:
        progress = conn.take(data)
        if progress is RequestProgress.READY:
            self._dispatch(conn)
        elif progress is RequestProgress.TOO_LARGE:
            self._refuse(conn, 431, "Request Header Fields Too Large")
        else:
            self._watch(conn)

    def _watch(self, conn: Connection) -> None:
        if not conn.watched:
            conn.watched = True
            self.poller.register(conn.sock.sock, selectors.EVENT_READ, partial(self._hear, conn))

    def _forget(self, conn: Connection) -> None:
        self._waiting.pop(conn, None)
        if conn.watched:
            conn.watched = False
            self.poller.unregister(conn.sock.sock)

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _refuse(self, conn: Connection, status: int, reason: str) -> None:
        self._forget(conn)
        with contextlib.suppress(OSError):
            _write_error(conn.sock, status, reason, "")
        self._part(conn)

    def _dispatch(self, conn: Connection, *, late: bool = False) -> None:
        """Have a thread answer a request that is whole, or whose body it has to wait for.

        Half of the threads may wait for bodies, so that the others are there for requests that are whole.

        Args:
            late: whether the rest of the body is not waited for.
        """
        self._forget(conn)
        if conn.needs_reader and not late:
            if self._readers >= self._most_readers:
                conn.deadline = time.monotonic() + self.hub.write_seconds
                self._queue.append(conn)
                return
            self._readers += 1
            conn.has_place = True
        self.enqueue_req(conn)

    def _leave_place(self, conn: Connection) -> None:
        """Let another thread wait for a body in place of this connection's."""
        if conn.has_place:
            conn.has_place = False
            self._readers -= 1
            if self._queue:
                self._dispatch(self._queue.popleft())

    def handle(self, conn: Any) -> Any:
        """Answer the request on a connection, in a thread of the pool."""
        try:
            conn.begin()
            self._answering.conn = conn
            return super().handle(conn)
        except _TakenOver as taken:
            return self._go_on(_Sending(conn, taken))
        finally:
            self._answering.conn = None

    def _keepalive_after(self, conn: Connection, keepalive: Any) -> bool:
        """Whether the connection can be used again: not where some of its body is still to come."""
        conn.sock.body(reads=False)
        return bool(keepalive) and bool(super()._keepalive_after(conn, keepalive))

    def murder_pending(self) -> None:
        """End the waits that have taken too long."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        for conn in [conn for conn in self._waiting if conn.deadline <= now]:
            if conn.has_head:
                self._dispatch(conn, late=True)
            else:
                self._drop(conn)
        while self._queue and self._queue[0].deadline <= now:
            self._refuse(self._queue.popleft(), 503, "Service Unavailable")
        for conn in [conn for conn, until in self._parting.items() if until <= now]:
            self._parted(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker is told to end: connections that are silent end by ``deadline``."""
        for conn in self._waiting:
            if conn.is_idle:
                conn.deadline = min(conn.deadline, deadline)

    def _go_on(self, sending: _Sending) -> Any:
        """Send a stream until it ends or does nothing but wait; whether the connection can be used again then."""
        kept = sending.context.run(self._send, sending)
        if kept is _ELSEWHERE:
            # Last of all: the hub may have it resumed at once, and a context is entered by one thread at a time.
            self.hub.add(sending.served)
        return kept

    def _send(self, sending: _Sending) -> Any:
        from ..chats.events import Paused

        served = sending.begin()
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
        elif conn.has_place:
            self.method_queue.defer(self._leave_place, conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection, or keep it for the next request."""
        self._leave_place(conn)
        if not fs.cancelled() and fs.exception() is None and fs.result():
            self._wait(conn, conn.left_over())
        else:
            self._part(conn)

    def _part(self, conn: Any) -> None:
        """Close a connection once its client has (https://www.rfc-editor.org/rfc/rfc9112#section-9.6).

        gunicorn waits for that in its one loop, so that clients which never close would keep all others out.
        """
        self._parting[conn] = time.monotonic() + _PARTING_SECONDS
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock.sock, selectors.EVENT_READ, partial(self._heard, conn))
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
            self.poller.unregister(conn.sock.sock)
        conn.close()
