"""Index versions: how the entries of each are made, and the document that says which one is in use.

``apps/{app}/index/state`` holds the version that is searched (``current``), one that is being built meanwhile
(``building``, or None), and earlier ones that still exist (``old``). A search reads only ``current``. A new document
is written to ``current`` and ``building``; a deleted one is removed from all. docs/adr/0007 explains how a second
version is built and switched to without a gap.
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

__all__ = ["READER", "State", "Version", "Versions"]

READER: Final = 2
"""The version of the parsers (:mod:`.parse`), increased when they read more of a file than before.

A document's record holds that of its text, so the same file is read anew when it is uploaded again.
"""

_LAYOUTS: Final[Mapping[str, int]] = {"embedded": 3, "firestore": 4, "pgvector": 2, "vertex": 3, "vector_search": 2}
"""Layouts of the indexes, increased with every change of the terms that they store (:mod:`.index.words`)."""


@dataclass(frozen=True, slots=True)
class Version:
    """The parameters that make the entries of one index version.

    Its document holds all of them, so entries can be made whatever the settings are.

    Args:
        id: its name in the index.
        backend: the index that holds it.
        embedder, model, dimensions: what makes its vectors; "none" for words only.
        language: the language whose word endings its terms ignore; "auto" if it is detected.
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
    def of_parts(cls, **parts: Any) -> Version:
        """Return a version of these parts, named after them: equal parts give equal ids."""
        unnamed = cls(id="", **parts)
        identity = json.dumps(
            [asdict(unnamed), unnamed.chunking.fingerprint, _LAYOUTS[unnamed.backend]], sort_keys=True
        )
        return cls(id="v" + sha256(identity.encode()).hexdigest()[:20], **parts)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Version:
        """Return the version in a document's data."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})

    @property
    def chunking(self) -> Chunking:
        """How documents are cut for this version."""
        from .chunk import Chunking

        return Chunking(self.chunker, self.chunk_tokens, self.chunk_overlap)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class State:
    """The index versions of an app. ``update_time`` serves as the precondition of a change."""

    current: Version
    building: Version | None
    old: tuple[Version, ...]
    update_time: datetime

    @property
    def written(self) -> tuple[Version, ...]:
        """The versions that every document must be in."""
        return (self.current,) if self.building is None else (self.current, self.building)

    @property
    def all(self) -> tuple[Version, ...]:
        """All versions: the written ones and the old ones."""
        return (*self.written, *self.old)

    @classmethod
    def of(cls, document: Document) -> State:
        """Return the state in its document."""
        data = document.data
        building = data.get("building")
        return cls(
            Version.of(data["current"]),
            None if building is None else Version.of(building),
            tuple(Version.of(version) for version in data.get("old", ())),
            document.update_time,
        )


class Versions:
    """One app's index versions.

    Args:
        store: the app's own.
        configured: returns the version that the settings ask for. The app's first version is this one; a change of it
            needs a re-embedding.
        lasts: returns whether a version can hold anything here. If the current one cannot, no version is in use.
    """

    def __init__(
        self, store: ScopedStore, configured: Callable[[], Version], lasts: Callable[[Version], bool] = lambda _: True
    ) -> None:
        self._store = store
        self._lasts = lasts
        self._path = store.scope.index_state()
        self._configured = configured

    @property
    def configured(self) -> Version:
        """The version that the settings ask for."""
        return self._configured()

    def state(self) -> State | None:
        """Return the state; None if the app has not had a document yet."""
        return self.in_use(self._store.get(self._path))

    def ensure_state(self) -> State:
        """Return the state. If there is none, make the version that the settings ask for the current one."""
        for _ in range(3):
            document = self._store.get(self._path)
            state = self.in_use(document)
            if state is not None:
                return state
            first: dict[str, Any] = {"current": asdict(self.configured), "building": None, "old": []}
            write = (
                Create(self._path, first)
                if document is None
                else Update(self._path, first, if_updated_at=document.update_time)
            )
            with suppress(AlreadyExists, PreconditionFailed):
                self._store.commit([write])
        raise StoreError(reason="the state of the index cannot be made")

    def in_use(self, document: Document | None) -> State | None:
        """Return the state in its document, for callers that have read the document with others."""
        state = None if document is None else State.of(document)
        return state if state is not None and self._lasts(state.current) else None
