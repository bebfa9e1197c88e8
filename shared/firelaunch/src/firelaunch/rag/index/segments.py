"""Postings for BM25 in documents of bounded size: how segments are built, packed, merged and searched. Pure; no I/O.

A segment records which terms some chunks have, and how often. It never changes: new chunks become a new segment, and
merging replaces segments by a larger one. The postings of a small segment are in its head. Those of a larger one are
in blocks; a term's hash selects the block. So a query reads the heads, and one block for each term and large segment,
whatever the number of chunks. :mod:`.firestore_words` stores the segments.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from .base import Entry, Where
from .words import K1, Analyzer, B, QueryPart, is_word

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "MAX_CHUNKS",
    "Packed",
    "Postings",
    "Roster",
    "Segment",
    "SegmentChunk",
    "block_of",
    "merged",
    "of_entries",
    "rank",
    "vocabulary_of",
]

MAX_CHUNKS: Final = 32_768
"""The most chunks of one segment, so that two bytes number a chunk and the longest posting list takes 98 kB."""

INLINE_BYTES: Final = 160_000
"""Up to this size, postings are stored in the segment's head."""

_BLOCK_BYTES: Final = 256_000
_MOST_BLOCK_BYTES: Final = 900_000
"""The hard limit of a block, whose target is ``_BLOCK_BYTES``: a Firestore document holds 1 MiB
(https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields).
"""

_PIECE_WORDS: Final = 50_000
"""Words of a vocabulary in one document: at most 64 letters each, packed."""

_LEAST_IDF = 1e-6
_MOST_TIMES = 255
_MOST_LENGTH = 65_535


@dataclass(frozen=True, slots=True)
class SegmentChunk:
    """A segment's record of a chunk, besides its terms.

    Args:
        length: the number of terms and marks of its text.
        language: of its text; "" in segments from before, whose chunks may be in any.
    """

    name: str
    document: str
    tags: Mapping[str, str]
    length: int
    language: str = ""


@dataclass(frozen=True)
class Roster:
    """The chunks of a segment. Postings refer to a chunk by its position in the roster."""

    chunks: Sequence[SegmentChunk]

    def pack(self) -> dict[str, bytes]:
        """Return the roster as fields of a document."""
        import numpy as np

        documents = {document: n for n, document in enumerate(dict.fromkeys(chunk.document for chunk in self.chunks))}
        tags = [json.dumps(dict(chunk.tags), sort_keys=True) for chunk in self.chunks]
        tag_numbers = {text: n for n, text in enumerate(dict.fromkeys(tags))}
        languages = {language: n for n, language in enumerate(dict.fromkeys(chunk.language for chunk in self.chunks))}
        content = {
            "names": "\n".join(chunk.name for chunk in self.chunks),
            "documents": list(documents),
            "document": [documents[chunk.document] for chunk in self.chunks],
            "tags": [json.loads(text) for text in tag_numbers],
            "tagged": [tag_numbers[text] for text in tags] if len(tag_numbers) > 1 else [],
            "languages": list(languages),
            "language": [languages[chunk.language] for chunk in self.chunks] if len(languages) > 1 else [],
        }
        lengths = np.asarray([chunk.length for chunk in self.chunks], "<u2")
        return {"roster": zlib.compress(json.dumps(content).encode()), "lengths": lengths.tobytes()}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Roster:
        """Return the roster in the fields of a document."""
        import numpy as np

        content = json.loads(zlib.decompress(data["roster"]))
        names = content["names"].split("\n") if content["names"] else []
        tagged = content["tagged"] or [0] * len(names)
        lengths = np.frombuffer(data["lengths"], "<u2").tolist()
        documents, tags, languages = content["documents"], content["tags"], content.get("languages") or [""]
        language_numbers = content.get("language") or [0] * len(names)
        rows = zip(names, content["document"], tagged, lengths, language_numbers, strict=True)
        return cls(
            [
                SegmentChunk(name, documents[document], tags[tag], length, languages[language])
                for name, document, tag, length, language in rows
            ]
        )


@dataclass(frozen=True, slots=True)
class Posting:
    """The chunks with a term, by their positions in the roster, and how often each has it."""

    chunks: npt.NDArray[np.uint16]
    times: npt.NDArray[np.uint8]


Postings = Mapping[str, Posting]


