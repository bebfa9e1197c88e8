"""Let a request reach a group's data as long as its user is a member of the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ..errors import AlreadyExists, NotFound, PreconditionFailed
from .base import Document, DocumentStore, Query, Verify

__all__ = ["Guard"]

T = TypeVar("T")

_TRIES = 8


class Guard:
    """One user's membership of a group, for one request.

    The membership is read in the same round trip as what the request reads first, and so is the group's fence, which
    its deletion raises. Each commit succeeds only if the membership is still the one that allowed it, and the fence is
    not raised. So a removal holds at once, and so does a deletion: memberships outlive it until a job removes them.

    Args:
        path: the path of the membership's document.
        fence: the path of the document that exists from the group's deletion on (:mod:`.fence`).
        check: raises an error if the document, or None, does not let its user read, or (if its second argument is
            True) write.
        writes: whether the request is to write, so that its first read already checks that it may.
    """

    def __init__(
        self, path: str, fence: str, check: Callable[[Document | None, bool], None], *, writes: bool = False
    ) -> None:
        self.path = path
        self.fence = fence
        self.check = check
        self._writes = writes
        self._member: Document | None = None

    @property
    def member(self) -> Document | None:
        """The membership as it was read last; None before the first read."""
        return self._member

    @property
    def paths(self) -> tuple[str, str]:
        """The paths of the documents that :meth:`member_of` takes."""
        return self.path, self.fence

    @staticmethod
    def member_of(documents: Sequence[Document | None]) -> Document | None:
        """Return the membership, of the documents at :attr:`paths`; None if there is none, or the group is deleted."""
        member, fence = documents
        return member if fence is None else None

    def read(
        self, store: DocumentStore, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        """Return what ``store.read`` returns for ``paths`` and ``queries``, after checking the membership."""
        if self._member is not None:
            return store.read(paths, queries)
        documents, found = store.read([*self.paths, *paths], queries)
        self._learn(self.member_of(documents[:2]), self._writes)
        return documents[2:], found

    def commit(self, store: DocumentStore, commit: Callable[[list[Verify]], T]) -> T:
        """Call ``commit`` with the condition to commit under, and return its result.

        ``commit`` sees to the fence, as to those of users, and raises Fenced if it was raised since the first read.
        """
        if self._member is None:
            self._renew(store)
        for _ in range(_TRIES):
            member = self._member
            self.check(member, True)
            condition = Verify(self.path, None if member is None else member.update_time)
            try:
                return commit([condition])
            except (AlreadyExists, NotFound, PreconditionFailed):
                if self._renew(store) == (None if member is None else member.update_time):
                    raise  # the membership held, so one of the commit's own conditions failed
        raise PreconditionFailed(reason=f"{self.path} changed again and again")

    def _renew(self, store: DocumentStore) -> datetime | None:
        """Read the membership again for a write, check it, and return the time of its last change."""
        self._learn(self.member_of(store.get_many(self.paths)), True)
        return None if self._member is None else self._member.update_time

    def _learn(self, member: Document | None, writes: bool) -> None:
        self._member = None
        self.check(member, writes)
        self._member = member
