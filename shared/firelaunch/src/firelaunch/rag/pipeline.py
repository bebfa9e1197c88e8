"""From a file to entries of an index: parse once, keep the text, then chunk, embed and write, version by version.

Every step may break off and be repeated. An entry's id depends on its document, the generation of the document's
content (:mod:`firelaunch.documents.catalog`), its text and how often that text came before. So a repeated step writes
the same entries, and no generation's writer can overwrite or remove another's. The last step deletes what an earlier
generation left behind.

Memory: parsing takes what :mod:`.parse` says, whatever the size of the file. Indexing holds one window of ``WINDOW``
chunks and, for a document that was indexed before, its old entries' vectors and places: with 200 tokens a chunk about
1,400 chunks a million characters, of ``dimensions`` floats each.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..errors import Fenced, FirelaunchError
from ..precedence import give_way
from ..scope import Scope
from ..store.fence import Fence
from .chunk import DocumentChunk, chunks
from .embed.base import Embedder
from .index.base import GENERATION, Entry
from .index.scoped import ScopedIndex
from .index.words import Analyzer
from .parse.base import Block
from .retrieve import Retriever
from .versions import Version

if TYPE_CHECKING:
    from .index.base import Vector

__all__ = ["WINDOW", "Built", "Embed", "Engine", "Known", "build", "is_entry"]

log = logging.getLogger(__name__)

WINDOW: Final = 128
"""Chunks that are embedded and written together."""

Embed = Callable[[Sequence[str]], Sequence["Vector"]]
"""Makes the vectors of texts."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that read and write one index version.

    Args:
        embedder: None if the version has no vectors, or if its model is not set up in this process.
        cost: returns the embedder's micro-dollars for a number of tokens.
    """

    version: Version
    index: ScopedIndex
    embedder: Embedder | None
    retriever: Retriever
    cost: Callable[[int], int]

    @property
    def complete(self) -> bool:
        """Whether entries made here have everything that the version needs."""
        return self.embedder is not None or self.version.embedder == "none"


@dataclass(frozen=True, slots=True)
class Built:
    """The progress of one document: its chunks, and the characters of its text, so far."""

    chunks: int
    characters: int


@dataclass(slots=True)
class Known:
    """The entries that an index holds already, which need not be written, and the vectors that can be reused."""

    places: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)

    def learn(self, entries: Iterable[Entry], *, own: bool) -> None:
        """Add a document's entries; ``own`` if they belong to the document that is being written."""
        for entry in entries:
            if entry.vector is not None:
                self.vectors[_hash(entry.text)] = entry.vector
            if own:
                self.places[entry.id] = {**entry.place, _VECTOR: entry.vector is not None}


_VECTOR = " has a vector"


def build(
    engine: Engine,
    scope: Scope,
    document: str,
    about: Mapping[str, Any],
    blocks: Iterable[Block],
    embed: Embed | None,
    donors: Sequence[str] = (),
    generation: str = "",
    fence: Fence | None = None,
) -> Generator[Built, None, None]:
    """Write a document's entries; each step of the iterator writes one window.

    Args:
        about: stored with each passage as facts about the document (title, URL).
        embed: makes vectors of texts, and is charged; None for an index of words only.
        donors: other documents of the scope, whose vectors can be reused for equal texts.
        generation: of the content, stored in its entries. "" if the document has no record.
        fence: the condition of each write.

    Raises:
        IndexFailed, ModelError: what was written stays, and the next try continues from there.
        Fenced: the document was deleted, replaced or given up. The entries written here are removed again, also if the
            iterator is closed and the document is gone.
    """
    index, version = engine.index, engine.version
    existing = Known()
    existing.learn(index.read(scope, version.id, document), own=True)
    if embed is not None:
        for donor in donors:
            existing.learn(index.read(scope, version.id, donor), own=False)
    analyzer = Analyzer(version.language)
    ids: list[str] = []
    occurrences: Counter[str] = Counter()
    document_chunks = _not_empty(chunks(blocks, version.chunking))
    try:
        while window := list(islice(document_chunks, WINDOW)):
            languages = analyzer.languages([chunk.text for chunk in window])
            entries = [
                _entry(document, generation, chunk, {**about, "language": language}, occurrences)
                for chunk, language in zip(window, languages, strict=True)
            ]
            ids += [entry.id for entry in entries]
            missing = [entry for entry in entries if not _is_stored(entry, existing, vector=embed is not None)]
            index.upsert(
                scope, version.id, missing if embed is None else _with_vectors(missing, embed, existing), fence
            )
            yield Built(len(ids), window[-1].end)
        if stale := existing.places.keys() - set(ids):
            index.delete(scope, document, version=version.id, ids=stale, fence=fence)
        if fence is not None:
            # The process that raised the fence may have emptied the index before the last window arrived there.
            fence.check()
    except BaseException:
        if fence is not None and generation:
            _remove_if_gone(index, scope, version.id, document, ids, fence)
        raise


