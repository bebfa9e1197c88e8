"""Let a request reach a group's data as long as its user is a member of the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import AlreadyExists, NotFound, PreconditionFailed
from .base import Document, DocumentStore, Query, Verify

__all__ = ["Guard"]

T = TypeVar("T")

_TRIES = 8


class Guard:
    """One user's membership of a group, for one request.

    The membership is read in the same round trip as what the request reads first. Each commit succeeds only if the
    membership is still the one that allowed it, so a removal holds at once.

    Args:
        path: the path of the membership's document.
        check: raises an error if the document, or None, does not let its user read, or (if its second argument is
            True) write.
        writes: whether the request is to write, so that its first read already checks that it may.
    """

    def __init__(self, path: str, check: Callable[[Document | None, bool], None], *, writes: bool = False) -> None:
        self.path = path
        self.check = check
        self._writes = writes
        self._member: Document | None = None

    @property
    def member(self) -> Document | None:
        """The membership as it was read last; None before the first read."""
        return self._member

    def read(
        self, store: DocumentStore, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Return what ``store.read`` returns for ``paths`` and ``queries``, after checking the membership."""
        if self._member is not None:
            return store.read(paths, queries)
        [member, *documents], found = store.read([self.path, *paths], queries)
        self._learn(member, self._writes)
        return documents, found

    def commit(self, store: DocumentStore, commit: Callable[[list[Verify]], T]) -> T:
        """Call ``commit`` with the condition to commit under, and return its result."""
        if self._member is None:
            self._learn(store.get(self.path), True)
        for _ in range(_TRIES):
            member = self._member
            self.check(member, True)
            condition = Verify(self.path, None if member is None else member.update_time)
            try:
                return commit([condition])
            except (AlreadyExists, NotFound, PreconditionFailed):
                latest = store.get(self.path)
                if latest is not None and member is not None and latest.update_time == member.update_time:
                    raise  # the membership held, so one of the commit's own conditions failed
                self._learn(latest, True)
        raise PreconditionFailed(reason=f"{self.path} changed again and again")

    def _learn(self, member: Document | None, writes: bool) -> None:
        self._member = None
        self.check(member, writes)
        self._member = member
