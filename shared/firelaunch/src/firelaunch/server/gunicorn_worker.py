"""Extend gunicorn's threaded worker so that threads neither wait for slow clients nor for models.

Threads get complete requests only. The worker's loop waits for clients (:mod:`firelaunch.server.connections`), and the
stream loop waits for models (:mod:`firelaunch.server.stream_loop`). The worker also explains why it cannot start, shuts
down in order, and answers requests that never reach the app in the app's error format.

It relies on details that gunicorn does not promise: ``enqueue_req`` runs ``handle`` in a thread, and ``method_queue``
then calls ``finish_request`` with the result; ``run`` calls ``accept`` and ``murder_pending``; the parser has an
``unreader``; ``start_response`` is bound to the response; and ``handle`` ends with ``_keepalive_after``. So gunicorn's
version is pinned. tests/test_relay.py and tests/test_hostile_clients.py fail if another version behaves differently.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import (
    ExpectationFailed,
    ForbiddenProxyRequest,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from .. import precedence
from ..errors import Overloaded, SettingsError
from ..shutdown import Shutdown
from .connections import Connection, RequestProgress
from .fair_queue import NEW_SECONDS, NEWCOMERS, NOBODY, STRANGERS, FairQueue, Ticket
from .start_error import start_report
from .terminal import line_width, wrapped

if TYPE_CHECKING:
    from .stream_loop import Served, StreamLoop

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_CLOSING_SECONDS = 2.0
"""How long a client has to close a connection that the server has closed, before unread data may be lost."""

_STOP_SECONDS = 2.0
"""How long a worker that shuts down waits for requests that clients may have sent already."""

_RETRY_SECONDS = 2
"""Seconds after which whoever was turned away may try again."""

_KEPT_BYTES_IN_ALL = 33_554_432
"""Memory for answers that clients are slow to read. When it is full, connections are dropped: strangers' first, and of
those the ones that have read least for their time."""

_PROBE_THREADS = 2
_FIRST_THREADS = 8
"""Threads that are started with the worker. Its loop waits for each thread that it starts later, until Python has run a
bit of it, which takes long while others compute."""

_KNOWN_TOKENS = 10_000
"""Tokens whose users are remembered. Whoever's token is not is served among the strangers, once."""

_CHECK_SECONDS = 0.25
"""Seconds between two checks for connections that have waited too long."""