@dataclass(frozen=True, slots=True)
class Packed:
    """A segment as documents: fields of its head and of its blocks. Without blocks, the head has the postings.

    ``vocabulary`` is there if there are blocks: all words, with how many chunks have each.
    """

    head: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]] = ()
    vocabulary: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Segment:
    """Some chunks with their postings, or with those that a query needs.

    Args:
        order: if two segments have a chunk of the same name, the one with the later order wins.
        blocks: the number of blocks with the postings; 0 if they are in the head.
        languages: the languages of the chunks' texts.
    """

    order: Any
    roster: Roster
    postings: Postings
    blocks: int = 0
    languages: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> list[str]:
        """The chunks' names, in the order of the roster."""
        return [chunk.name for chunk in self.roster.chunks]

    def pack(self, *, inline: bool = False) -> Packed:
        """Return the segment as documents within Firestore's limit.

        Args:
            inline: use no blocks, whatever the size; only for few chunks.
        """
        size = _size(self.postings)
        head = {**self.roster.pack(), "languages": sorted(self.languages)}
        if inline or size <= INLINE_BYTES:
            return Packed({**head, **_pack_postings(self.postings)})
        count = math.ceil(size / _BLOCK_BYTES)
        while True:
            shares: list[dict[str, Posting]] = [{} for _ in range(count)]
            for term, posting in self.postings.items():
                shares[block_of(term, count)][term] = posting
            if max(map(_size, shares)) <= _MOST_BLOCK_BYTES:
                return Packed(head, [_pack_postings(share) for share in shares], list(_vocabulary(self.postings)))
            count *= 2


def _vocabulary(postings: Postings) -> Iterator[dict[str, bytes]]:
    """Yield the words of the postings with their counts, in pieces that a document holds."""
    import numpy as np

    words = [term for term in postings if is_word(term)]
    for first in range(0, len(words), _PIECE_WORDS):
        piece = words[first : first + _PIECE_WORDS]
        counts = np.asarray([len(postings[word].chunks) for word in piece], "<u2").tobytes()
        yield {"words": zlib.compress("\n".join(piece).encode()), "counts": counts}


def vocabulary_of(piece: Mapping[str, Any]) -> dict[str, int]:
    """Return the words of a vocabulary's piece, with how many chunks have each."""
    import numpy as np

    words = zlib.decompress(piece["words"]).decode().split("\n")
    return dict(zip(words, np.frombuffer(piece["counts"], "<u2").tolist(), strict=True))


def block_of(term: str, blocks: int) -> int:
    """Return the number of the block with a term's posting."""
    return zlib.crc32(term.encode()) % blocks


def _size(postings: Postings) -> int:
    return sum(len(term.encode()) + 5 + 3 * len(posting.chunks) for term, posting in postings.items())


def _pack_postings(postings: Postings) -> dict[str, Any]:
    import numpy as np

    counts = np.asarray([len(posting.chunks) for posting in postings.values()], "<u2")
    return {
        "terms": "\n".join(postings),
        "counts": counts.tobytes(),
        "chunks": b"".join(posting.chunks.astype("<u2").tobytes() for posting in postings.values()),
        "times": b"".join(posting.times.tobytes() for posting in postings.values()),
    }


def unpacked(data: Mapping[str, Any], only: Collection[str] | None = None) -> dict[str, Posting]:
    """Return the postings in the fields of a head or block: all, or those of the terms in ``only``."""
    import numpy as np

    terms = data["terms"].split("\n") if data["terms"] else []
    counts = np.frombuffer(data["counts"], "<u2").astype(np.int64)
    chunks, times = np.frombuffer(data["chunks"], "<u2"), np.frombuffer(data["times"], np.uint8)
    ends = np.cumsum(counts)
    postings: dict[str, Posting] = {}
    for n, term in enumerate(terms):
        if only is None or term in only:
            at = slice(int(ends[n] - counts[n]), int(ends[n]))
            postings[term] = Posting(chunks[at], times[at])
    return postings


def of_entries(order: Any, entries: Iterable[Entry], analyzer: Analyzer) -> Segment:
    """Return the segment of some entries with different ids."""
    lists: dict[str, list[tuple[int, int]]] = {}
    chunks = []
    languages = set()
    for number, entry in enumerate(entries):
        analyzed = analyzer.analyze(entry.text, entry.title, entry.language)
        terms = analyzed.terms
        languages.add(analyzed.language)
        length = min(analyzed.length, _MOST_LENGTH)
        chunks.append(SegmentChunk(entry.id, entry.document, dict(entry.tags), length, analyzed.language))
        for term, times in Counter(terms).items():
            lists.setdefault(term, []).append((number, min(times, _MOST_TIMES)))
    return Segment(order, Roster(chunks), _postings(lists), languages=frozenset(languages))


def _postings(lists: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, Posting]:
    import numpy as np

    return {
        term: Posting(np.asarray([p for p, _ in pairs], np.uint16), np.asarray([t for _, t in pairs], np.uint8))
        for term, pairs in sorted(lists.items())
    }


