"""Words in Firestore: each owner's segments of postings in one collection below the owner, next to the chunks.

Documents of the collection, each of one index version:

* a **segment** (``kind`` "live"): the head of :mod:`.segments`, written in the commit that writes its chunks;
* a **block** of a large segment;
* a segment that is **building** or **gone**: its blocks are being written or deleted. No search reads it, and the next
  writer removes what is left of it.

No counter is changed by all writers: BM25's statistics come from the chunks in the segments. New chunks never touch
existing segments. One commit replaces segments, on condition that each of them is as it was read. So a merge and a
deletion that meet happen one after the other, and a process that dies leaves whatever it had not replaced.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from google.api_core import exceptions as google
from google.cloud.firestore_v1.base_query import FieldFilter

from ...errors import IndexUnavailable, PreconditionFailed
from ...scope import Scope
from ...store.fence import Fence
from ...store.firestore import verification
from .base import Entry, Where
from .segments import (
    MAX_CHUNKS,
    Ranked,
    Roster,
    Segment,
    SegmentChunk,
    block_of,
    merged,
    of_entries,
    rank,
    unpacked,
    vocabulary_of,
)
from .typos import Vocabulary, corrected
from .words import Analyzer, chosen, flat, parts_of

if TYPE_CHECKING:
    from google.cloud import firestore

__all__ = ["FirestoreWords", "commit"]

_SMALL: Final = 8
"""From this number of an owner's small segments in a version they are merged; a query reads the head of each."""

_ROSTER_BYTES: Final = 800_000
"""The most bytes of a segment's roster in its head, which holds 1 MiB."""

_COMMIT_BYTES: Final = 2_500_000
"""The most bytes of blocks in one commit.

A request holds 10 MiB (https://firebase.google.com/docs/firestore/quotas#writes); the emulator accepts 4 MiB.
"""

_TRIES: Final = 8
_LEFT_BEHIND: Final = timedelta(hours=1)
"""Age of an unfinished segment that a dead process must have left, since a build takes seconds."""

_SECONDS: Final = 15.0
_DELETES: Final = 400


@dataclass(frozen=True, slots=True)
class _Head:
    """A segment as it was read, without the postings in blocks."""

    snapshot: Any
    segment: Segment
    pieces: int
    """The documents of its vocabulary, which are numbered after its blocks."""

    @property
    def documents(self) -> int:
        """The number of its documents besides the head."""
        return self.segment.blocks + self.pieces

    @property
    def small(self) -> bool:
        return self.segment.blocks == 0

    @property
    def roster_bytes(self) -> int:
        return len(self.snapshot.get("data")["roster"])


