"""Cache answers in this process for a while, and reuse them for exactly the same question.

The owner is part of the key (:mod:`.cache_key`), so an answer reaches nobody else. If equal questions come at the same
time, the model is called once and the others wait for that answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import TTLCache

from ..errors import ScopeViolation
from ..scope import Scope
from .finish import Finish
from .types import Chunk

__all__ = ["AnswerCache", "BoundedCache", "OwnedAnswers"]

V = TypeVar("V")
_TICK = 0.25
"""Seconds between two checks of whether to go on waiting."""
_OVERHEAD = 300
"""Bytes that an entry takes in addition to its value, roughly."""


class BoundedCache(Generic[V]):
    """A cache of recently used values, limited in time, entries and bytes. Safe for many threads.

    Args:
        seconds, entries, size: how long, how many, and how many bytes in all.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self, seconds: float, entries: int, size: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        # Each entry counts at least its share of the bytes, so that the limit on bytes also limits the entries.
        share = -(-size // entries)
        self._entries: TTLCache[str, tuple[V, int]] = TTLCache(
            size, seconds, timer=monotonic, getsizeof=lambda entry: max(entry[1] + _OVERHEAD, share)
        )
        self._size = size
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        """Return the value of ``key``; None if there is none or it is too old."""
        with self._lock:
            entry = self._entries.get(key)
            return None if entry is None else entry[0]

    def put(self, key: str, value: V, size: int) -> None:
        """Keep ``value``, which takes ``size`` bytes, unless it is larger than the whole cache."""
        if size + _OVERHEAD <= self._size:
            with self._lock:
                self._entries[key] = (value, size)

    def __len__(self) -> int:
        with self._lock:
            self._entries.expire()
            return len(self._entries)


@dataclass(slots=True)
class _Flight:
    """A question that the model is being asked now; ``landed`` is set when the answer has ended."""

    landed: threading.Event = field(default_factory=threading.Event)
    cached: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    finish: Finish | None


class OwnedAnswers:
    """One owner's answers in a shared cache. The owner is part of every key."""

    def __init__(self, cache: AnswerCache, owner: Scope) -> None:
        self.__cache = cache
        self.__owner = Scope.plain(owner)

    def of(self, owner: Scope) -> OwnedAnswers:
        """Return the owner's answers, or those that the app's users share.

        Raises:
            ScopeViolation: ``owner`` is somebody else.
        """
        own = Scope.plain(owner)
        if own not in {self.__owner, Scope(self.__owner.app_id)}:
            raise ScopeViolation(reason=f"the answers of {self.__owner.root} were asked for those of {own.root}")
        return self.__cache.of(own)

    def answer(
        self,
        key: str,
        ask: Callable[[], Iterator[Chunk]],
        *,
        hit: Callable[[], None],
        tick: Callable[[], None],
        keep: Callable[[str], bool] = bool,
    ) -> Iterator[Chunk]:
        """Yield the owner's cached answer, or ask for it.

        :meth:`AnswerCache.answer` explains the arguments.
        """
        return self.__cache.answer(f"{self.__owner.root}\n{key}", ask, hit=hit, tick=tick, keep=keep)


class AnswerCache:
    """The cached answers of a process. Create one for each process.

    :class:`BoundedCache` explains the arguments.
    """

    def __init__(
        self, seconds: float, entries: int, size: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._answers: BoundedCache[_Answer] = BoundedCache(seconds, entries, size, monotonic)
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def of(self, owner: Scope) -> OwnedAnswers:
        """Return the answers of one owner."""
        return OwnedAnswers(self, owner)

    def answer(
        self,
        key: str,
        ask: Callable[[], Iterator[Chunk]],
        *,
        hit: Callable[[], None],
        tick: Callable[[], None],
        keep: Callable[[str], bool] = bool,
    ) -> Iterator[Chunk]:
        """Yield the cached answer of ``key`` in one piece, or the chunks of ``ask``.

        A new answer is cached if it came to its end.

        Args:
            hit: called before a cached answer is given, for which no model was called.
            tick: called several times a second while another request's answer is awaited; raises what should end the
                wait.
            keep: returns whether a whole answer is worth caching.
        """
        while True:
            with self._lock:
                answer = self._answers.get(key)
                flight = self._flights.get(key)
                if answer is None and flight is None:
                    own_flight = self._flights[key] = _Flight()
                    break
            if answer is not None:
                hit()
                yield Chunk(answer.text, finish=answer.finish)
                return
            while flight is not None and not flight.landed.wait(_TICK):
                tick()
            if flight is not None and not flight.cached:
                # That answer failed, or its client left. All waiters ask for themselves: waits in turn would add up.
                yield from ask()
                return
        yield from self._ask_and_keep(key, own_flight, ask(), keep)

    def _ask_and_keep(
        self, key: str, flight: _Flight, chunks: Iterator[Chunk], keep: Callable[[str], bool]
    ) -> Iterator[Chunk]:
        """Yield the chunks of a first call, cache a whole answer, and wake the callers that wait for it."""
        texts: list[str] = []
        finish: Finish | None = None
        try:
            for chunk in chunks:
                texts.append(chunk.text)
                finish = chunk.finish or finish
                yield chunk
            text = "".join(texts)
            # Cache only whole answers, not those that were cut short or refused.
            if finish == "stop" and keep(text):
                self._answers.put(key, _Answer(text, finish), len(text.encode("utf-8", "replace")))
                flight.cached = self._answers.get(key) is not None
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