def merged(segments: Sequence[Segment], keep: Callable[[SegmentChunk], bool] = lambda _: True) -> Segment:
    """Merge segments into one, without chunks that a later segment replaces or that ``keep`` rejects."""
    import numpy as np

    chunks: list[SegmentChunk] = []
    parts: dict[str, list[Posting]] = {}
    for segment, alive in zip(segments, living(segments), strict=True):
        stays = alive & np.fromiter(map(keep, segment.roster.chunks), bool, len(segment.roster.chunks))
        positions = np.cumsum(stays) - 1 + len(chunks)
        chunks += [chunk for chunk, stay in zip(segment.roster.chunks, stays, strict=True) if stay]
        for term, posting in segment.postings.items():
            remaining = stays[posting.chunks]
            if remaining.any():
                renumbered = positions[posting.chunks[remaining]].astype(np.uint16)
                parts.setdefault(term, []).append(Posting(renumbered, posting.times[remaining]))
    postings = {
        term: Posting(np.concatenate([p.chunks for p in part]), np.concatenate([p.times for p in part]))
        for term, part in sorted(parts.items())
    }
    languages = frozenset().union(*(segment.languages for segment in segments))
    return Segment(max(segment.order for segment in segments), Roster(chunks), postings, languages=languages)


def living(segments: Sequence[Segment]) -> list[npt.NDArray[np.bool_]]:
    """Return, for each segment, which of its chunks are in no later segment."""
    import numpy as np

    newest_first = sorted(range(len(segments)), key=lambda n: segments[n].order, reverse=True)
    masks: dict[int, npt.NDArray[np.bool_]] = {}
    seen: set[str] = set()
    for n in newest_first:
        names = segments[n].names
        if seen.isdisjoint(names):
            masks[n] = np.ones(len(names), bool)
        else:
            masks[n] = np.fromiter((name not in seen for name in names), bool, len(names))
        seen.update(names)
    return [masks[n] for n in range(len(segments))]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk that matches a query, and its BM25 score."""

    chunk: SegmentChunk
    score: float


class _Scores:
    """The scores of segments' chunks, with statistics of exactly the chunks that exist.

    Args:
        alive: for each segment, which of its chunks are in no later one.
    """

    def __init__(self, segments: Sequence[Segment], alive: Sequence[npt.NDArray[np.bool_]]) -> None:
        import numpy as np

        lengths = [np.asarray([chunk.length for chunk in segment.roster.chunks], np.float64) for segment in segments]
        self._segments = segments
        self._alive = alive
        self._count = sum(int(mask.sum()) for mask in alive)
        total = sum(float(length[mask].sum()) for length, mask in zip(lengths, alive, strict=True))
        self._norms = [K1 * (1 - B + B * length * self._count / total) if total else length for length in lengths]
        self._languages = [np.asarray([chunk.language for chunk in each.roster.chunks]) for each in segments]
        self._idfs: dict[str, float] = {}
        self.scores = [np.zeros(len(length)) for length in lengths]

    def add(self, part: QueryPart) -> None:
        """Add what a part of a query counts."""
        import numpy as np

        for number, segment in enumerate(self._segments):
            fits = np.ones(len(segment.roster.chunks), bool)
            if part.languages:
                fits = np.isin(self._languages[number], ["", *part.languages])
            for term, weight in part.weights.items():
                posting = segment.postings.get(term)
                if posting is not None:
                    chosen = fits[posting.chunks]
                    chunks, times = posting.chunks[chosen], posting.times[chosen].astype(np.float64)
                    found = times * (K1 + 1) / (times + self._norms[number][chunks])
                    self.scores[number][chunks] += weight * self._idf(term) * found

    def _idf(self, term: str) -> float:
        if term not in self._idfs:
            postings = [segment.postings.get(term) for segment in self._segments]
            pairs = zip(postings, self._alive, strict=True)
            found = sum(int(mask[posting.chunks].sum()) for posting, mask in pairs if posting is not None)
            self._idfs[term] = max(_LEAST_IDF, math.log((self._count - found + 0.5) / (found + 0.5)))
        return self._idfs[term]


def rank(segments: Sequence[Segment], parts: Sequence[QueryPart], k: int, where: Where = {}) -> list[Ranked]:  # noqa: B006
    """Return the ``k`` chunks that match a query best by BM25, with statistics of exactly the existing chunks.

    Args:
        segments: with at least the postings of the terms of ``parts``.
        where: as in :class:`~firelaunch.rag.index.base.Index`. It filters the result, but not the statistics.
    """
    alive = living(segments)
    scores = _Scores(segments, alive)
    for part in parts:
        scores.add(part)
    ranked_chunks = [
        Ranked(segment.roster.chunks[n], float(score[n]))
        for segment, score, mask in zip(segments, scores.scores, alive, strict=True)
        for n in _best(score, mask, segment, k, where)
    ]
    return sorted(ranked_chunks, key=lambda ranked: -ranked.score)[:k]


def _best(score: Any, mask: Any, segment: Segment, k: int, where: Where) -> Iterator[int]:
    import numpy as np

    positions = np.flatnonzero(mask & (score > 0))
    if where:
        positions = np.asarray([n for n in positions.tolist() if _fits(segment.roster.chunks[n], where)], np.int64)
    best = positions[np.argsort(-score[positions], kind="stable")[:k]]
    yield from best.tolist()


def _fits(chunk: SegmentChunk, where: Where) -> bool:
    return all(
        (chunk.document if name == "document" else chunk.tags.get(name)) in values for name, values in where.items()
    )