def _not_empty(document_chunks: Iterable[DocumentChunk]) -> Iterator[DocumentChunk]:
    for chunk in document_chunks:
        give_way()
        if chunk.text.strip():
            yield chunk


def _remove_if_gone(
    index: ScopedIndex, scope: Scope, version: str, document: str, ids: Sequence[str], fence: Fence
) -> None:
    """Remove what an interrupted build wrote, if its document is gone.

    An index without conditional writes may have accepted entries after the document was deleted.
    """
    try:
        fence.check()
    except Fenced:
        # The ids hold the generation, so no other writer's entries have them.
        index.delete(scope, document, version=version, ids=ids)
    except FirelaunchError as error:
        log.warning("it is not known whether %s still lives: %s", document, error)


def _entry(
    document: str, generation: str, chunk: DocumentChunk, about: Mapping[str, Any], occurrences: Counter[str]
) -> Entry:
    """Return the entry of a chunk; ``occurrences`` counts equal chunks, so that each gets its own id."""
    digest = chunk.hash
    number = occurrences[digest]
    occurrences[digest] += 1
    name = _entry_id(document, digest, number) + (f"-{generation}" if generation else "")
    pages = {"page": chunk.page, "last_page": chunk.last_page}
    place = {**about, **pages, "headings": list(chunk.headings), "start": chunk.start, "end": chunk.end}
    if generation:
        place[GENERATION] = generation
    return Entry(name, document, chunk.embedded_text, None, {}, place)


def _entry_id(document: str, digest: str, number: int) -> str:
    return sha256(f"{document}\n{digest}\n{number}".encode()).hexdigest()[:32]


def is_entry(name: str, document: str, chunk: DocumentChunk) -> bool:
    """Return whether ``name`` is the id of the entry made of this chunk, in a current or earlier index version.

    The check needs no index, because an id is made of the chunk's own text.
    """
    digest = chunk.hash
    # Each earlier chunk of the same text began at another character, so there are at most ``start`` of them.
    own = name.partition("-")[0]  # without the generation: equal content has its passages at equal places
    return any(_entry_id(document, digest, number) == own for number in range(min(chunk.start, _REPEATS) + 1))


_REPEATS = 10_000
"""The most occurrences of an equal chunk to look for in a document; takes some milliseconds."""


def _is_stored(entry: Entry, existing: Known, *, vector: bool) -> bool:
    stored = existing.places.get(entry.id)
    return stored is not None and stored == {**entry.place, _VECTOR: vector}


def _with_vectors(entries: Sequence[Entry], embed: Embed, existing: Known) -> list[Entry]:
    """Return the entries with their vectors; known vectors are reused, and only new texts are embedded."""
    texts = {_hash(entry.text): entry.text for entry in entries}
    missing = [digest for digest in texts if digest not in existing.vectors]
    new_vectors = dict(zip(missing, embed([texts[digest] for digest in missing]) if missing else (), strict=True))
    existing.vectors.update(new_vectors)
    complete = [replace(entry, vector=existing.vectors[_hash(entry.text)]) for entry in entries]
    for digest in new_vectors:
        del existing.vectors[digest]
    return complete


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
