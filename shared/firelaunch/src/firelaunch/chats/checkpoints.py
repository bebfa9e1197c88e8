"""Store the progress of running answers in their requests' records, for clients that resume or stop an answer.

A checkpoint is a write with the precondition that nobody else changed the record. When any instance writes a request to
stop there, the next checkpoint fails and so notices it, at no extra cost. One thread takes the checkpoints of all
running answers of a process, many in one commit: a commit for each would cost more than relaying the answers does.
:mod:`firelaunch.turns.resume` reads the checkpoints.

An answer in a group's chat ends once its writer is no member any more. Its checkpoints depend on the membership, so a
removal makes the next one fail, too. Its settlement does not: the cost is owed, and the text so far is the group's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from ..errors import FirelaunchError, NotFound, PreconditionFailed, StoreError
from ..store.base import Document, Update, Verify
from ..store.guard import Guard
from ..store.scoped import ScopedStore
from .transcript import Transcript

__all__ = ["Checkpointer", "Checkpoints", "MemberLeft", "Stopped"]

log = logging.getLogger(__name__)

_BATCH = 100
"""The most checkpoints in one commit."""

_CHECKPOINT_BYTES, _BATCH_BYTES = 1_000_000, 8_000_000
"""The most bytes of one checkpoint and of one commit. Firestore takes 1 MiB a document and 10 MiB a commit
(https://firebase.google.com/docs/firestore/quotas)."""

_IDLE_SECONDS = 30.0
"""Seconds for which the thread outlives the last answer."""


class Stopped(Exception):
    """The client asked to stop the answer. Its text so far is stored and billed."""


class MemberLeft(Stopped):
    """The user whose message is answered is no member of the group any more. The text so far is stored and billed."""


class Checkpoints:
    """The checkpoints of one running answer. They are taken between ``begin`` and ``end``.

    Args:
        record: the path of the request's record.
        updated_at: the time at which this turn wrote the record.
        expires_at: the time of expiry that this turn wrote. It shows whether the record still belongs to this turn: if
            the turn expires and the message is sent again, the new turn writes another time.
        guard: the membership of the user whose message is answered, in a group's chat.

    Attributes:
        abandoned: whether the client gave up waiting for the answer, and nobody has asked for it again.
        of_nobody: whether the user was erased meanwhile. The group that pays still owes the answer's cost.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        record: str,
        updated_at: datetime,
        expires_at: datetime,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._member = None if guard is None else guard.member
        self._checkpointer = checkpointer
        self.record = record
        self._expires_at = expires_at
        self._transcript = Transcript()
        self._length = 0
        self._failure: Exception | None = None
        self._stop_at: datetime | None = None
        self._unsaved = self._saving = False
        self.abandoned = self.of_nobody = False
        self.updated_at = updated_at

    def begin(self, transcript: Transcript) -> None:
        """Start to store ``transcript`` as it grows."""
        self._transcript = transcript
        self._checkpointer.add(self)

    def end(self) -> None:
        """Stop storing the transcript. A checkpoint that is under way may still be written; see :meth:`reread`."""
        self._checkpointer.remove(self)

    def abandon(self, until: datetime | None) -> None:
        """Note that the client gave up waiting.

        Args:
            until: when to stop the answer, unless somebody asks for it again before. None lets it go on to its end.
        """
        self.abandoned, self._stop_at, self._unsaved = True, until, until is not None

    def look(self) -> None:
        """Raise the error that the last checkpoint ran into, if any.

        Raises:
            Stopped: somebody asked to stop the answer.
            PreconditionFailed: the record belongs to another turn by now.
        """
        if self._failure is not None:
            raise self._failure
        if self._stop_at is not None and datetime.now(UTC) >= self._stop_at:
            raise Stopped

    def reread(self) -> bool:
        """Read the record again, and return whether it is settled, as when a commit's acknowledgement was lost.

        If it is not settled, the next write's precondition is the record as it is now.

        Raises:
            Stopped: somebody asked to stop the answer.
            PreconditionFailed: the record belongs to another turn by now.
        """
        record = self._checkpointer.store.get(self.record)
        data = {} if record is None else record.data
        if data.get("state") == "settled":
            return True
        if record is None or data.get("expires_at") != self._expires_at:
            raise PreconditionFailed(reason="the request's record changed under its turn")
        stop, changed = data.get("stop"), record.update_time != self.updated_at
        self.of_nobody = self._guard is not None and "writer" not in data
        # From now on this change of the record is known, so the request to stop is raised only once.
        self.updated_at = record.update_time
        if not changed:
            return False
        # A time is that of an answer whose client gave up. Whoever asks for the answer again takes it out.
        self.abandoned, self._stop_at = isinstance(stop, datetime), stop if isinstance(stop, datetime) else None
        self._unsaved = False
        if stop is True:
            raise Stopped
        return False

    # The checkpointer calls the rest of these, from its thread.

    @property
    def conditions(self) -> list[Verify]:
        """The conditions that the membership is unchanged and its group not deleted; none for a user's own chat."""
        if self._guard is None or self._member is None:
            return []
        return [Verify(self._member.path, self._member.update_time), Verify(self._guard.fence, None)]

    @property
    def watched(self) -> list[str]:
        """The paths of the documents to look at: the request's record, and those of the membership."""
        return [self.record, *([] if self._guard is None else self._guard.paths)]

    @property
    def grown(self) -> bool:
        """Whether there is more to store than at the last checkpoint."""
        return self._unsaved or len(self._transcript) != self._length

    @property
    def size(self) -> int:
        """The approximate bytes of the next checkpoint."""
        return self._transcript.size

    def next(self) -> tuple[Update, int]:
        """Return the next checkpoint's write, and the number of the answer's pieces in it."""
        partial, count = self._transcript.partial()
        # Stored, so that another instance can take it back.
        self._saving = self._unsaved
        stop = {"stop": self._stop_at} if self._saving else {}
        return Update(self.record, {"partial": partial, **stop}, if_updated_at=self.updated_at), count

    def took(self, count: int, at: datetime) -> None:
        """Note that a checkpoint with ``count`` pieces was committed at ``at``."""
        self._length, self.updated_at = count, at
        self._unsaved = self._unsaved and not self._saving

    def compare(self, watched: Sequence[Document | None]) -> None:
        """Compare the record and the membership as they are now with those that this turn knows, and react."""
        record, *of_group = watched
        self._learn(of_group)
        if record is None or record.update_time != self.updated_at:
            self.was_changed()

    def was_changed(self) -> None:
        """React to somebody else's write to the record: keep its meaning for :meth:`look`, which the turn calls."""
        try:
            self.reread()
            if self._guard is not None:
                self._learn(self._checkpointer.store.get_many(self._guard.paths))
        except (Stopped, PreconditionFailed) as failure:
            self._failure = failure
        except StoreError as error:
            log.warning("no checkpoint: %s", error)

    def _learn(self, of_group: Sequence[Document | None]) -> None:
        """Take the membership as it is now. One that has changed still lets the answer go on."""
        if self._guard is None:
            return
        member = self._guard.member_of(of_group)
        if member is None:
            self._failure = MemberLeft()
        else:
            self._member = member


class Checkpointer:
    """Takes the checkpoints of all running answers of a process.

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
        """Start to take an answer's checkpoints."""
        with self._changed:
            self._running[id(checkpoints)] = checkpoints
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()
            elif len(self._running) == 1:
                self._changed.notify()

    def remove(self, checkpoints: Checkpoints) -> None:
        """Stop taking an answer's checkpoints."""
        with self._changed:
            self._running.pop(id(checkpoints), None)

    def take(self) -> None:
        """Take one checkpoint of each answer that has grown, and read the records of the others.

        An answer that is too large for a document is only read: its write would make the whole commit fail.
        """
        with self._changed:
            running = list(self._running.values())
        grown = {answer for answer in running if answer.grown and answer.size <= _CHECKPOINT_BYTES}
        for batch in _batches(grown):
            self._write(batch)
        for batch in _batches([answer for answer in running if answer not in grown]):
            self._look(batch)

    def _run(self) -> None:
        stop = threading.Event()
        while True:
            stop.wait(self._every)
            try:
                self.take()
            except Exception:
                log.exception("checkpoints could not be taken")
            with self._changed:
                if not self._running and not self._changed.wait_for(lambda: bool(self._running), _IDLE_SECONDS):
                    self._thread = None
                    return

    def _write(self, batch: list[Checkpoints]) -> None:
        writes = [answer.next() for answer in batch]
        # Several answers may be those of one member.
        conditions = {each.path: each for answer in batch for each in answer.conditions}
        try:
            at = self.store.commit([*conditions.values(), *(write for write, _ in writes)])
        except (PreconditionFailed, NotFound):
            if len(batch) == 1:
                batch[0].was_changed()
                return
            # One answer of the batch was just stopped or settled, which makes the whole commit fail. Write each alone.
            for answer in batch:
                self._write([answer])
        except FirelaunchError as error:
            # Checkpoints are a convenience, so an answer goes on without them.
            log.warning("no checkpoints: %s", error)
        else:
            for answer, (_, count) in zip(batch, writes, strict=True):
                answer.took(count, at)

    def _look(self, batch: list[Checkpoints]) -> None:
        try:
            paths = list(dict.fromkeys(path for answer in batch for path in answer.watched))
            found = dict(zip(paths, self.store.get_many(paths), strict=True))
        except FirelaunchError as error:
            log.warning("no look at running requests: %s", error)
            return
        for answer in batch:
            answer.compare([found[path] for path in answer.watched])


def _batches(answers: Iterable[Checkpoints]) -> Iterator[list[Checkpoints]]:
    batch: list[Checkpoints] = []
    size = 0
    for answer in answers:
        size += answer.size
        if batch and (len(batch) == _BATCH or size > _BATCH_BYTES):
            yield batch
            batch, size = [], answer.size
        batch.append(answer)
    if batch:
        yield batch