_ACCEPTED_AT_ONCE = 64
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a socket that is closed forgets what it could not send."""

_ELSEWHERE = object()
"""The result of ``handle`` for a connection whose stream goes on without a thread."""


_STATUSES: dict[type[Exception], tuple[int, str]] = {
    LimitRequestLine: (414, "URI Too Long"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    ExpectationFailed: (417, "Expectation Failed"),
    ForbiddenProxyRequest: (403, "Forbidden"),
    UnsupportedTransferCoding: (501, "Not Implemented"),
}
"""The answers to requests that gunicorn cannot read. All other kinds are 400, "Bad Request"."""


def _write_error(sock: Any, status: int, reason: str, code: str = "", retry_after: int = 0) -> None:
    """Answer a request that the app does not get, in the format of the app's errors.

    Pages of any origin may read it, since which origin asked is not known, and it has nothing of the app in it. Without
    that a page would learn of no status, and take a token that is too long for a network that is down.
    """
    code = code or ("invalid_request" if status < 500 else "internal")
    detail = {"code": code, "message": f"{reason}.", "request_id": ""}
    body = json.dumps({"error": detail}).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    head += "Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n"
    head += f"Retry-After: {retry_after}\r\n" if retry_after else ""
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _start_threads(pool: ThreadPoolExecutor, count: int) -> None:
    started = threading.Barrier(count)
    for _ in range(count):
        pool.submit(started.wait)


class _Body:
    """A request's body. Malformed chunks end it with an OSError, like any body that breaks off."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes of the body, or all of it.

        Raises:
            OSError: the body's chunks are malformed.
        """
        try:
            data: bytes = self._body.read(size)
        except ParseException as error:
            raise OSError("the body's chunks are malformed") from error
        return data


class _StreamInterceptor:
    """The app, wrapped so that the worker takes over its streamed responses.

    Args:
        thread_state: thread-local; its ``conn`` is the connection that the current thread answers.
        known: told whose the request on a connection is.
    """

    def __init__(self, app: Any, thread_state: threading.local, known: Callable[[Connection, str], None]) -> None:
        self._app, self._thread_state, self._known = app, thread_state, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        from ..identity.known_callers import CALLER_KNOWN_KEY
        from ..llm.client_connection import CLIENT_KEY, STREAM_KEY, ClientConnection

        conn: Connection = self._thread_state.conn
        conn.sock.body(reads=conn.place is not None)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        environ[CALLER_KNOWN_KEY] = partial(self._known, conn)
        response: Response = start_response.__self__  # type: ignore[attr-defined]
        client = environ[CLIENT_KEY] = ClientConnection(conn.sock.sock)
        body: Iterable[bytes] = self._app(environ, start_response)
        if conn.is_unread:
            # The rest of the body would be read as the connection's next request.
            response.force_close()
        stream = environ.pop(STREAM_KEY, None)
        if stream is None:
            conn.sock.keeps = True
            return body
        # gunicorn writes nothing, and ends the request. `Worker.handle` then sends the stream and ends the response.
        conn.stream = _SentStream(conn, response, body, stream, client)
        response.close = _leave_open
        return ()


def _leave_open() -> None:
    """Do nothing where gunicorn would end a response whose stream is still to be sent."""


class _SentStream:
    """A stream with its connection and its gunicorn response."""

    def __init__(self, conn: Any, response: Response, body: Iterable[bytes], stream: Any, client: Any) -> None:
        from .stream_loop import Served

        self.conn, self.context = conn, copy_context()
        self._response, self._body = response, body
        self.served = Served(iter(stream), client, partial(_frame, response), _stay)

    def begin(self) -> Served:
        """Make the connection write as threads do, blocking with a limit, and return the stream."""
        self.conn.sock.setblocking(True)
        return self.served

    @property
    def headers_sent(self) -> bool:
        """Whether the client has the response's headers, so that pieces of the body may follow."""
        return bool(self._response.headers_sent)

    def prepare_for_loop(self, worker: Worker) -> None:
        """Send the headers, so that the stream loop has only the body to send."""
        if not self._response.headers_sent:
            self._response.send_headers()
        self.served.leave = lambda: worker.resume(self)

    def write(self, data: bytes) -> None:
        """Send a piece. If the client does not take it, mark the client as gone."""
        try:
            with self.served.writing:
                rest, self.served.unsent_beat = self.served.unsent_beat, b""
                if rest:
                    self.conn.sock.sendall(rest)
                if data:
                    self._response.write(data)
        except OSError:
            self.served.left()
            if not self.served.client.goes_on:
                self.served.items.close()  # type: ignore[attr-defined]  # a generator, which settles the answer so far

    def end(self) -> bool:
        """End the response and return whether the connection can be used again."""
        reusable = False
        self.served.leave = _stay  # no longer leads back here, so all of the stream is freed with its last reference
        if not self.served.gone and not self.served.failed:
            with contextlib.suppress(OSError):
                Response.close(self._response)
                reusable = not self._response.should_close()
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
        if self.served.gone:
            # Shut down both ways: nothing more is sent to a client that left, so there is nothing to wait for.
            with contextlib.suppress(OSError):
                self.conn.sock.shutdown(socket.SHUT_RDWR)
        return reusable