class FirestoreWords:
    """The postings of one database.

    Args:
        client: returns the client; called at each use, so that no client is created before the first.
        analyzer: makes the terms.
    """

    def __init__(self, client: Callable[[], firestore.Client], analyzer: Analyzer) -> None:
        self._client_of = client
        self._analyzer = analyzer

    def add(self, batch: Any, scope: Scope, version: str, entries: Sequence[Entry]) -> None:
        """Add a segment of entries to the batch that writes their chunks; for at most some 100 kB of text."""
        packed = of_entries(None, entries, self._analyzer).pack(inline=True)
        batch.set(self._postings(scope).document(_name(version)), _head(version, "live", packed.head, 0, None))

    def settle(self, scope: Scope, version: str) -> None:
        """Merge small segments once there are many, and remove what a dead process left.

        Repeating the call costs nothing.

        Another process may do it at the same time; then the work of one of them is wasted.
        """
        live = self._of(scope, version, "live")
        if int(live.count(alias="n").get(timeout=_SECONDS)[0][0].value) < _SMALL:
            return
        self._sweep(scope, version)
        heads = self._heads(scope, version)
        inputs = _to_merge(heads)
        if inputs:
            self._replace(scope, version, inputs, lambda _: True)

    def rank(self, scope: Scope, version: str, query: str, k: int, where: Where) -> list[Ranked]:
        """Return the chunks of one owner that match a query best.

        Raises:
            IndexUnavailable: segments were replaced again and again while they were read.
        """
        for _ in range(_TRIES):
            heads = self._heads(scope, version)
            present = frozenset().union(*(head.segment.languages for head in heads))
            vocabulary = _SegmentTerms(heads, self._pieces)
            try:
                words = chosen(query, self._analyzer, present, vocabulary.counts)
                vocabulary.segments = segments = self._with_blocks(heads, flat(words))
                words, asked = corrected(words, vocabulary), words
                if words != asked:
                    segments = self._with_blocks(heads, flat(words))
            except _Replaced:
                continue
            return rank(segments, parts_of(words), k, where)
        raise IndexUnavailable(reason="the index was being rebuilt", retry_after=1)

    def remove(
        self, scope: Scope, version: str | None, is_removed: Callable[[SegmentChunk], bool], fence: Fence | None = None
    ) -> None:
        """Remove the postings of some chunks, from one version or from all.

        Raises:
            Fenced: the record does not allow it.
            IndexUnavailable: others replaced the segments again and again.
        """
        self._sweep(scope, version)
        for attempt in range(_TRIES):
            heads = [head for head in self._heads(scope, version) if any(map(is_removed, head.segment.roster.chunks))]
            if all(
                self._replace(scope, head.snapshot.get("version"), [head], _negated(is_removed), fence)
                for head in heads
            ):
                return
            if fence is not None:
                fence.check()
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - keeps no secret
        raise IndexUnavailable(reason="others changed the same part of the index", retry_after=1)

    def clear(self, scope: Scope, version: str | None, fence: Fence | None = None) -> None:
        """Remove all postings of a scope, in one version or in all."""
        query: Any = self._postings(scope)
        if version is not None:
            query = query.where(filter=FieldFilter("version", "==", version))
        self._delete((snapshot.reference for snapshot in query.select([]).stream(timeout=_SECONDS)), fence)

    def _postings(self, scope: Scope) -> Any:
        return self._client_of().collection(scope.postings())

    def _of(self, scope: Scope, version: str | None, *kinds: str) -> Any:
        query = self._postings(scope).where(filter=FieldFilter("kind", "in", kinds))
        return query if version is None else query.where(filter=FieldFilter("version", "==", version))

    def _heads(self, scope: Scope, version: str | None) -> list[_Head]:
        snapshots = list(self._of(scope, version, "live").stream(timeout=_SECONDS))
        return [_Head(snapshot, _segment(snapshot), _pieces_of(snapshot)) for snapshot in snapshots]

    def _pieces(self, heads: Sequence[_Head]) -> dict[str, int]:
        """Return the vocabulary of large segments: all words, and how many chunks have each."""
        counts: Counter[str] = Counter()
        numbers = [
            _block(head.snapshot, head.segment.blocks + number) for head in heads for number in range(head.pieces)
        ]
        for piece in self._client_of().get_all(numbers, timeout=_SECONDS) if numbers else ():
            if not piece.exists:
                raise _Replaced
            counts.update(vocabulary_of(piece.get("data")))
        return counts

    def _with_blocks(self, heads: Sequence[_Head], terms: Sequence[str] | None) -> list[Segment]:
        """Return the segments with the postings of these terms, or with all.

        Raises:
            _Replaced: a block no longer exists, because its segment is gone.
        """
        segment_numbers = {
            _block(head.snapshot, number): n for n, head in enumerate(heads) for number in _numbers(head.segment, terms)
        }
        postings = [dict(head.segment.postings) for head in heads]
        for block in self._client_of().get_all(list(segment_numbers), timeout=_SECONDS) if segment_numbers else ():
            if not block.exists:
                raise _Replaced
            postings[segment_numbers[block.reference]] |= unpacked(block.get("data"), terms)
        return [
            Segment(head.segment.order, head.segment.roster, own, head.segment.blocks, head.segment.languages)
            for head, own in zip(heads, postings, strict=True)
        ]

    def _replace(
        self,
        scope: Scope,
        version: str,
        heads: Sequence[_Head],
        keep: Callable[[SegmentChunk], bool],
        fence: Fence | None = None,
    ) -> bool:
        """Replace segments by one, or by none if it would be empty.

        Returns:
            Whether all of them still existed as they were read.
        """
        try:
            segments = self._with_blocks(heads, None)
        except _Replaced:
            return False
        merged_segment = merged(segments, keep)
        batch = self._client_of().batch()
        head = self._postings(scope).document(_name(version))
        packed = merged_segment.pack()
        others = [*packed.blocks, *packed.vocabulary]
        if others:
            self._build(head, version, others)
        if merged_segment.roster.chunks:
            fields = _head(version, "live", packed.head, len(packed.blocks), merged_segment.order)
            batch.set(head, {**fields, "vocabulary": len(packed.vocabulary)})
        for old in heads:
            unchanged = self._client_of().write_option(last_update_time=old.snapshot.update_time)
            if old.small:
                batch.delete(old.snapshot.reference, option=unchanged)
            else:
                batch.update(old.snapshot.reference, {"kind": "gone"}, option=unchanged)
        try:
            commit(self._client_of(), batch, fence)
        except BaseException as error:
            self._remove_segment(head, len(others))
            if isinstance(error, PreconditionFailed):
                return False
            raise
        for old in heads:
            if not old.small:
                self._remove_segment(old.snapshot.reference, old.documents)
        return True

    def _build(self, head: Any, version: str, blocks: Sequence[Any]) -> None:
        """Write the blocks of a new segment, and its vocabulary; its head says that they are being written."""
        batch, size = self._client_of().batch(), 0
        batch.create(head, {"version": version, "kind": "building", "blocks": len(blocks)})
        for number, data in enumerate(blocks):
            block_bytes = sum(len(value) for value in data.values())
            if size + block_bytes > _COMMIT_BYTES:
                commit(self._client_of(), batch)
                batch, size = self._client_of().batch(), 0
            batch.set(_block_of_head(head, number), {"version": version, "kind": "block", "data": dict(data)})
            size += block_bytes
        commit(self._client_of(), batch)

    def _remove_segment(self, head: Any, blocks: int) -> None:
        """Delete a segment that nobody reads, its head last, so that an interrupted deletion is found again."""
        if blocks:
            self._delete(_block_of_head(head, number) for number in range(blocks))
            self._delete([head])

    def _sweep(self, scope: Scope, version: str | None) -> None:
        """Remove what a dead process left."""
        for unfinished in self._of(scope, version, "gone", "building").stream(timeout=_SECONDS):
            if unfinished.get("kind") == "gone" or datetime.now(UTC) - unfinished.create_time > _LEFT_BEHIND:
                self._remove_segment(unfinished.reference, unfinished.get("blocks") + _pieces_of(unfinished))

    def _delete(self, names: Iterable[Any], fence: Fence | None = None) -> None:
        documents = list(names)
        for first in range(0, len(documents), _DELETES):
            batch = self._client_of().batch()
            for name in documents[first : first + _DELETES]:
                batch.delete(name)
            commit(self._client_of(), batch, fence)


