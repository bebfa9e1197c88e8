"""How far a running answer is, in the record of its request: what a client resumes from, and where a stop arrives.

A checkpoint is a commit whose precondition is that nobody else changed the record. So a stop that any instance writes
there is noticed by the next checkpoint, at no cost of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .errors import PreconditionFailed, StoreError
from .store.base import Document, Update
from .store.scoped import ScopedStore

__all__ = ["Checkpoints", "Stopped"]

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The client asked for the answer's end; what was said until then is kept and paid."""


class Checkpoints:
    """Those of one running answer.

    Args:
        record: path of the request's record.
        updated_at, expires_at: the record's, as this turn wrote it. By the second it knows that the record is still its
            own: a repeated send of the same message, after this one ran out, writes another.
        every: seconds between two checkpoints.
    """

    def __init__(
        self, store: ScopedStore, record: str, updated_at: datetime, expires_at: datetime, every: float
    ) -> None:
        self._store = store
        self._record = record
        self._expires_at = expires_at
        self._every = every
        self._last = time.monotonic()
        self._length = 0
        self.updated_at = updated_at

    def take(self, said: Sequence[str]) -> None:
        """Store what was ``said``, if the last checkpoint is long enough ago.

        Raises:
            Stopped: somebody asked for the end.
            PreconditionFailed: the record is another turn's by now.
        """
        if time.monotonic() - self._last < self._every:
            return
        try:
            if len(said) == self._length:
                self._look()
            else:
                update = Update(self._record, {"partial": "".join(said)}, if_updated_at=self.updated_at)
                self.updated_at = self._store.commit([update])
                self._length = len(said)
        except PreconditionFailed:
            self.reread()
        except StoreError as error:
            # A checkpoint is a convenience; an answer does not end for want of one.
            log.warning("no checkpoint: %s", error)
        self._last = time.monotonic()

    def reread(self) -> bool:
        """Whether the record is settled, as when a commit's acknowledgement was lost; else take it up as it is now.

        Raises:
            Stopped: somebody asked for the end.
            PreconditionFailed: the record is another turn's by now.
        """
        record = self._store.get(self._record)
        data: Any = {} if record is None else record.data
        if data.get("state") == "settled":
            return True
        if record is None or data.get("expires_at") != self._expires_at:
            raise PreconditionFailed(reason="the request's record changed under its turn")
        stopped = bool(data.get("stop")) and record.update_time != self.updated_at
        self.updated_at = record.update_time
        if stopped:
            raise Stopped
        return False

    def _look(self) -> None:
        record: Document | None = self._store.get(self._record)
        if record is None or record.update_time != self.updated_at:
            raise PreconditionFailed
