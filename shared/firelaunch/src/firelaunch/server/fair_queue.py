"""Decide whose request gets the next thread: callers take turns, so that many requests of one hold up no other.

Python runs one thread at a time. Each request that is being computed makes all others slower, so it is not enough that
there are threads left: a caller who asks often has one request computed at a time. Strangers who ask often, and users
who ask often and for several things at once, give way to all others.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NEWCOMERS", "NEW_SECONDS", "NOBODY", "SERVICE", "STRANGERS", "FairQueue", "Ticket"]

NEW_SECONDS = 0.05
_STRANGERS_NEW_SECONDS = 0.1
"""Seconds for which a request counts as new. After that it is taken to wait for something, such as a model."""

SERVICE = "/"
"""The beginning of a service's caller id. No user's id begins so."""

NOBODY = ""
"""The caller id of all who show no token."""

NEWCOMERS = "\0"
"""The caller id of all whose token the app has not verified yet, so that they don't wait among those without any. No
user's id has a control character in it."""

STRANGERS = frozenset({NOBODY, NEWCOMERS})

_NEW_AT_A_TIME = 4
"""The most new requests of one caller that are answered at a time; of one who asks often, one."""

_OFTEN_SECONDS = 0.2
_BURST = 20
"""A caller asks often who has sent this many requests more than one in each ``_OFTEN_SECONDS``: more than a page sends
when it opens."""

_REMEMBERED = 100
"""Callers who are remembered at least. When there are twice as many as asked something of late, the others are
forgotten, for whom it makes no difference."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that is being answered.

    Attributes:
        gives_way: whether the next request of its caller waits while others are answered.
    """

    line: _Line
    began: float
    gives_way: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Line:
    """One caller's requests: those that wait, with the times since when, and the new ones that are being answered.

    Attributes:
        seconds: how long a request is new.
        is_service: whether requests come from a service, such as Cloud Tasks, which has limits of its own.
        free_at: when the requests so far would have come, had the caller sent one in each ``_OFTEN_SECONDS``.
    """

    seconds: float
    is_service: bool
    free_at: float = 0.0
    waiting: deque[tuple[Any, float]] = field(default_factory=deque)
    new: deque[Ticket] = field(default_factory=deque)

    def put(self, request: Any, now: float) -> None:
        """Add a request."""
        self.waiting.append((request, now))
        # No more than twice the burst is remembered, so that who has asked too often may soon ask as before.
        self.free_at = min(max(self.free_at, now) + _OFTEN_SECONDS, now + 2 * _BURST * _OFTEN_SECONDS)

    def may_begin(self, now: float) -> bool:
        """Return whether one more request may be answered."""
        if self.is_service:
            return True
        while self.new and (self.new[0].ended or now - self.new[0].began >= self.seconds):
            self.new.popleft()
        return sum(not ticket.ended for ticket in self.new) < (1 if self.asks_often(now) else _NEW_AT_A_TIME)

    def asks_often(self, now: float) -> bool:
        """Return whether the caller has sent more requests than a page sends when it opens."""
        return not self.is_service and self.free_at - now > _BURST * _OFTEN_SECONDS


class FairQueue:
    """The requests of one process that wait for a thread. Its one user is the worker's loop: it has no lock.

    Args:
        threads: requests that are answered at a time.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._answered = 0
        self._lines: dict[str, _Line] = {}
        self._most = _REMEMBERED
        # Callers whose requests wait. The one that was served longest ago is first.
        self._turns: OrderedDict[str, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def put(self, caller: str, request: Any, now: float) -> None:
        """Add a request.

        Args:
            caller: a user's id; ``NOBODY`` or ``NEWCOMERS`` for strangers, each of which are one caller; a service's
                begins with ``SERVICE``.
        """
        line = self._lines.get(caller)
        if line is None:
            if len(self._lines) >= self._most:
                self._lines = {name: each for name, each in self._lines.items() if each.waiting or each.free_at > now}
                self._most = max(_REMEMBERED, 2 * len(self._lines))
            is_service = caller.startswith(SERVICE)
            line = self._lines[caller] = _Line(
                _STRANGERS_NEW_SECONDS if caller in STRANGERS else NEW_SECONDS, is_service
            )
        line.put(request, now)
        self._turns.setdefault(caller)

    def take(self, now: float) -> tuple[Any, Ticket] | None:
        """Return the request to answer next, if one may be answered now. End its ticket with :meth:`end`."""
        if self._answered >= self._threads:
            return None
        caller = next((each for each in self._turns if self._lines[each].may_begin(now)), None)
        if caller is None:
            return None
        line = self._lines[caller]
        request, _ = line.waiting.popleft()
        # A user who asks one thing after the other gives way to nobody, however fast they ask.
        gives_way = line.asks_often(now) and (caller in STRANGERS or bool(line.waiting))
        ticket = Ticket(line, now, gives_way)
        line.new.append(ticket)
        self._answered += 1
        self._turns.move_to_end(caller)
        if not line.waiting:
            del self._turns[caller]
        return request, ticket

    def end(self, ticket: Ticket) -> None:
        """Note that a thread is free. A ticket that has ended before stays as it is."""
        if not ticket.ended:
            ticket.ended = True
            self._answered -= 1

    def late(self, until: float) -> Iterator[Any]:
        """Take and return the requests that have waited since ``until`` or longer."""
        for caller in list(self._turns):
            waiting = self._lines[caller].waiting
            while waiting and waiting[0][1] <= until:
                yield waiting.popleft()[0]
            if not waiting:
                del self._turns[caller]
