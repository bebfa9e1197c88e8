"""Index versions: how the entries of each are made, and the one document that says which is in use.

``apps/{app}/index/state`` holds the version that is searched (``current``), one that is being built beside it
(``building``, or None), and those that were in use before and are still there (``old``). A search reads ``current``
alone. A new document lands in ``current`` and in ``building``; one that is deleted goes from all. docs/adr/0007 says
how a second version is built and switched to without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ..errors import AlreadyExists, PreconditionFailed, StoreError
from ..settings.search import EmbedderKind, IndexKind
from ..store.base import Create, Document, Update
from ..store.scoped import ScopedStore

if TYPE_CHECKING:
    from .chunk import Chunking

__all__ = ["State", "Version", "Versions"]

_LAYOUTS: Final[Mapping[str, int]] = {"firestore": 2, "vertex": 2, "vector_search": 2}
"""Of the indexes whose entries are kept in another way than at first: since 2 they have words."""


@dataclass(frozen=True, slots=True)
class Version:
    """How the entries of one index version are made. Whoever has its document can make them, whatever the settings.

    Args:
        id: names it in the index.
        backend: the index that holds it.
        embedder, model, dimensions: what makes its vectors; "none" for words alone.
        language: whose word endings its terms ignore.
        chunker, chunk_tokens, chunk_overlap: see :class:`.chunk.Chunking`.
    """

    id: str
    backend: IndexKind
    embedder: EmbedderKind
    model: str
    dimensions: int
    language: str
    chunker: str
    chunk_tokens: int
    chunk_overlap: int

    @classmethod
    def made(cls, **parts: Any) -> Version:
        """A version of these parts, named after them: the same parts, the same id."""
        unnamed = cls(id="", **parts)
        layout = [_LAYOUTS[unnamed.backend]] if unnamed.backend in _LAYOUTS else []
        named = json.dumps([asdict(unnamed), unnamed.chunking.fingerprint, *layout], sort_keys=True)
        return cls(id="v" + sha256(named.encode()).hexdigest()[:20], **parts)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Version:
        """From its document."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})

    @property
    def chunking(self) -> Chunking:
        """How documents are cut for it."""
        from .chunk import Chunking

        return Chunking(self.chunker, self.chunk_tokens, self.chunk_overlap)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class State:
    """What there is. ``update_time`` serves as the precondition of a change."""

    current: Version
    building: Version | None
    old: tuple[Version, ...]
    update_time: datetime

    @property
    def written(self) -> tuple[Version, ...]:
        """The versions that a document has to be in."""
        return (self.current,) if self.building is None else (self.current, self.building)

    @property
    def all(self) -> tuple[Version, ...]:
        """Those, and the ones that are kept from before."""
        return (*self.written, *self.old)

    @classmethod
    def of(cls, document: Document) -> State:
        """From the document."""
        data = document.data
        building = data.get("building")
        return cls(
            Version.of(data["current"]),
            None if building is None else Version.of(building),
            tuple(Version.of(each) for each in data.get("old", ())),
            document.update_time,
        )


class Versions:
    """One app's index versions.

    Args:
        store: the app's own.
        wanted: the version that the settings ask for. It is the first one; afterwards it takes a re-embedding.
        lasts: whether a version can hold anything here. Where the one in use cannot, there is none in use.
    """

    def __init__(
        self, store: ScopedStore, wanted: Callable[[], Version], lasts: Callable[[Version], bool] = lambda _: True
    ) -> None:
        self._store = store
        self._lasts = lasts
        self._path = store.scope.index_state()
        self._wanted = wanted

    @property
    def wanted(self) -> Version:
        """The version that the settings ask for."""
        return self._wanted()

    def state(self) -> State | None:
        """What there is; None where the app has not had a document yet."""
        return self.in_use(self._store.get(self._path))

    def begun(self) -> State:
        """What there is; where that is nothing, the version that the settings ask for is made the current one."""
        for _ in range(3):
            found = self._store.get(self._path)
            state = self.in_use(found)
            if state is not None:
                return state
            first: dict[str, Any] = {"current": asdict(self.wanted), "building": None, "old": []}
            write = (
                Create(self._path, first)
                if found is None
                else Update(self._path, first, if_updated_at=found.update_time)
            )
            with suppress(AlreadyExists, PreconditionFailed):
                self._store.commit([write])
        raise StoreError(reason="the state of the index cannot be made")

    def in_use(self, found: Document | None) -> State | None:
        """The state that its document holds, for whoever has read that beside others."""
        state = None if found is None else State.of(found)
        return state if state is not None and self._lasts(state.current) else None
