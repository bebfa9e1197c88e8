"""The port to an index of chunks. Each operation is of one scope: a user's own entries, or the app's library.

``Scope(app_id, uid)`` is one user of an app, ``Scope(app_id)`` the app's library, which its users may search beside
what is theirs. An index version names how its entries were made (chunker, embedder); no query reads two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...scope import Scope
from ...store.fence import Fence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]

__all__ = ["GENERATION", "LIBRARY", "Entry", "Hit", "Index", "Where", "owner_of", "scopes_of"]

LIBRARY: Final = "library"
"""The owner of what all users of an app may search. Users are "user:<uid>", so none can be called this."""

GENERATION: Final = "generation"
"""In an entry's place: the generation of its document's content that it was made from."""

Where = Mapping[str, Sequence[str]]
"""A filter: for each tag the values that will do. The name "document" stands for the entry's document."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk as an index keeps it.

    Args:
        id: unique in its scope and version. The same id again replaces what was there.
        document: the document it comes from.
        text: what is searched, and shown to the model.
        vector: its embedding of any length but zero; None where it is to be found by its words alone.
        tags: what queries may filter by.
        place: where in the document it lies (page, headings, span); JSON values, kept as they are.
    """

    id: str
    document: str
    text: str
    vector: Vector | None = field(default=None, compare=False, repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that was found (without its vector, unless it was read), and whose it is by the index's own word.

    ``score`` is the cosine of the two vectors (-1 to 1) from ``nearest``, and a figure that only orders the hits of one
    query (larger is better) from ``matching``. The entry of an ``unread`` hit is without its text and its place.
    """

    app_id: str
    owner: str
    version: str
    entry: Entry
    score: float
    unread: bool = False


def owner_of(scope: Scope) -> str:
    """Whose entries a scope holds: "user:<uid>", or ``LIBRARY``."""
    return LIBRARY if scope.uid is None else f"user:{scope.uid}"


def scopes_of(scope: Scope, library: bool) -> list[Scope]:
    """The scopes that a query in ``scope`` reads: its own and, with ``library``, the app's library."""
    return [scope, Scope(scope.app_id)] if library and scope.uid is not None else [scope]


class Index(Protocol):
    """What every adapter does. All methods may be called from many threads.

    ``has_words`` says whether ``matching`` works here; where it is False, calling it raises IndexFailed.

    Raises (every method): IndexFailed, and IndexUnavailable where another try may help.
    """

    has_words: bool

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries. Repeating it changes nothing; broken off, it may have written some of them.

        Args:
            fence: what the write depends on: no entry lands once the document's record forbids it. An index that can
                make that certain by no means writes the entries, and they are told by their generation
                (:mod:`firelaunch.documents.catalog`) when they are found.

        Raises:
            IndexFailed: a vector is not of the length of those that are there.
            PreconditionFailed: the record changed. Check the fence, and try again.
            Fenced: the record forbids the write.
        """

    def delete(
        self,
        scope: Scope,
        document: str | None = None,
        *,
        version: str | None = None,
        ids: Collection[str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove the entries of a document, or of the whole scope; of one version, or of all.

        Args:
            ids: of the document and version, these entries alone. One that is not there does no harm.
            fence: what the removal depends on, as with ``upsert``. No index removes what was written after the fence
                was raised.
        """

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """The ``k`` entries whose vectors are nearest by cosine, best first."""

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,
    ) -> list[Hit]:
        """The ``k`` entries that match the query's words best, best first.

        Args:
            texts: False where an index may leave hits unread, since it would pay for each; see :meth:`texts`.
        """

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """Hits of a query in ``scope``, in their order: the unread ones read, and without those that are gone."""

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """All entries of one document with their vectors, in no order; the scores mean nothing."""

    def count(self, scope: Scope, version: str) -> int:
        """How many entries the scope itself holds."""

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version of all of an app's users and of its library."""

    def close(self) -> None:
        """Let go of connections and memory; nothing may be called afterwards."""
