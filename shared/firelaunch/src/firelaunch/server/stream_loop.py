"""One thread that waits for the models of many streams, and relays what they say as it comes.

A stream is here only while all that it does is wait for its provider: :data:`firelaunch.chats.events.Paused.WAITING`
brings it, and whatever else (the workflow's own code, the database, another try) is done by a thread of the server's
own. So nothing here blocks, and a stream costs a few kilobytes rather than a thread.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..chats.events import STILL_HERE, Paused
from ..llm.client_connection import ClientConnection, Wait
from ..llm.deadline import HEARTBEAT_SECONDS, TICK_SECONDS, ClientLeft

__all__ = ["Served", "StreamLoop"]

log = logging.getLogger(__name__)

_MANY = 16
_FEW = 8
_GATHER_SECONDS = 0.02
_GATHER_SECONDS_A_STREAM = 0.001
_MOST_GATHER_SECONDS = 0.1
"""From ``_MANY`` streams on, and until there are ``_FEW``, what arrives in this time is relayed together, but for the
first words of an answer: a wake-up, and a write, cost more than the token that they are for. It is longer the more
streams there are, up to ten writes a second to each reader, which saves nearly half of the work at 500 streams of 20
tokens a second."""


@dataclass(slots=True, eq=False)
class Served:
    """A stream that is being sent.

    Args:
        items: the response's bytes, and the stream's words to the server.
        frame: puts a piece into the response's transfer coding.
        leave: called, in the hub's thread, when the stream has more to do than to wait, or has ended.
    """

    items: Iterator[bytes | Paused]
    client: ClientConnection
    frame: Callable[[bytes], bytes]
    leave: Callable[[], None]
    gone: bool = False
    failed: bool = False
    _provider: socket.socket | None = None
    _wait: Wait | None = None
    _unsent: bytes = b""
    _stalled_since: float = 0.0
    _last_beat: float = 0.0
    _heard_by: selectors.BaseSelector | None = None
    _client_events: int = 0
    _client_with: selectors.BaseSelector | None = None

    def left(self) -> None:
        """The client is gone. Where the answer does not go on without them, its wait for the model ends with that."""
        self.gone = True
        if not self.client.goes_on:
            self.client.failure = ClientLeft()


class StreamLoop:
    """See the module. One per process; its thread starts with the first stream.

    Args:
        write_seconds: a client that takes nothing for this long is taken for one that left.
    """

    def __init__(self, write_seconds: float) -> None:
        self.write_seconds = write_seconds
        self._arrived: deque[Served] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # What gathers, while there are many streams. It is looked at each time that enough has gathered.
        self._later = selectors.DefaultSelector()
        # What is wanted at once: the bell, models that have not begun to answer and, while there are few streams, all.
        self._soon = selectors.DefaultSelector()
        self._bell, self._listener = socket.socketpair()
        for end in (self._bell, self._listener):
            end.setblocking(False)
        self._soon.register(self._listener, selectors.EVENT_READ)
        self._gathers = False
        self._here: set[Served] = set()
        self._timers: list[tuple[float, int, Served]] = []
        self._number = count()

    def add(self, served: Served) -> None:
        """Wait for this stream too, from any thread. Until it leaves it is the hub's alone."""
        waits_for = served.client.waits_for
        begun = waits_for is not None and waits_for[1].begun
        self._arrived.append(served)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()
        # Asked after it was put there: the hub looks for arrivals after it has stopped to gather.
        if not (begun and self._gathers):
            with contextlib.suppress(BlockingIOError):  # it rings already
                self._bell.send(b"\0")

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            if self._gathers:
                self._gather(min(_MOST_GATHER_SECONDS, _GATHER_SECONDS + _GATHER_SECONDS_A_STREAM * len(self._here)))
                self._look(self._later, 0.0)
            else:
                until = min(next_tick, self._timers[0][0]) if self._timers else next_tick
                self._look(self._soon, max(0.0, until - time.monotonic()) if self._here else None)
            self._choose()
            self._take_arrived()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                served = heapq.heappop(self._timers)[2]
                if served in self._here and not served._unsent:
                    self._guarded(self._go_on, served)
            if now >= next_tick:
                next_tick = now + TICK_SECONDS
                for served in list(self._here):
                    self._guarded(self._tick, served, now)

    def _gather(self, seconds: float) -> None:
        """Leave what arrives in this time where it is, but for what is wanted at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look(self._soon, left)
            self._take_arrived()

    def _look(self, selector: selectors.BaseSelector, seconds: float | None) -> None:
        """Go on with what is ready."""
        for key, events in selector.select(seconds):
            match key.data:
                case None:
                    with contextlib.suppress(BlockingIOError):
                        self._listener.recv(4096)
                case Served() as served:
                    # One that left meanwhile, for what came before it, is not here any more.
                    if served._heard_by is selector:
                        self._guarded(self._go_on, served)
                        if selector is self._soon:
                            self._listen_where_it_belongs(served)
                case (Served() as served,) if served._client_events:
                    self._guarded(self._heard_of, served, events)

    def _choose(self) -> None:
        """Gather from many streams on, and no more where there are few; all are then listened to elsewhere."""
        many = len(self._here) >= (_FEW if self._gathers else _MANY)
        if many == self._gathers:
            return
        self._gathers = many
        for served in list(self._here):
            self._guarded(self._move, served)

    def _move(self, served: Served) -> None:
        self._listen_where_it_belongs(served)
        if served._client_events:
            events = served._client_events
            self._watch_client(served, 0)
            self._watch_client(served, events)

    def _belongs(self, served: Served) -> selectors.BaseSelector:
        begun = served._wait is not None and served._wait.begun
        return self._later if self._gathers and begun else self._soon

    def _listen_where_it_belongs(self, served: Served) -> None:
        if served._heard_by is not None and served._heard_by is not self._belongs(served):
            self._listen(served, on=False)
            self._listen(served, on=True)

    def _take_arrived(self) -> None:
        while self._arrived:
            self._guarded(self._take, self._arrived.popleft())

    def _guarded(self, work: Callable[..., None], served: Served, *args: Any) -> None:
        """What goes wrong with one stream is its own, and no other's."""
        try:
            work(served, *args)
        except Exception:
            self._failed(served)

    def _failed(self, served: Served) -> None:
        log.exception("a stream failed")
        served.failed = True
        self._dismiss(served)

    def _take(self, served: Served) -> None:
        self._here.add(served)
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
        waits_for = served.client.waits_for
        if waits_for is None:  # pragma: no cover - WAITING comes from hand_over alone
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
        """Hear of what the provider says, or leave it where it is: so it slows down to what the client takes."""
        if served._provider is None:
            return
        if served._heard_by is not None and not on:
            _unregister(served._heard_by, served._provider)
            served._heard_by = None
        elif served._heard_by is None and on:
            selector = self._belongs(served)
            _register(selector, served._provider, selectors.EVENT_READ, served)
            served._heard_by = selector

    def _go_on(self, served: Served) -> None:
        if not self._pass_on(served):
            self._step(served)

    def _step(self, served: Served) -> None:
        """Go on with a stream until it waits, or leaves."""
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

    def _pass_on(self, served: Served) -> bool:
        """Send what the model said, if that was text and all there is to do; else the stream itself goes on."""
        client = served.client
        if client.read is None or client.told is None or client.encode is None:
            return False
        text = client.read()
        if text is None:
            return False
        text = client.told(text) if text else ""
        if text and not served.gone and not self._send(served, served.frame(client.encode(text))):
            return True
        if client.not_before:
            self._rest(served, client.not_before)
            client.not_before = 0.0
        elif served._heard_by is None:
            self._listen(served, on=True)
        return True

    def _rest(self, served: Served, until: float) -> None:
        self._listen(served, on=False)
        heapq.heappush(self._timers, (until, next(self._number), served))

    def _send(self, served: Served, data: bytes) -> bool:
        """Whether all was sent, or the client is gone; else the rest is, before anything more is asked for."""
        sock = served.client.sock
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._client_left(served)
            return served in self._here
        if sent == len(data):
            return True
        served._unsent = data[sent:]
        served._stalled_since = time.monotonic()
        self._watch_client(served, served._client_events | selectors.EVENT_WRITE)
        self._listen(served, on=False)
        return False

    def _heard_of(self, served: Served, events: int) -> None:
        if events & selectors.EVENT_READ and self._has_left(served):
            self._lost(served)
        elif events & selectors.EVENT_WRITE and served._unsent:
            data, served._unsent = served._unsent, b""
            if self._send(served, data) and served in self._here:
                if not served.gone:
                    self._watch_client(served, served._client_events & ~selectors.EVENT_WRITE)
                self._go_on(served)

    def _has_left(self, served: Served) -> bool:
        """Whether a client that can be read has closed its connection, rather than asked for more.

        One that asks for more before its answer has ended is not looked at any longer: its leaving would be behind what
        it asks for. It is noticed when the next piece cannot be sent.
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

    def _lost(self, served: Served) -> None:
        self._client_left(served)
        if served in self._here and served._unsent:
            served._unsent = b""
            self._go_on(served)

    def _client_left(self, served: Served) -> None:
        served.left()
        self._forget_client(served)
        if not served.client.goes_on:
            self._dismiss(served)

    def _tick(self, served: Served, now: float) -> None:
        wait = served._wait
        if wait is None or served not in self._here:
            return
        if served._unsent and now - served._stalled_since >= self.write_seconds:
            self._lost(served)
            return
        try:
            # A provider that is not listened to, as its client takes nothing, has only the request's time as its limit.
            silent = 0.0 if served._unsent else wait.quiet(now)
            wait.left()
            wait.check()
        except Exception as failure:
            # After a part of a piece nothing else can be sent.
            served.gone = served.gone or bool(served._unsent)
            served.client.failure = failure
            self._dismiss(served)
            return
        if min(silent, now - served._last_beat) >= HEARTBEAT_SECONDS and not served.gone:
            served._last_beat = now
            self._send(served, served.frame(STILL_HERE))

    def _dismiss(self, served: Served) -> None:
        if served not in self._here:
            return
        self._here.remove(served)
        self._forget_provider(served)
        self._forget_client(served)
        served.leave()

    def _forget_provider(self, served: Served) -> None:
        self._listen(served, on=False)
        served._provider = None

    def _forget_client(self, served: Served) -> None:
        self._watch_client(served, 0)

    def _watch_client(self, served: Served, events: int) -> None:
        """Hear whether the client leaves (EVENT_READ), and when it takes more (EVENT_WRITE)."""
        sock, before, data = served.client.sock, served._client_events, (served,)
        served._client_events = events
        if not before and events:
            served._client_with = self._later if self._gathers else self._soon
            _register(served._client_with, sock, events, data)
        elif before and not events:
            _unregister(served._client_with, sock)
        elif before != events and served._client_with is not None:
            served._client_with.modify(sock, events, data)


def _register(selector: selectors.BaseSelector, sock: socket.socket, events: int, data: object) -> None:
    try:
        selector.register(sock, events, data)
    except KeyError:
        # What had this descriptor before was closed without a word: the kernel knows, selectors does not.
        selector.unregister(sock.fileno())
        selector.register(sock, events, data)


def _unregister(selector: selectors.BaseSelector | None, sock: socket.socket) -> None:
    if selector is not None:
        with contextlib.suppress(KeyError, OSError, ValueError):
            selector.unregister(sock)
