"""Answers that were given before, to exactly the same question, kept in this process for a while.

Whose question it was is part of the key (:mod:`.cache_key`), so an answer reaches nobody else. Equal questions that
come at the same time are asked once: those that come second wait for the first one's answer.
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
from .types import Chunk

__all__ = ["AnswerCache", "BoundedCache", "OwnedAnswers"]

V = TypeVar("V")
_TICK = 0.25
"""Seconds between two looks at whether to wait on."""
_OVERHEAD = 300
"""Bytes that an entry takes beside its value, about."""


class BoundedCache(Generic[V]):
    """Keeps values for a time, the latest used of them, within a number of entries and of bytes. For many threads.

    Args:
        seconds, entries, size: how long, how many, and how many bytes in all.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self, seconds: float, entries: int, size: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        # Each entry takes its share at least, so that the bound on bytes bounds their number too.
        share = -(-size // entries)
        self._kept: TTLCache[str, tuple[V, int]] = TTLCache(
            size, seconds, timer=monotonic, getsizeof=lambda entry: max(entry[1] + _OVERHEAD, share)
        )
        self._size = size
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        """The value, if it is there and not too old."""
        with self._lock:
            found = self._kept.get(key)
            return None if found is None else found[0]

    def put(self, key: str, value: V, size: int) -> None:
        """Keep ``value``, which takes ``size`` bytes; one that is larger than all the room is not kept."""
        if size + _OVERHEAD <= self._size:
            with self._lock:
                self._kept[key] = (value, size)

    def __len__(self) -> int:
        with self._lock:
            self._kept.expire()
            return len(self._kept)


@dataclass(slots=True)
class _Flight:
    landed: threading.Event = field(default_factory=threading.Event)
    kept: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    finish: str | None


class OwnedAnswers:
    """The answers of one owner in a cache of many: its keys are its own, whatever they are."""

    def __init__(self, cache: AnswerCache, owner: Scope) -> None:
        self.__cache = cache
        self.__owner = Scope.plain(owner)

    def of(self, owner: Scope) -> OwnedAnswers:
        """Itself, or what the app's users share.

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
        """See :meth:`AnswerCache.answer`."""
        return self.__cache.answer(f"{self.__owner.root}\n{key}", ask, hit=hit, tick=tick, keep=keep)


class AnswerCache:
    """One per process. See :class:`BoundedCache` for the arguments."""

    def __init__(
        self, seconds: float, entries: int, size: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._answers: BoundedCache[_Answer] = BoundedCache(seconds, entries, size, monotonic)
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def of(self, owner: Scope) -> OwnedAnswers:
        """The answers of one owner."""
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
        """The answer that is kept under ``key``, in one piece; else what ``ask`` gives, kept when it came to its end.

        Args:
            hit: called before an answer is given that no model was called for.
            tick: called several times a second while another's answer is awaited; raises what is to end that.
            keep: whether a whole answer is worth keeping.
        """
        while True:
            with self._lock:
                found = self._answers.get(key)
                flight = self._flights.get(key)
                if found is None and flight is None:
                    mine = self._flights[key] = _Flight()
                    break
            if found is not None:
                hit()
                yield Chunk(found.text, finish=found.finish)
                return
            while flight is not None and not flight.landed.wait(_TICK):
                tick()
            if flight is not None and not flight.kept:
                # That answer failed, or its client left. Each goes alone now, as waiting in line would add up.
                yield from ask()
                return
        yield from self._first(key, mine, ask(), keep)

    def _first(
        self, key: str, flight: _Flight, chunks: Iterator[Chunk], keep: Callable[[str], bool]
    ) -> Iterator[Chunk]:
        said: list[str] = []
        finish = None
        try:
            for chunk in chunks:
                said.append(chunk.text)
                finish = chunk.finish or finish
                yield chunk
            text = "".join(said)
            if finish == "stop" and keep(text):
                self._answers.put(key, _Answer(text, finish), len(text.encode("utf-8", "replace")))
                flight.kept = self._answers.get(key) is not None
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
