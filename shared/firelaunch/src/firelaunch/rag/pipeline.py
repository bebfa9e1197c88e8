"""From a file to entries of an index: parse once, keep the text, then cut, embed and write, version by version.

Every step may be broken off and begun again. An entry's id is made of its document, the generation of its content
(:mod:`firelaunch.documents.catalog`), its text and how often that text came before, so a repeated step writes the
same entries, and no generation's writer can overwrite or remove what another one wrote. The last step deletes what
an earlier generation left behind.

Memory: while parsing, what :mod:`.parse` says, whatever the size of the file. While indexing, one window of
``WINDOW`` chunks, and of a document that was indexed before its old entries' vectors and places: with 200 tokens a
chunk about 1,400 chunks a million characters, of ``dimensions`` floats each.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..errors import Fenced, FirelaunchError
from ..scope import Scope
from ..store.fence import Fence
from .chunk import DocumentChunk, chunks
from .embed.base import Embedder
from .index.base import GENERATION, Entry
from .index.scoped import ScopedIndex
from .parse.base import Block
from .retrieve import Retriever
from .versions import Version

if TYPE_CHECKING:
    from .index.base import Vector

__all__ = ["WINDOW", "Built", "Embed", "Engine", "Known", "build", "is_entry"]

log = logging.getLogger(__name__)

WINDOW: Final = 128
"""Chunks that are embedded and written at a time."""

Embed = Callable[[Sequence[str]], Sequence["Vector"]]


@dataclass(frozen=True, slots=True)
class Engine:
    """What reads and writes one index version.

    Args:
        embedder: None where the version has words alone, and where its model is not set up in this process.
        cost: micro-dollars of so many tokens for the embedder.
    """

    version: Version
    index: ScopedIndex
    embedder: Embedder | None
    retriever: Retriever
    cost: Callable[[int], int]

    @property
    def complete(self) -> bool:
        """Whether entries made here have all that the version asks for."""
        return self.embedder is not None or self.version.embedder == "none"


@dataclass(frozen=True, slots=True)
class Built:
    """How far the building of one document has come: chunks, and characters of its text."""

    chunks: int
    characters: int


@dataclass(slots=True)
class Known:
    """What an index holds already: entries that need not be written, and vectors that need not be made."""

    places: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)

    def learn(self, entries: Iterable[Entry], *, own: bool) -> None:
        """Take in a document's entries; ``own``: they are those that are about to be written."""
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
    """Write a document's entries; a step each time that the result is asked for.

    Args:
        about: what is told of the document with each passage (title, URL).
        embed: makes vectors of texts, paid; None for words alone.
        donors: other documents of the scope, whose vectors serve for the same texts.
        generation: the content's; its entries say it. "" where the document has no record.
        fence: what each write depends on.

    Raises:
        IndexFailed, ModelError: what was written until then stays, and the next try goes on from there.
        Fenced: the document was deleted, replaced or given up. What was written here is removed again, as it is when
            the iterator is closed and the document is gone.
    """
    index, version = engine.index, engine.version
    known = Known()
    known.learn(index.read(scope, version.id, document), own=True)
    if embed is not None:
        for donor in donors:
            known.learn(index.read(scope, version.id, donor), own=False)
    ids: list[str] = []
    seen: Counter[str] = Counter()
    told = (chunk for chunk in chunks(blocks, version.chunking) if chunk.text.strip())
    try:
        while window := list(islice(told, WINDOW)):
            entries = [_entry(document, generation, chunk, about, seen) for chunk in window]
            ids += [entry.id for entry in entries]
            fresh = [entry for entry in entries if not _is_there(entry, known, vector=embed is not None)]
            index.upsert(scope, version.id, fresh if embed is None else _embedded(fresh, embed, known), fence)
            yield Built(len(ids), window[-1].end)
        index.delete(scope, document, version=version.id, ids=known.places.keys() - set(ids), fence=fence)
        if fence is not None:
            # Whoever raised the fence before this may have emptied the index before the last window arrived there.
            fence.check()
    except BaseException:
        if fence is not None and generation:
            _take_back(index, scope, version.id, document, ids, fence)
        raise


def _take_back(index: ScopedIndex, scope: Scope, version: str, document: str, ids: Sequence[str], fence: Fence) -> None:
    """Remove what a broken off build wrote, if its document is gone: an index without conditions may have taken it."""
    try:
        fence.check()
    except Fenced:
        # Nobody else's entries have these ids.
        index.delete(scope, document, version=version, ids=ids)
    except FirelaunchError as error:
        log.warning("it is not known whether %s still lives: %s", document, error)


def _entry(document: str, generation: str, chunk: DocumentChunk, about: Mapping[str, Any], seen: Counter[str]) -> Entry:
    digest = chunk.hash
    number = seen[digest]
    seen[digest] += 1
    name = _entry_id(document, digest, number) + (f"-{generation}" if generation else "")
    place = {**about, "page": chunk.page, "headings": list(chunk.headings), "start": chunk.start, "end": chunk.end}
    if generation:
        place[GENERATION] = generation
    return Entry(name, document, chunk.embedded_text, None, {}, place)


def _entry_id(document: str, digest: str, number: int) -> str:
    return sha256(f"{document}\n{digest}\n{number}".encode()).hexdigest()[:32]


def is_entry(name: str, document: str, chunk: DocumentChunk) -> bool:
    """Whether ``name`` is the id of the entry made of this chunk, in an index version of today or of before.

    Needs no index: an id is made of the chunk's own text.
    """
    digest = chunk.hash
    # Chunks of the same text that came before began at other characters, so there are at most as many.
    own = name.partition("-")[0]  # of whatever generation: the same passage stands at the same place
    return any(_entry_id(document, digest, number) == own for number in range(min(chunk.start, _REPEATS) + 1))


_REPEATS = 10_000
"""How often the same chunk is looked for in a document at most; some milliseconds."""


def _is_there(entry: Entry, known: Known, *, vector: bool) -> bool:
    there = known.places.get(entry.id)
    return there is not None and there == {**entry.place, _VECTOR: vector}


def _embedded(entries: Sequence[Entry], embed: Embed, known: Known) -> list[Entry]:
    wanted = {_hash(entry.text): entry.text for entry in entries}
    missing = [digest for digest in wanted if digest not in known.vectors]
    made = dict(zip(missing, embed([wanted[digest] for digest in missing]) if missing else (), strict=True))
    known.vectors.update(made)
    whole = [replace(entry, vector=known.vectors[_hash(entry.text)]) for entry in entries]
    for digest in made:
        del known.vectors[digest]
    return whole


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
