"""Observe commits: add writes that follow from them, such as the jobs of handlers that a changed document sets off.

In the cloud, Eventarc tells an app what was written. Elsewhere nobody does, so there an observer stands behind
:class:`.scoped.ScopedStore`. What it adds is in the same commit, so it is stored if and only if the change is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from .base import Create, Delete, Document, Set, Update, Verify, Write
from .changes import apply_set, apply_update

__all__ = ["DocumentChange", "Observer", "changes_of"]


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """A document's fields before and after a commit; None if it does not exist then.

    If another commit changes the document at the same moment, ``before`` may lack what that one did.
    """

    path: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class Observer(Protocol):
    """Adds writes to commits."""

    def watches(self, path: str) -> bool:
        """Return whether changes of this document are of interest."""

    def writes(self, changes: Sequence[DocumentChange]) -> Sequence[Write]:
        """Return the writes that go into the commit of ``changes``. A commit that is tried again asks again."""


def changes_of(
    writes: Sequence[Write],
    watches: Callable[[str], bool],
    read: Callable[[Sequence[str]], Sequence[Document | None]],
    known: Mapping[str, Document | None],
) -> list[DocumentChange]:
    """Return how ``writes`` change the documents that are watched. Documents that stay as they are, are left out.

    Args:
        read: reads documents.
        known: documents that were read before.
    """
    changing = [write for write in writes if not isinstance(write, Verify) and watches(write.path)]
    paths = list(dict.fromkeys(write.path for write in changing))
    unknown = [path for path in paths if path not in known]
    documents = {**known, **dict(zip(unknown, read(unknown), strict=True))} if unknown else known
    before = {path: _fields(documents[path]) for path in paths}
    after, moment = dict(before), datetime.now(UTC)
    for write in changing:
        after[write.path] = _applied(write, after[write.path], moment)
    return [DocumentChange(path, before[path], after[path]) for path in paths if before[path] != after[path]]


def _fields(document: Document | None) -> dict[str, Any] | None:
    return None if document is None else dict(document.data)


def _applied(write: Write, data: dict[str, Any] | None, moment: datetime) -> dict[str, Any] | None:
    match write:
        case Delete():
            return None
        case Update():
            return apply_update(data or {}, write.data, moment)
        case Set(merge=True):
            return apply_set(data or {}, write.data, moment)
        case Create() | Set():
            return apply_set({}, write.data, moment)
    return data
