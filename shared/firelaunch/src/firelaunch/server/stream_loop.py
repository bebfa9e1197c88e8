"""Wait for the models of many streams in one thread, and relay their text as it arrives.

A stream is in this loop only while it waits for its provider. :data:`firelaunch.chats.events.Paused.WAITING` brings it
here. All other work (the workflow's code, the database, a retry) runs in a thread of
:mod:`firelaunch.server.gunicorn_worker`. So nothing here blocks, and a waiting stream costs a few kilobytes instead of
a thread.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ..chats.events import STILL_HERE, Paused
from ..llm.client_connection import ClientConnection, Wait
from ..llm.deadline import HEARTBEAT_SECONDS, TICK_SECONDS, ClientLeft

__all__ = ["Served", "StreamLoop"]

log = logging.getLogger(__name__)

_MANY = 16
_FEW = 8
_GATHER_SECONDS = ((0, 0.02), (80, 0.1), (500, 0.1), (1_500, 0.2))
"""How long text gathers before the loop relays it, by the number of streams: linear between these points. It gathers
from ``_MANY`` streams on and until fewer than ``_FEW`` are left. A wake-up and a write cost more than the token that
they carry. The first words, or thoughts, of an answer do not wait. Each reader gets ten writes a second at 500 streams,
which saves nearly half of the work of 20 tokens a second, and five at 1,500."""


@dataclass(slots=True, eq=False)
class Served:
    """A stream that is being sent.

    Args:
        items: the response's bytes, and the stream's signals to the server (:class:`~firelaunch.chats.events.Paused`).
        frame: puts a piece into the response's transfer coding.
        leave: called in the loop's thread when the stream has more to do than wait, or has ended.
        writing: held by whoever writes to the client while a thread runs the stream: the thread, or the loop's beats.
        unsent_beat: the rest of a beat that the client did not take at once. It goes before the thread's next piece.
    """

    items: Iterator[bytes | Paused]
    client: ClientConnection
    frame: Callable[[bytes], bytes]
    leave: Callable[[], None]
    gone: bool = False
    failed: bool = False
    writing: threading.Lock = field(default_factory=threading.Lock)
    unsent_beat: bytes = b""
    _provider: socket.socket | None = None
    _wait: Wait | None = None
    _unsent: bytes = b""
    _stalled_since: float = 0.0
    _last_beat: float = 0.0
    _provider_selector: selectors.BaseSelector | None = None
    _client_events: int = 0
    _client_selector: selectors.BaseSelector | None = None

    def left(self) -> None:
        """Mark the client as gone. Unless the answer goes on without the client, its wait for the model ends."""
        self.gone = self.client.left = True
        if not self.client.goes_on:
            self.client.failure = ClientLeft()


class StreamLoop:
    """The loop that waits for models. A process has one; its thread starts with the first stream.

    Args:
        write_seconds: seconds after which a client that reads nothing counts as gone.
    """

    def __init__(self, write_seconds: float) -> None:
        self.write_seconds = write_seconds
        # Streams that other threads have added and the loop has not taken yet.
        self._arrived: deque[Served] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Models whose text gathers while there are many streams. Polled each time the gathering time is over.
        self._gathered_selector = selectors.DefaultSelector()
        # Sockets to serve at once: the wake-up socket, models that have not begun to answer, all while there are few.
        self._prompt_selector = selectors.DefaultSelector()
        self._wake_writer, self._wake_reader = socket.socketpair()
        for end in (self._wake_writer, self._wake_reader):
            end.setblocking(False)
        self._prompt_selector.register(self._wake_reader, selectors.EVENT_READ)
        self._gathering = False
        self._streams: set[Served] = set()
        # Streams that threads run, whose clients want signs of life meanwhile.
        self._blocked: set[Served] = set()
        # A heap of (time, number, stream): when a stream whose text gathers continues. The number breaks ties.
        self._timers: list[tuple[float, int, Served]] = []
        self._number = count()
        self._next_tick = 0.0

    def add(self, served: Served) -> None:
        """Add a stream. Any thread may call this; from then on only the loop touches the stream, until it leaves."""
        waits_for = served.client.waits_for
        has_begun = waits_for is not None and waits_for[1].has_begun
        self._arrived.append(served)
        self._start()
        # Checked after the append: the loop takes arrivals after it stops gathering, so none is left without a wake-up.
        if not (has_begun and self._gathering):
            with contextlib.suppress(BlockingIOError):  # the buffer is full, so the loop wakes up anyway
                self._wake_writer.send(b"\0")

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hub", daemon=True)
                thread.start()  # raises where there is no memory for it; the next stream tries again
                self._thread = thread

    def beat_for(self, served: Served) -> None:
        """Send a stream's beats until :meth:`beat_no_more`, while a thread runs it. Any thread may call this."""
        if served in self._blocked:
            return
        self._blocked.add(served)
        self._start()
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"\0")

    def beat_no_more(self, served: Served) -> None:
        """Send no more beats. The caller's thread may then hand the stream to the loop, or end it."""
        self._blocked.discard(served)
        with served.writing:  # a beat that is under way is whole before anything else is written
            pass

    def _run(self) -> None:
        self._next_tick = time.monotonic() + TICK_SECONDS
        while True:
            try:
                self._round()
            except Exception:  # without memory, anything may fail: other streams go on when there is some again
                log.exception("a round of the stream loop failed")
                time.sleep(TICK_SECONDS)

    def _round(self) -> None:
        """Wait for events or the next timer, and do what is due."""
        if self._gathering:
            self._gather(_gather_seconds(len(self._streams)))
            self._poll(self._gathered_selector, 0.0)
        else:
            until = min(self._next_tick, self._timers[0][0]) if self._timers else self._next_tick
            ticks = self._streams or self._blocked
            self._poll(self._prompt_selector, max(0.0, until - time.monotonic()) if ticks else None)
        self._choose_mode()
        self._take_arrived()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            served = heapq.heappop(self._timers)[2]
            if served in self._streams and not served._unsent:
                self._guarded(self._continue, served)
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            for served in list(self._streams):
                self._guarded(self._tick, served, now)
            for served in list(self._blocked):
                self._beat_blocked(served)

    def _gather(self, seconds: float) -> None:
        """Let text gather for ``seconds``, and meanwhile serve only the sockets that must not wait."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._poll(self._prompt_selector, left)
            self._take_arrived()

    def _poll(self, selector: selectors.BaseSelector, seconds: float | None) -> None:
        """Continue the streams whose provider or client is ready."""
        for key, events in selector.select(seconds):
            match key.data:
                case None:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_reader.recv(4096)
                case Served() as served:
                    # A stream that an earlier event of this round dismissed is not listened to any more.
                    if served._provider_selector is selector:
                        self._guarded(self._continue, served)
                        if selector is self._prompt_selector:
                            self._update_selector(served)
                case (Served() as served,) if served._client_events:
                    self._guarded(self._on_client_event, served, events)

    def _choose_mode(self) -> None:
        """Start to gather with many streams, and stop with few. Then move all streams to the other selector."""
        # Two thresholds, so that a number of streams around one of them does not move all streams again and again.
        many = len(self._streams) >= (_FEW if self._gathering else _MANY)
        if many == self._gathering:
            return
        self._gathering = many
        for served in list(self._streams):
            self._guarded(self._move, served)

    def _move(self, served: Served) -> None:
        self._update_selector(served)
        if served._client_events:
            events = served._client_events
            self._watch_client(served, 0)
            self._watch_client(served, events)

    def _selector_for(self, served: Served) -> selectors.BaseSelector:
        has_begun = served._wait is not None and served._wait.has_begun
        return self._gathered_selector if self._gathering and has_begun else self._prompt_selector

    def _update_selector(self, served: Served) -> None:
        if served._provider_selector is not None and served._provider_selector is not self._selector_for(served):
            self._listen(served, on=False)
            self._listen(served, on=True)

    def _take_arrived(self) -> None:
        while self._arrived:
            self._guarded(self._take, self._arrived.popleft())

    def _guarded(self, work: Callable[..., None], served: Served, *args: Any) -> None:
        """Run ``work`` so that an error fails its own stream and no other."""
        try:
            work(served, *args)
        except Exception:
            self._fail(served)

    def _fail(self, served: Served) -> None:
        log.exception("a stream failed")
        served.failed = True
        self._dismiss(served)

    def _take(self, served: Served) -> None:
        """Start to wait for a stream that another thread has added."""
        self._streams.add(served)
        served._last_beat = time.monotonic()
        if not served.gone:
            served.client.sock.setblocking(False)
            try:
                self._watch_client(served, selectors.EVENT_READ)
            except (OSError, ValueError):
                served.left()
                self._dismiss(served)
                return
        self._wait(served)

    def _wait(self, served: Served) -> None:
        """Wait for the provider that the stream named last; a retry may have changed it."""
        waits_for = served.client.waits_for
        if waits_for is None:  # pragma: no cover - only hand_over yields WAITING
            self._dismiss(served)
            return
        provider, served._wait = waits_for
        if provider is served._provider:
            self._listen(served, on=True)
            return
        self._forget_provider(served)
        served._provider = provider
        self._listen(served, on=True)

    def _listen(self, served: Served, *, on: bool) -> None:
        """Start or stop reading from the provider. While it is off, TCP slows the provider to the client's pace."""
        if served._provider is None:
            return
        if served._provider_selector is not None and not on:
            _unregister(served._provider_selector, served._provider)
            served._provider_selector = None
        elif served._provider_selector is None and on:
            selector = self._selector_for(served)
            _register(selector, served._provider, selectors.EVENT_READ, served)
            served._provider_selector = selector

    def _continue(self, served: Served) -> None:
        if not self._relay_text(served):
            self._step(served)

    def _step(self, served: Served) -> None:
        """Run a stream's own code until it waits again or leaves."""
        client = served.client
        client.hosted = True
        try:
            for item in served.items:
                if item is Paused.WAITING:
                    self._wait(served)
                    return
                if item is Paused.LEAVING:
                    break
                if not served.gone and not self._send(served, served.frame(item)):
                    return
                if client.not_before:
                    self._rest(served, client.not_before)
                    client.not_before = 0.0
                    return
                if client.idle:
                    self._wait(served)
                    return
        finally:
            client.hosted = False
        self._dismiss(served)

    def _relay_text(self, served: Served) -> bool:
        """Send the model's text straight to the client, and return whether that was all there was to do.

        This skips the generators between model and client. If anything but text has arrived, the stream itself has to
        take the next step.
        """
        client = served.client
        if client.read_text is None or client.add_text is None or client.encode is None:
            return False
        text = client.read_text()
        if text is None:
            return False
        text = client.add_text(text) if text else ""
        data = client.encode(text) if text else b""
        if data and not served.gone and not self._send(served, served.frame(data)):
            return True
        if client.not_before:
            self._rest(served, client.not_before)
            client.not_before = 0.0
        elif served._provider_selector is None:
            self._listen(served, on=True)
        return True

    def _rest(self, served: Served, until: float) -> None:
        """Stop reading from the provider until ``until``, so that its text gathers."""
        self._listen(served, on=False)
        heapq.heappush(self._timers, (until, next(self._number), served))

    def _send(self, served: Served, data: bytes) -> bool:
        """Send ``data`` and return whether the stream may continue, because all was sent or the client is gone.

        Otherwise the loop sends the rest when the client reads again, and reads nothing from the provider until then.
        """
        sock = served.client.sock
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._client_left(served)
            return served in self._streams
        if sent == len(data):
            return True
        served._unsent = data[sent:]
        served._stalled_since = time.monotonic()
        self._watch_client(served, served._client_events | selectors.EVENT_WRITE)
        self._listen(served, on=False)
        return False

    def _on_client_event(self, served: Served, events: int) -> None:
        if events & selectors.EVENT_READ and self._has_left(served):
            self._drop_client(served)
        elif events & selectors.EVENT_WRITE and served._unsent:
            data, served._unsent = served._unsent, b""
            if self._send(served, data) and served in self._streams:
                if not served.gone:
                    self._watch_client(served, served._client_events & ~selectors.EVENT_WRITE)
                self._continue(served)

    def _has_left(self, served: Served) -> bool:
        """Return whether a readable client has closed its connection rather than sent another request.

        A client that sends another request before its answer has ended is not watched any longer, as the end of its
        connection would come after that request. The loop notices that it left when the next piece cannot be sent.
        """
        try:
            left = not served.client.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if not left:
            self._watch_client(served, served._client_events & ~selectors.EVENT_READ)
        return left

    def _drop_client(self, served: Served) -> None:
        self._client_left(served)
        if served in self._streams and served._unsent:
            served._unsent = b""
            self._continue(served)

    def _client_left(self, served: Served) -> None:
        """Stop watching a client that left. Its stream leaves the loop too, unless the answer goes on without it."""
        served.left()
        self._forget_client(served)
        if not served.client.goes_on:
            self._dismiss(served)

    def _tick(self, served: Served, now: float) -> None:
        """Check a stream's time limits, and send a heartbeat in a long silence."""
        wait = served._wait
        if wait is None or served not in self._streams:
            return
        if served._unsent and now - served._stalled_since >= self.write_seconds:
            self._drop_client(served)
            return
        try:
            # While its client reads nothing, the provider is not read, so only the request's time limit counts.
            silence = 0.0 if served._unsent else wait.silence(now)
            wait.left()
            wait.check()
        except Exception as failure:
            # A piece was sent in part, so an error event can't follow it.
            served.gone = served.gone or bool(served._unsent)
            served.client.failure = failure
            self._dismiss(served)
            return
        if served.gone or served._unsent:
            return
        if served.client.beat is not None:
            if beat := served.client.beat():
                self._send(served, served.frame(beat))
        elif min(silence, now - served._last_beat) >= HEARTBEAT_SECONDS:
            served._last_beat = now
            self._send(served, served.frame(STILL_HERE))

    def _beat_blocked(self, served: Served) -> None:
        """Send a sign of life for a stream that a thread runs, unless the thread is writing to the client now."""
        beat = served.client.beat
        if beat is None or not served.writing.acquire(blocking=False):
            return
        try:
            if served not in self._blocked or served.gone or served.unsent_beat or not (data := beat()):
                return
            data = served.frame(data)
            # Not the socket's own method, which waits until the client reads: the thread has given the socket a limit.
            sent = os.write(served.client.sock.fileno(), data)
            served.unsent_beat = data[sent:]
        except BlockingIOError:
            pass  # the client reads nothing: none of the beat was sent
        except OSError:
            served.left()
        finally:
            served.writing.release()

    def _dismiss(self, served: Served) -> None:
        """Give the stream back to a thread of the server, which continues or ends it."""
        if served not in self._streams:
            return
        self._streams.remove(served)
        self._forget_provider(served)
        self._forget_client(served)
        served.leave()

    def _forget_provider(self, served: Served) -> None:
        self._listen(served, on=False)
        served._provider = None

    def _forget_client(self, served: Served) -> None:
        self._watch_client(served, 0)

    def _watch_client(self, served: Served, events: int) -> None:
        """Watch for the client to leave (EVENT_READ) or to read again (EVENT_WRITE)."""
        sock, before, data = served.client.sock, served._client_events, (served,)
        served._client_events = events
        if not before and events:
            served._client_selector = self._gathered_selector if self._gathering else self._prompt_selector
            _register(served._client_selector, sock, events, data)
        elif before and not events:
            _unregister(served._client_selector, sock)
        elif before != events and served._client_selector is not None:
            served._client_selector.modify(sock, events, data)


def _gather_seconds(streams: int) -> float:
    before, least = _GATHER_SECONDS[0]
    for number, seconds in _GATHER_SECONDS[1:]:
        if streams < number:
            return least + (seconds - least) * (streams - before) / (number - before)
        before, least = number, seconds
    return least


def _register(selector: selectors.BaseSelector, sock: socket.socket, events: int, data: object) -> None:
    try:
        selector.register(sock, events, data)
    except KeyError:
        # The descriptor's former socket was closed: the kernel has forgotten it, but the selector has not.
        selector.unregister(sock.fileno())
        selector.register(sock, events, data)


def _unregister(selector: selectors.BaseSelector | None, sock: socket.socket) -> None:
    if selector is not None:
        with contextlib.suppress(KeyError, OSError, ValueError):
            selector.unregister(sock)