def _frame(response: Response, data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if response.chunked else data


def _stay() -> None:
    """The ``leave`` of a stream that the loop does not hold."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker class, as :mod:`firelaunch.server.gunicorn_config` names it."""

    def load_wsgi(self) -> None:
        """Load the app. On a settings error print how to fix it, and end gunicorn with status 4; on others, with 3."""
        if self.cfg.is_ssl:
            sys.stderr.write("The app cannot start:\nThis worker speaks no TLS: end it in front of the app.\n")
            sys.exit(Arbiter.APP_LOAD_ERROR)
        try:
            super().load_wsgi()
        except SettingsError as error:
            sys.stderr.write(f"The app cannot start:\n{wrapped(str(error), line_width(sys.stderr))}\n")
            sys.stderr.flush()
            sys.exit(Arbiter.APP_LOAD_ERROR)
        except Exception as error:
            if os.environ.get("K_SERVICE"):  # where one line is one entry, and Error Reporting reads it
                log.exception("The app cannot start: %s", type(error).__name__)
            else:
                sys.stderr.write(wrapped(start_report(error, Path.cwd()), line_width(sys.stderr)) + "\n")
                sys.stderr.flush()
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        from .stream_loop import StreamLoop

        self.stream_loop: StreamLoop = StreamLoop(getattr(self.wsgi, "write_seconds", 30.0))
        self._body_seconds: float = getattr(self.wsgi, "body_seconds", 300.0)
        # Whoever waits longer for a thread has often left, and is asked to come back later.
        self._queue_seconds: float = getattr(self.wsgi, "queue_seconds", 5.0)
        # Connections whose next request the loop gathers, the one that waits longest first.
        self._waiting: dict[Connection, None] = {}
        # Connections that the server has closed and the client has not yet, and the time until which it may.
        self._closing: dict[Connection, float] = {}
        # Threads that may wait for request bodies: half of them, so that complete requests always find a thread.
        self._places = FairQueue(max(1, self.cfg.threads // 2))
        self._next_check = 0.0
        self._thread_state = threading.local()
        # Probes have threads of their own, so that they are answered however long others wait.
        self._probe_pool = ThreadPoolExecutor(_PROBE_THREADS, "probe")
        _start_threads(self._probe_pool, _PROBE_THREADS)
        _start_threads(self.tpool, min(_FIRST_THREADS, self.cfg.threads))
        self._requests = FairQueue(self.cfg.threads)
        # Users by the digests of their tokens. Threads add to it, and the loop reads it.
        self._users: OrderedDict[bytes, str] = OrderedDict()
        self._users_lock = threading.Lock()
        # Connections whose answer the loop sends on.
        self._sending: set[Connection] = set()
        self.wsgi: Any = _StreamInterceptor(self.wsgi, self._thread_state, self._remember)
        start_jobs = getattr(self.wsgi, "start_jobs", None)
        if start_jobs is not None:
            start_jobs()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """On SIGTERM, accept no more connections. Running answers get the app's grace period."""
        # Looked up by attribute, since gunicorn's master imports this file and must not import the app's modules.
        shutdown = getattr(getattr(self, "wsgi", None), "shutdown", None)
        if isinstance(shutdown, Shutdown):
            shutdown.begin()
        super().handle_exit(sig, frame)

    def accept(self, listener: Any) -> None:
        """Accept waiting connections. At the limit, close the connection that has waited longest."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if self.nr_conns >= self.worker_connections and not self._make_room():
                return
            try:
                sock, address = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    if not self._make_room():
                        time.sleep(0.01)  # else the loop would try again at once, and spin
                elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                    raise
                return
            self.nr_conns += 1
            seconds = self.stream_loop.write_seconds, self._body_seconds
            conn = Connection(self.cfg, sock, address, listener.getsockname(), *seconds)
            self._wait(conn, b"")

    def _make_room(self) -> bool:
        """Close the connection that has waited longest, and return whether there was one.

        Those that are closing anyway go first, then those whose clients don't read.
        """
        for conn in self._closing:
            self._close(conn)
            return True
        if self._sending:
            self._give_up(self._worst_reader())
            return True
        for conn in self._waiting:
            self._drop(conn)
            return True
        return False

    def _wait(self, conn: Connection, data: bytes) -> None:
        """Start to gather a connection's next request; ``data`` is its beginning."""
        conn.renew(self.cfg.keepalive if self.alive else _STOP_SECONDS)
        self._waiting[conn] = None
        if data:
            self._gather(conn, data)
        if conn in self._waiting:
            self._on_readable(conn)

    def _on_readable(self, conn: Connection, _: Any = None) -> None:
        data = conn.receive()
        if data:
            self._gather(conn, data)
        elif data is None:
            self._watch(conn)
        elif conn.has_head:
            self._dispatch(conn)  # the app finds out that the body breaks off
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
            self.poller.register(conn.sock.sock, selectors.EVENT_READ, partial(self._on_readable, conn))

    def _stop_waiting(self, conn: Connection) -> None:
        self._waiting.pop(conn, None)
        if conn.watched:
            conn.watched = False
            self.poller.unregister(conn.sock.sock)

    def _drop(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        conn.close()

    def _refuse(self, conn: Connection, status: int, reason: str, code: str = "", retry_after: int = 0) -> None:
        self._stop_waiting(conn)
        with contextlib.suppress(OSError):
            _write_error(conn.sock, status, reason, code, retry_after)
        self._close_gracefully(conn)

    def _dispatch(self, conn: Connection, *, late: bool = False) -> None:
        """Let a thread answer a request that is complete, or whose body the thread has to wait for.

        Half of the threads may wait for bodies, so that the others are free for complete requests. Callers take turns
        for them.

        Args:
            late: whether the time for the body is up, so that the thread does not wait for it.
        """
        self._stop_waiting(conn)
        conn.caller = self._users.get(conn.token_digest, NEWCOMERS) if conn.token_digest else NOBODY
        if conn.needs_reader and not late:
            self._places.put(conn.caller, conn, time.monotonic())
            self._give_places()
        else:
            self.enqueue_req(conn)

    def _give_places(self) -> None:
        """Let threads wait for the bodies whose turn it is."""
        while (request := self._places.take(time.monotonic())) is not None:
            conn, ticket = request
            conn.place = ticket
            self.enqueue_req(conn)

    def _leave_place(self, conn: Connection) -> None:
        """Give up this connection's place among those that wait for bodies, and let the next one have it."""
        if conn.place is not None:
            self._places.end(conn.place)
            conn.place = None
            self._give_places()

    def handle(self, conn: Any) -> Any:
        """Answer the request on a connection, in a thread of the pool."""
        try:
            conn.begin()
            self._thread_state.conn = conn
            reusable = super().handle(conn)
        finally:
            precedence.release()
            self._thread_state.conn = None
        stream, conn.stream = conn.stream, None
        return reusable if stream is None else self._continue(stream)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002 - gunicorn's signature
        """Answer a request that gunicorn cannot read, or that failed outside of the app."""
        own_fault = isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        if own_fault or not isinstance(exc, ParseException):
            status, reason = 500, "Internal Server Error"
            log.error("a request failed: %s", type(exc).__name__, exc_info=exc)
        else:
            status, reason = _STATUSES.get(type(exc), (400, "Bad Request"))
            log.warning("a request cannot be read: %s", type(exc).__name__)
        with contextlib.suppress(OSError):
            _write_error(client, status, reason)

    def _keepalive_after(self, conn: Connection, keepalive: Any) -> bool:
        """Return whether the connection can be used again."""
        if conn.stream is not None:
            return False  # `handle` asks again when the stream has ended
        # From here on, gunicorn must not wait for an unread rest of the body.
        conn.sock.body(reads=False)
        return bool(keepalive) and bool(super()._keepalive_after(conn, keepalive))

    def murder_pending(self) -> None:
        """End the waits that have taken too long. gunicorn's loop calls this in each round."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_SECONDS
        for conn in [conn for conn in self._waiting if conn.deadline <= now]:
            if conn.has_head:
                self._dispatch(conn, late=True)
            else:
                self._drop(conn)
        for conn in list(self._places.late(now - self.stream_loop.write_seconds)):
            self._turn_away(conn)
        for conn in list(self._requests.late(now - self._queue_seconds)):
            self._turn_away(conn)
            self._leave_place(conn)
        for conn in [conn for conn in self._sending if conn.sock.kept_until <= now]:
            self._give_up(conn)
        for conn in [conn for conn, until in self._closing.items() if until <= now]:
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """When the worker shuts down, close silent connections by ``deadline``."""
        for conn in self._waiting:
            if conn.is_idle:
                conn.deadline = min(conn.deadline, deadline)

    def _continue(self, sending: _SentStream) -> Any:
        """Send a stream until it ends or only waits for its model.

        Returns:
            Whether the connection can be used again, or ``_ELSEWHERE`` if the stream loop has taken the stream over.
        """
        result = sending.context.run(self._send, sending)
        if result is _ELSEWHERE:
            # Only after context.run has returned: the stream loop may resume the stream in another thread at once, and
            # only one thread at a time can enter a context.
            self.stream_loop.add(sending.served)
        return result

    def _send(self, sending: _SentStream) -> Any:
        from ..chats.events import Paused

        served = sending.begin()
        self._beat_for(sending)
        try:
            for item in served.items:
                if item is Paused.WAITING:
                    sending.prepare_for_loop(self)
                    return _ELSEWHERE
                if item is not Paused.LEAVING and not served.gone:
                    sending.write(item)
                    self._beat_for(sending)
        except Exception:
            log.exception("a stream failed")
            served.failed = True
        finally:
            if served.client.beat is not None:
                self.stream_loop.beat_no_more(served)
                if served.unsent_beat and not served.gone:
                    sending.write(b"")
        return self._keepalive_after(sending.conn, sending.end())

    def _beat_for(self, sending: _SentStream) -> None:
        """Have the stream loop send signs of life while this thread runs the stream, once its headers are sent."""
        if sending.served.client.beat is not None and sending.headers_sent:
            self.stream_loop.beat_for(sending.served)

    def resume(self, sending: _SentStream) -> None:
        """Continue a stream that has more to do than wait, in a thread of the pool. The stream loop calls this."""

        def go_on() -> Any:
            precedence.claim()
            try:
                return self._continue(sending)
            except BaseException:
                log.exception("a stream's connection failed")
                raise
            finally:
                precedence.release()

        self._in_thread(self.tpool, sending.conn, go_on)

    def enqueue_req(self, conn: Any) -> None:
        """Let a thread answer the request on a connection, once it is its caller's turn."""
        if conn.is_probe:
            self._submit(self._probe_pool, conn, None)
            return
        self._requests.put(conn.caller, conn, time.monotonic())
        self._answer_next()

    def _answer_next(self) -> None:
        """Give threads to the requests whose turn it is."""
        while (request := self._requests.take(time.monotonic())) is not None:
            self._submit(self.tpool, *request)

    def _submit(self, pool: ThreadPoolExecutor, conn: Any, ticket: Ticket | None) -> None:
        answer = self._answer_many if ticket is not None and ticket.gives_way else self._answer_first
        self._in_thread(pool, conn, partial(answer, conn), ticket)

    def _answer_first(self, conn: Any) -> Any:
        """Answer a request. Background work and callers with many requests give way to it."""
        precedence.claim()
        return self.handle(conn)

    def _answer_many(self, conn: Any) -> Any:
        """Answer one of many requests of a caller. The next one waits while requests are answered that go first."""
        with precedence.background():
            result = self.handle(conn)
            if result is not _ELSEWHERE:
                precedence.give_way()
            return result

    def _in_thread(
        self, pool: ThreadPoolExecutor, conn: Any, work: Callable[[], Any], ticket: Ticket | None = None
    ) -> None:
        """Run ``work`` on a connection in a thread of a pool, and finish with the connection."""

        def run() -> None:
            result: Future[Any] = Future()
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)
            self._answered(conn, result, ticket)

        # A pool raises where it is closed, as the process ends, and where there is no memory for one more thread.
        # Then the work is in the pool's queue all the same, and the next thread that has nothing to do takes it.
        with contextlib.suppress(RuntimeError):
            pool.submit(run)

    def _remember(self, conn: Connection, user: str) -> None:
        """Remember whose a connection's token is, so that the requests that show it wait for that user's turn."""
        conn.caller = user
        if conn.token_digest and self._users.get(conn.token_digest) != user:
            with self._users_lock:
                self._users[conn.token_digest] = user
                if len(self._users) > _KNOWN_TOKENS:
                    self._users.popitem(last=False)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, and for the time at which the next request may be answered."""
        waiting = self._requests or self._places
        super().wait_for_and_dispatch_events(min(timeout, NEW_SECONDS) if waiting else timeout)
        if self._places:
            self._give_places()
        if self._requests:
            self._answer_next()

    def _answered(self, conn: Any, result: Future[Any], ticket: Ticket | None = None) -> None:
        """Let gunicorn's loop finish with a connection, unless its stream goes on in the stream loop."""
        if result.cancelled() or result.exception() is not None or result.result() is not _ELSEWHERE:
            self.method_queue.defer(self.finish_request, conn, result, ticket)
        else:
            self.method_queue.defer(self._leave_thread, conn, ticket)

    def _leave_thread(self, conn: Connection, ticket: Ticket | None) -> None:
        """Let the next request have the thread, while a connection's stream goes on without one."""
        if ticket is not None:
            self._requests.end(ticket)
            self._answer_next()
        self._leave_place(conn)

    def finish_request(self, conn: Any, fs: Any, ticket: Ticket | None = None) -> None:
        """Send the rest of the answer, then close the connection, or keep it for the next request."""
        self._leave_thread(conn, ticket)
        conn.reusable = not fs.cancelled() and fs.exception() is None and bool(fs.result())
        if conn.sock.kept_bytes:
            self._send_on(conn)
        else:
            self._finish(conn)

    def _finish(self, conn: Connection) -> None:
        if conn.reusable:
            self._wait(conn, conn.left_over())
        else:
            self._close_gracefully(conn)

    def _send_on(self, conn: Connection) -> None:
        """Send the rest of an answer as its client reads, without a thread."""
        try:
            conn.sock.setblocking(False)
            self.poller.register(conn.sock.sock, selectors.EVENT_WRITE, partial(self._on_writable, conn))
        except (OSError, ValueError):  # it broke off while a thread answered
            self.nr_conns -= 1
            conn.close()
            return
        self._sending.add(conn)
        while sum(each.sock.kept_bytes for each in self._sending) > _KEPT_BYTES_IN_ALL:
            self._give_up(self._worst_reader())

    def _worst_reader(self) -> Connection:
        """Return the connection to drop first of those whose clients are slow to read."""
        return min(self._sending, key=lambda conn: (conn.caller not in STRANGERS, conn.sock.kept_until))

    def _on_writable(self, conn: Connection, _: Any) -> None:
        try:
            if not conn.sock.send_kept():
                return
        except OSError:
            self._give_up(conn)
            return
        self._sending.remove(conn)
        self.poller.unregister(conn.sock.sock)
        self._finish(conn)

    def _give_up(self, conn: Connection) -> None:
        """Close the connection of a client that does not read its answer."""
        self._sending.remove(conn)
        self.poller.unregister(conn.sock.sock)
        self.nr_conns -= 1
        # With a reset, or the kernel would keep what it could not send, beyond the connections that are counted.
        with contextlib.suppress(OSError):
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        conn.close()

    def _turn_away(self, conn: Connection) -> None:
        """Refuse a request for which there is no thread, before anything is done for it."""
        self._refuse(conn, Overloaded.status, Overloaded.message.rstrip("."), Overloaded.code, _RETRY_SECONDS)

    def _close_gracefully(self, conn: Any) -> None:
        """Close a connection after its client has (https://www.rfc-editor.org/rfc/rfc9112#section-9.6).

        gunicorn itself would wait for that in its only loop, where clients that never close would block all others.
        """
        self._closing[conn] = time.monotonic() + _CLOSING_SECONDS
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock.sock, selectors.EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError):
            self._close(conn)

    def _discard(self, conn: Any, sock: Any) -> None:
        """Read and drop what the client still sends.

        Closing a socket with unread data resets the connection, and the client may lose the end of its answer.
        """
        try:
            if sock.recv(65_536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(conn)

    def _close(self, conn: Any) -> None:
        if self._closing.pop(conn, None) is None:
            return
        self.nr_conns -= 1
        with contextlib.suppress(KeyError, OSError, ValueError):
            self.poller.unregister(conn.sock.sock)
        conn.close()
