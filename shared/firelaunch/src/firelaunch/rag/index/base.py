"""The port to an index of chunks. Each operation is limited to one scope: a user's own entries, or the app's library.

``Scope(app_id, uid)`` is one user of an app. ``Scope(app_id)`` is the app's library, which its users may search
together with their own entries. An index version names how its entries were made (chunker, embedder); no query reads
two of them.
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
"""The owner of the entries that all users of an app may search. Users are "user:<uid>", so none can have this name."""

GENERATION: Final = "generation"
"""The key, in an entry's place, of the generation of its document's content."""

Where = Mapping[str, Sequence[str]]
"""A filter: the accepted values of each tag. The name "document" stands for the entry's document."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk as an index keeps it.

    Args:
        id: unique in its scope and version. Writing the same id again replaces the entry.
        document: the document that it comes from.
        text: is searched, and shown to the model.
        vector: its embedding, of any length but zero; None if only its words can be searched.
        tags: values that queries may filter by.
        place: where it is in the document (page, headings, span); JSON values, kept unchanged.
    """

    id: str
    document: str
    text: str
    vector: Vector | None = field(default=None, compare=False, repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title of its document, which may be the name of a file. It is searched, too."""
        title = self.place.get("title")
        return title if isinstance(title, str) else ""

    @property
    def language(self) -> str:
        """The language of its text; "" if its document did not tell, so that the text has to."""
        return str(self.place.get("language", ""))


@dataclass(frozen=True, slots=True)
class Hit:
    """A found entry, usually without its vector, and its owner according to the index.

    ``score`` from ``nearest`` is the cosine of the two vectors (-1 to 1). From ``matching`` it is a figure that only
    orders the hits of one query; larger is better. The entry of an ``unread`` hit has no text and no place.
    """

    app_id: str
    owner: str
    version: str
    entry: Entry
    score: float
    unread: bool = False


def owner_of(scope: Scope) -> str:
    """Return the owner of a scope's entries: "user:<uid>" (also of a group, by its scope's ``uid``), or ``LIBRARY``."""
    return LIBRARY if scope.uid is None else f"user:{scope.uid}"


def scopes_of(scope: Scope, library: bool) -> list[Scope]:
    """Return the scopes that a query in ``scope`` reads: its own and, with ``library``, the app's library."""
    return [scope, Scope(scope.app_id)] if library and scope.uid is not None else [scope]


class Index(Protocol):
    """An index of chunks. All methods may be called from many threads.

    ``has_words`` says whether ``matching`` works here; where it is False, calling it raises IndexFailed.

    Raises (every method): IndexFailed, and IndexUnavailable if another try may help.
    """

    has_words: bool

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries. Repeating the call changes nothing; an interrupted call may have written some of them.

        Args:
            fence: the condition of the write: no entry may land once the document's record forbids it. An index that
                cannot guarantee this writes the entries all the same; searches then recognize them by their generation
                (:mod:`firelaunch.documents.catalog`).

        Raises:
            IndexFailed: a vector's length differs from that of the stored ones.
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
            ids: remove only these entries of the document and version. Missing ones do no harm.
            fence: the condition of the removal, as with ``upsert``. No index removes entries that were written after
                the fence was raised.
        """

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the ``k`` entries with the nearest vectors by cosine, best first."""

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
        """Return the ``k`` entries that match the query's words best, best first.

        Args:
            texts: False lets an index that pays for each text leave hits unread; see :meth:`texts`.
        """

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits of a query in ``scope``, in their order, with their texts.

        Unread hits are read; those that no longer exist are left out.
        """

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return all entries of one document with their vectors, in no order; the scores have no meaning."""

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries of the scope itself."""

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version of all of an app's users and of its library."""

    def close(self) -> None:
        """Release connections and memory; call nothing afterwards."""
