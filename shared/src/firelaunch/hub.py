"""One thread that waits for the models of many streams, and relays what they say as it comes.

A stream is here only while all that it does is wait for its provider: :data:`.stream.Paused.WAITING` brings it, and
whatever else (the workflow's own code, the database, another try) is done by a thread of the server's own. So nothing
here blocks, and a stream costs a few kilobytes rather than a thread.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from .llm.client import Client
from .llm.patience import HEARTBEAT_SECONDS, TICK_SECONDS, ClientLeft, Patience
from .stream import STILL_HERE, Paused

__all__ = ["Hub", "Served"]

log = logging.getLogger(__name__)

_MANY = 16
_GATHER_SECONDS = 0.02
_GATHER_SECONDS_A_STREAM = 0.001
_MOST_GATHER_SECONDS = 0.1
"""From ``_MANY`` streams on, what arrives in this time is relayed together, but for the first words of an answer: a
wake-up, and a write, cost more than the token that they are for. It is longer the more streams there are, up to ten
writes a second to each reader, which saves nearly half of the work at 500 streams of 20 tokens a second."""

_LEFT = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(slots=True, eq=False)
class Served:
    """A stream that is being sent.

    Args:
        items: the response's bytes, and the stream's words to the server.
        frame: puts a piece into the response's transfer coding.
        leave: called, in the hub's thread, when the stream has more to do than to wait, or has ended.
    """

    items: Iterator[bytes | Paused]
    client: Client
    frame: Callable[[bytes], bytes]
    leave: Callable[[], None]
    gone: bool = False
    failed: bool = False
    _provider: socket.socket | None = None
    _patience: Patience | None = None
    _unsent: bytes = b""
    _stalled_since: float = 0.0
    _last_beat: float = 0.0
    _descriptor: int = -1
    _heard_by: select.epoll | None = None

    def left(self) -> None:
        """The client is gone. Where the answer does not go on without them, its wait for the model ends with that."""
        self.gone = True
        if not self.client.goes_on:
            self.client.failure = ClientLeft()


class Hub:
    """See the module. One per process; its thread starts with the first stream.

    Args:
        write_seconds: a client that takes nothing for this long is taken for one that left.
    """

    def __init__(self, write_seconds: float) -> None:
        self.write_seconds = write_seconds
        self._arrived: deque[Served] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._poll = select.epoll()
        # For what does not wait until more has gathered: the bell, and providers that have not begun to answer.
        self._soon = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._soon.register(self._bell, select.EPOLLIN)
        self._poll.register(self._soon.fileno(), select.EPOLLIN)
        self._gathers = False
        self._here: set[Served] = set()
        self._of_provider: dict[int, Served] = {}
        self._of_client: dict[int, Served] = {}
        self._timers: list[tuple[float, int, Served]] = []
        self._number = count()

    def add(self, served: Served) -> None:
        """Wait for this stream too, from any thread. Until it leaves it is the hub's alone."""
        begun = served.client.waits_for is not None and served.client.waits_for[1].begun
        self._arrived.append(served)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
                self._thread.start()
        if not (begun and self._gathers):
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            if len(self._here) >= _MANY:
                self._gather(min(_MOST_GATHER_SECONDS, _GATHER_SECONDS + _GATHER_SECONDS_A_STREAM * len(self._here)))
            self._take_arrived()
            until = min(next_tick, self._timers[0][0]) if self._timers else next_tick
            for descriptor, event in self._poll.poll(max(0.0, until - time.monotonic()) if self._here else -1):
                if (served := self._of_provider.get(descriptor)) is not None:
                    try:  # as _guarded, for what comes by far most often
                        self._go_on(served)
                    except Exception:
                        self._failed(served)
                elif (served := self._of_client.get(descriptor)) is not None:
                    self._guarded(self._heard_of, served, event)
                elif descriptor == self._soon.fileno():
                    self._look_soon(0)
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
        self._gathers = True
        while (left := until - time.monotonic()) > 0:
            self._look_soon(left)
            self._take_arrived()
        # A stream that arrived without the bell is looked for after this, and one that arrives later rings it.
        self._gathers = False

    def _look_soon(self, seconds: float) -> None:
        for descriptor, _ in self._soon.poll(seconds):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif (served := self._of_provider.get(descriptor)) is not None:
                self._guarded(self._go_on, served)
                if served._heard_by is self._soon and served._patience is not None and served._patience.begun:
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
            sock = served.client.sock
            sock.setblocking(False)
            descriptor = sock.fileno()
            try:
                self._poll.register(descriptor, select.EPOLLRDHUP)
            except OSError:
                served.left()
                self._dismiss(served)
                return
            self._of_client[descriptor] = served
        self._wait(served)

    def _wait(self, served: Served) -> None:
        waits_for = served.client.waits_for
        if waits_for is None:  # pragma: no cover - WAITING comes from hand_over alone
            self._dismiss(served)
            return
        provider, served._patience = waits_for
        if provider is served._provider:
            self._listen(served, on=True)
            return
        self._forget_provider(served)
        # Kept, as a socket that was closed meanwhile does not tell it any more.
        served._provider, served._descriptor = provider, provider.fileno()
        self._of_provider[served._descriptor] = served
        self._listen(served, on=True)

    def _listen(self, served: Served, *, on: bool) -> None:
        """Hear of what the provider says, or leave it where it is: so it slows down to what the client takes."""
        # Not by a mask of nothing: the kernel tells of a reset whatever the mask, and a step may not come then.
        if served._heard_by is not None and not on:
            self._unregister(served._heard_by, served._descriptor)
            served._heard_by = None
        elif served._heard_by is None and on and served._provider is not None:
            begun = served._patience is not None and served._patience.begun
            served._heard_by = self._poll if begun else self._soon
            served._heard_by.register(served._descriptor, select.EPOLLIN)

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
            sent = sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._client_left(served)
            return served in self._here
        if sent == len(data):
            return True
        served._unsent = data[sent:]
        served._stalled_since = time.monotonic()
        self._poll.modify(sock.fileno(), select.EPOLLRDHUP | select.EPOLLOUT)
        self._listen(served, on=False)
        return False

    def _heard_of(self, served: Served, event: int) -> None:
        if event & _LEFT:
            self._client_left(served)
            if served in self._here and served._unsent:
                served._unsent = b""
                self._go_on(served)
        elif event & select.EPOLLOUT and served._unsent:
            data, served._unsent = served._unsent, b""
            if self._send(served, data) and served in self._here:
                if not served.gone:
                    self._poll.modify(served.client.sock.fileno(), select.EPOLLRDHUP)
                self._go_on(served)

    def _client_left(self, served: Served) -> None:
        served.left()
        self._forget_client(served)
        if not served.client.goes_on:
            self._dismiss(served)

    def _tick(self, served: Served, now: float) -> None:
        patience = served._patience
        if patience is None or served not in self._here:
            return
        if served._unsent and now - served._stalled_since >= self.write_seconds:
            self._heard_of(served, select.EPOLLHUP)
            return
        try:
            # A provider that is not listened to, as its client takes nothing, has only the request's time as its limit.
            silent = 0.0 if served._unsent else patience.quiet(now)
            patience.left()
            patience.check()
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
        if served._provider is not None:
            self._listen(served, on=False)
            del self._of_provider[served._descriptor]
            served._provider = None

    def _forget_client(self, served: Served) -> None:
        descriptor = served.client.sock.fileno()
        if self._of_client.pop(descriptor, None) is not None:
            self._unregister(self._poll, descriptor)

    @staticmethod
    def _unregister(poll: select.epoll, descriptor: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            poll.unregister(descriptor)
