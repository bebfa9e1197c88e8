"""Lock an account's claims, so that one writer at a time changes them, across all instances of the function.

The directory can only replace all claims at once. Without the lock, the later of two writers would undo the earlier.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ..store.base import Create, Delete, DocumentStore, Update

__all__ = ["Locks", "MemberLock"]

LEASE_SECONDS = 120.0
WRITE_SECONDS = 60.0
"""Seconds of the lease that must remain when a write begins: longer than firebase-admin tries (10 s for each of five
tries)."""

WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class MemberLock:
    """The right to write until a time. ``taken`` is the lock document's ``update_time``."""

    until: datetime
    taken: datetime
    clock: Callable[[], datetime]

    def check(self) -> None:
        """Raise an error if a write that begins now might end after the lease.

        Raises:
            Contention: too little of the lease remains.
        """
        if self.until - self.clock() < timedelta(seconds=WRITE_SECONDS):
            raise Contention(reason="the lock's lease ran down before the write", retry_after=5)


class Locks:
    """Locks by name, as documents of ``collection``. A lock that a crash left behind can be taken after its lease."""

    def __init__(self, store: DocumentStore, collection: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._collection = collection
        self._clock = clock

    @contextmanager
    def hold(self, name: str) -> Iterator[MemberLock]:
        """Hold the lock of ``name`` while the block runs. The name must be valid as a part of a path.

        Raises:
            Contention: others held the lock for 20 seconds.
        """
        path = f"{self._collection}/{name}"
        lease = self._acquire(path)
        try:
            yield lease
        finally:
            # If the document has changed, the lease had run out and another writer holds the lock.
            with suppress(PreconditionFailed, NotFound):
                self._store.commit([Delete(path, if_updated_at=lease.taken)])

    def _acquire(self, path: str) -> MemberLock:
        give_up = time.monotonic() + WAIT_SECONDS
        pause = 0.02
        while (lease := self._try(path)) is None:
            if time.monotonic() > give_up:
                raise Contention("This account is being changed by others; try again.", retry_after=5)
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads waiters, guards nothing
            pause = min(pause * 2, 0.5)
        return lease

    def _try(self, path: str) -> MemberLock | None:
        until = self._clock() + timedelta(seconds=LEASE_SECONDS)
        try:
            return MemberLock(until, self._store.commit([Create(path, {"until": until})]), self._clock)
        except (AlreadyExists, Contention):
            held = self._store.get(path)
        if held is None or held.data["until"] > self._clock():
            return None
        try:
            taken = self._store.commit([Update(path, {"until": until}, if_updated_at=held.update_time)])
        except (PreconditionFailed, NotFound, Contention):
            return None
        return MemberLock(until, taken, self._clock)
