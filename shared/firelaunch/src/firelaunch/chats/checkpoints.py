"""How far running answers are, in the records of their requests: what a client resumes from, and where a stop arrives.

A checkpoint is a write whose precondition is that nobody else changed the record. So a stop that any instance writes
there is noticed by the next checkpoint, at no cost of its own. One thread takes the checkpoints of all answers that a
process is giving, many in one commit: a commit for each would cost more than relaying the answers does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime

from ..errors import FirelaunchError, NotFound, PreconditionFailed, StoreError
from ..store.base import Document, Update
from ..store.scoped import ScopedStore
from .transcript import Transcript

__all__ = ["Checkpointer", "Checkpoints", "Stopped"]

log = logging.getLogger(__name__)

_TOGETHER = 100
"""Checkpoints in one commit."""

_MOST_BYTES, _MOST_TOGETHER = 1_000_000, 8_000_000
"""Of one checkpoint and of a commit. Firestore takes 1 MiB a document and 10 MiB a commit
(https://firebase.google.com/docs/firestore/quotas)."""

_REST_SECONDS = 30.0
"""How long the thread outlives the last answer."""


class Stopped(Exception):
    """The client asked for the answer's end; what was said until then is kept and paid."""


class Checkpoints:
    """Those of one running answer: between ``begin`` and ``end`` they are taken.

    Args:
        record: path of the request's record.
        updated_at, expires_at: the record's, as this turn wrote it. By the second it knows that the record is still its
            own: a repeated send of the same message, after this one ran out, writes another.
    """

    def __init__(self, taker: Checkpointer, record: str, updated_at: datetime, expires_at: datetime) -> None:
        self._taker = taker
        self.record = record
        self._expires_at = expires_at
        self._said = Transcript()
        self._length = 0
        self._found: Exception | None = None
        self.updated_at = updated_at

    def begin(self, said: Transcript) -> None:
        """Have what is in ``said`` stored from now on, as it grows."""
        self._said = said
        self._taker.add(self)

    def end(self) -> None:
        """Have it stored no longer. A checkpoint that is under way may still arrive; see :meth:`reread`."""
        self._taker.remove(self)

    def look(self) -> None:
        """Say what the last checkpoint found.

        Raises:
            Stopped: somebody asked for the end.
            PreconditionFailed: the record is another turn's by now.
        """
        if self._found is not None:
            raise self._found

    def reread(self) -> bool:
        """Whether the record is settled, as when a commit's acknowledgement was lost; else take it up as it is now.

        Raises:
            Stopped: somebody asked for the end.
            PreconditionFailed: the record is another turn's by now.
        """
        record = self._taker.store.get(self.record)
        data = {} if record is None else record.data
        if data.get("state") == "settled":
            return True
        if record is None or data.get("expires_at") != self._expires_at:
            raise PreconditionFailed(reason="the request's record changed under its turn")
        stopped = bool(data.get("stop")) and record.update_time != self.updated_at
        self.updated_at = record.update_time
        if stopped:
            raise Stopped
        return False

    # What the taker calls, from its thread.

    @property
    def grown(self) -> bool:
        """Whether something was said since the last checkpoint."""
        return len(self._said) != self._length

    @property
    def size(self) -> int:
        """Bytes that the next checkpoint takes, about."""
        return self._said.size

    def next(self) -> tuple[Update, int]:
        """The write, and how many pieces of the answer are in it."""
        partial, count = self._said.partial()
        return Update(self.record, {"partial": partial}, if_updated_at=self.updated_at), count

    def took(self, count: int, at: datetime) -> None:
        """The write was committed."""
        self._length, self.updated_at = count, at

    def compare(self, record: Document | None) -> None:
        """Look at what the record is now, where nothing new was said."""
        if record is None or record.update_time != self.updated_at:
            self.was_changed()

    def was_changed(self) -> None:
        """Somebody else wrote to the record."""
        try:
            self.reread()
        except (Stopped, PreconditionFailed) as found:
            self._found = found
        except StoreError as error:
            log.warning("no checkpoint: %s", error)


class Checkpointer:
    """Takes the checkpoints of all of a process's answers.

    Args:
        every: seconds between two checkpoints of an answer.
    """

    def __init__(self, store: ScopedStore, every: float) -> None:
        self.store = store
        self._every = every
        self._running: dict[int, Checkpoints] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, checkpoints: Checkpoints) -> None:
        """Take this answer's checkpoints too."""
        with self._changed:
            self._running[id(checkpoints)] = checkpoints
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()
            elif len(self._running) == 1:
                self._changed.notify()

    def remove(self, checkpoints: Checkpoints) -> None:
        """Take this answer's no longer."""
        with self._changed:
            self._running.pop(id(checkpoints), None)

    def take(self) -> None:
        """One checkpoint of each answer that has grown, and a look at the records of the others.

        An answer that no document can hold is only looked at: it would have the whole commit refused.
        """
        with self._changed:
            running = list(self._running.values())
        grown = {one for one in running if one.grown and one.size <= _MOST_BYTES}
        for some in _batches(grown):
            self._write(some)
        for some in _batches([one for one in running if one not in grown]):
            self._look(some)

    def _run(self) -> None:
        stop = threading.Event()
        while True:
            stop.wait(self._every)
            try:
                self.take()
            except Exception:
                log.exception("checkpoints could not be taken")
            with self._changed:
                if not self._running and not self._changed.wait_for(lambda: bool(self._running), _REST_SECONDS):
                    self._thread = None
                    return

    def _write(self, some: list[Checkpoints]) -> None:
        writes = [one.next() for one in some]
        try:
            at = self.store.commit([write for write, _ in writes])
        except (PreconditionFailed, NotFound):
            if len(some) == 1:
                some[0].was_changed()
                return
            # One of them was stopped, or settled a moment ago, and has the whole commit refused.
            for one in some:
                self._write([one])
        except FirelaunchError as error:
            # A checkpoint is a convenience; an answer does not end for want of one.
            log.warning("no checkpoints: %s", error)
        else:
            for one, (_, count) in zip(some, writes, strict=True):
                one.took(count, at)

    def _look(self, some: list[Checkpoints]) -> None:
        try:
            records = self.store.get_many([one.record for one in some])
        except FirelaunchError as error:
            log.warning("no look at running requests: %s", error)
            return
        for one, record in zip(some, records, strict=True):
            one.compare(record)


def _batches(them: Iterable[Checkpoints]) -> Iterator[list[Checkpoints]]:
    batch: list[Checkpoints] = []
    size = 0
    for one in them:
        size += one.size
        if batch and (len(batch) == _TOGETHER or size > _MOST_TOGETHER):
            yield batch
            batch, size = [], one.size
        batch.append(one)
    if batch:
        yield batch