class _Replaced(Exception):
    """A segment was replaced while it was read."""


class _SegmentTerms(Vocabulary):
    """The terms of segments: those that were read, and the vocabularies of large ones, read when they are needed.

    Args:
        pieces: reads the vocabularies of heads.
    """

    def __init__(self, heads: Sequence[_Head], pieces: Callable[[Sequence[_Head]], dict[str, int]]) -> None:
        self.segments: Sequence[Segment] = ()
        self._heads = heads
        self._read_pieces = pieces

    def has(self, term: str) -> bool:
        """Return whether any of the segments that were read has a term."""
        return any(term in segment.postings for segment in self.segments)

    def beginning(self, letter: str) -> Mapping[str, int]:
        """Return the terms that begin with a letter, and how many chunks have each."""
        return {term: count for term, count in self._all.items() if term.startswith(letter)}

    def counts(self, terms: Sequence[str]) -> Mapping[str, int]:
        """Return how many chunks have each of these terms."""
        return {term: self._all[term] for term in terms if term in self._all}

    @cached_property
    def _all(self) -> Mapping[str, int]:
        counts = Counter(self._read_pieces(self._heads))
        for head in self._heads:
            counts.update({term: len(posting.chunks) for term, posting in head.segment.postings.items()})
        return counts


def commit(client: firestore.Client, batch: Any, fence: Fence | None = None) -> None:
    """Commit a batch, on condition of the document's record, which is in the same database.

    Raises:
        PreconditionFailed: the record, or a condition of the batch itself, has changed.
    """
    if fence is not None:
        condition = fence.condition
        batch._add_write_pbs([verification(client.document(condition.path), condition.updated_at)])
    try:
        batch.commit(timeout=_SECONDS)
    except (google.FailedPrecondition, google.NotFound, google.AlreadyExists) as error:
        raise PreconditionFailed(reason=str(error)) from error


def _name(version: str) -> str:
    return f"{version}.{secrets.token_hex(12)}"


def _block_of_head(head: Any, number: int) -> Any:
    return head.parent.document(f"{head.id}.{number}")


def _block(snapshot: Any, number: int) -> Any:
    return _block_of_head(snapshot.reference, number)


def _head(version: str, kind: str, data: Any, blocks: int, order: Any) -> dict[str, Any]:
    return {"version": version, "kind": kind, "blocks": blocks, "order": order, "data": dict(data)}


def _segment(snapshot: Any) -> Segment:
    """Return the segment of a head. A segment that was never merged is as old as its document."""
    data, blocks = snapshot.get("data"), snapshot.get("blocks")
    order = snapshot.get("order") or snapshot.create_time
    languages = frozenset(data.get("languages", ()))
    return Segment(order, Roster.of(data), {} if blocks else unpacked(data), blocks, languages)


def _pieces_of(snapshot: Any) -> int:
    """Return the number of documents of a segment's vocabulary; segments written by older versions have none."""
    return int(snapshot.to_dict().get("vocabulary", 0))


def _numbers(segment: Segment, terms: Collection[str] | None) -> Collection[int]:
    if terms is None or not segment.blocks:
        return range(segment.blocks)
    return {block_of(term, segment.blocks) for term in terms}


def _negated(predicate: Callable[[SegmentChunk], bool]) -> Callable[[SegmentChunk], bool]:
    return lambda chunk: not predicate(chunk)


def _to_merge(heads: Sequence[_Head]) -> list[_Head]:
    """Return all small segments, and the smallest large one if they fit into it; none while there are few."""
    small = [head for head in heads if head.small]
    if len(small) < _SMALL:
        return []
    large = sorted((head for head in heads if not head.small), key=lambda head: len(head.segment.names))
    return [*small, *large[:1]] if large and _fit([*small, large[0]]) else small


def _fit(heads: Sequence[_Head]) -> bool:
    chunks = sum(len(head.segment.names) for head in heads)
    return chunks <= MAX_CHUNKS and sum(head.roster_bytes for head in heads) <= _ROSTER_BYTES
