"""Nearest neighbours in memory: one bit for each dimension finds a short list, floats put it in order.

A search reads 48 bytes of a vector of 384 dimensions instead of 1,536. So a hundred thousand vectors take a few
milliseconds. Of those that have a code, a vector is only read when it is on a short list for the first time. Up to
``COMPARED`` vectors the answer is exact, since all of them are on the list.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .base import Vector

__all__ = ["COMPARED", "Matrix", "Middle", "unit"]

COMPARED: Final = 8_192
"""Vectors that are compared as floats.

Of 100,000 vectors with 384 dimensions, the list holds 0.99 of the ten nearest even if the vectors are spread at
random, which is harder than embeddings are (`make bench ONLY=index`).
"""

_COMPARED_FACTOR = 64
_HEAVIER = (0.4, 0.75)
"""Shares of the dimensions that count only once, and once or twice.

The weights halve the short list that a given recall needs.
"""

_MIN_ROWS = 256
_FARTHEST = np.uint16(65_535)


def unit(vector: Sequence[float] | Vector) -> Vector:
    """Return a vector of length one in the same direction, so that a dot product is a cosine."""
    array = np.asarray(vector, dtype=np.float32)
    return np.asarray(array / np.linalg.norm(array), dtype=np.float32)


ReadVectors = Callable[[Sequence[int]], Iterable[tuple[int, bytes]]]
"""Returns the vectors of rows, each as the bytes of its float32s, in the order of the rows."""


@dataclass(frozen=True, slots=True)
class Middle:
    """The mean of some vectors. A code has one bit for each dimension: on which side of the mean the vector lies.

    Embeddings of one model share a direction, so bits relative to zero would be equal in all of them.

    Args:
        made_of: how many entries there were.
    """

    made_of: int
    vector: Vector

    def codes(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
        """Return one row for each vector, with a number for each 64 dimensions."""
        return _pack_bits(vectors > self.vector)


@dataclass(slots=True)
class _Block:
    """Arrays with room to grow. New rows are written behind those that a matrix counts, while others read the rest.

    ``slots`` says where a row's floats are; -1 if they were not read. They are packed in the order in which they were
    read: memory comes in pages, and those of a few rows here and there would take as much as all.
    """

    rows: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]
    floats: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint64]
    used: int = 0
    learning: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def empty(cls, count: int, dimensions: int) -> _Block:
        """Return a block with room for twice as many rows; memory pages take no memory until they are written."""
        room = max(_MIN_ROWS, 2 * count)
        return cls(
            np.empty(room, np.int64),
            np.full(room, -1, np.int32),
            np.empty((room, dimensions), np.float32),
            np.empty((_width(dimensions), room), np.uint64),
        )

    def unknown(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Return which of the rows at these places have no floats."""
        return np.asarray(self.slots[places] < 0, np.bool_)

    def learn(self, places: npt.NDArray[np.intp], floats: npt.NDArray[np.float32]) -> None:
        """Keep the floats of rows. A row that has a slot keeps it."""
        with self.learning:
            slots = self.slots[places]
            new = slots < 0
            slots[new] = np.arange(self.used, self.used + int(new.sum()))
            self.floats[slots] = floats
            self.slots[places] = slots  # others look at the floats from here on
            self.used += int(new.sum())

    def floats_at(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Return the floats of rows that have them."""
        return self.floats[self.slots[places]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Vectors of length one, each with the number of its row. Immutable: changes return a new matrix.

    Args:
        dimensions: length of each vector.
        middle: for the codes; None to compare all vectors.
        count: rows of the block that belong to the matrix.
        alive: which of these are not removed; None for all.
    """

    dimensions: int
    middle: Middle | None = None
    count: int = 0
    alive: npt.NDArray[np.bool_] | None = None
    _block: _Block | None = None

    @classmethod
    def coded(
        cls, dimensions: int, middle: Middle | None, blocks: Iterable[tuple[npt.NDArray[np.int64], bytes]], most: int
    ) -> Matrix:
        """Return a matrix of rows whose vectors are read when they are compared.

        Args:
            blocks: rows and their codes, in the order of the rows.
            most: about how many rows there will be.
        """
        read = list(blocks)
        rows = np.concatenate([block[0] for block in read]) if read else np.zeros(0, np.int64)
        codes = np.frombuffer(b"".join(block[1] for block in read), np.uint64).reshape(-1, _width(dimensions))
        block = _Block.empty(max(most, len(rows)), dimensions)
        block.rows[: len(rows)], block.bits[:, : len(rows)] = rows, codes.T
        return cls(dimensions, middle, len(rows), None, block)

    @property
    def made_of(self) -> int:
        """The entries that its codes were made of; 0 if it has none."""
        return self.middle.made_of if self.middle else 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its rows take."""
        known = 0 if self._block is None else self._block.used
        return known * self.dimensions * 4 + self.count * (_width(self.dimensions) * 8 + 12)

    @property
    def last(self) -> int:
        """The highest row that was ever added."""
        return int(self._block.rows[self.count - 1]) if self._block is not None and self.count else 0

    def without(self, rows: Sequence[int]) -> Matrix:
        """Return a matrix without these rows. If more than a quarter of its rows are removed, their memory is freed."""
        if self._block is None or not rows or not self.count:
            return self
        held = self._block.rows[: self.count]
        places = np.searchsorted(held, rows).clip(max=self.count - 1)
        alive = np.ones(self.count, np.bool_) if self.alive is None else self.alive.copy()
        alive[places[held[places] == rows]] = False
        if alive.sum() < 0.75 * self.count:
            return self._moved(np.flatnonzero(alive), 0)
        return replace(self, alive=None if alive.all() else alive)

    def add(self, rows: Sequence[int], vectors: Iterable[bytes]) -> Matrix:
        """Return a matrix with more rows, whose numbers must be higher than all earlier ones.

        Each vector is given as the bytes of its float32s.
        """
        if not rows:
            return self
        end = self.count + len(rows)
        if self._block is None or end > len(self._block.rows):
            return self._moved(np.arange(self.count), len(rows)).add(rows, vectors)
        floats, place = self._floats_of(vectors), slice(self.count, end)
        self._block.rows[place] = rows
        self._block.learn(np.arange(self.count, end), floats)
        if self.middle is not None:
            self._block.bits[:, place] = self.middle.codes(floats).T
        alive = None if self.alive is None else np.concatenate([self.alive, np.ones(len(rows), np.bool_)])
        return replace(self, count=end, alive=alive)

    def _floats_of(self, vectors: Iterable[bytes]) -> npt.NDArray[np.float32]:
        return np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(-1, self.dimensions)

    def _moved(self, places: npt.NDArray[np.intp], more: int) -> Matrix:
        """Return a matrix of the rows at these places, with room for more."""
        old, count = self._block, len(places)
        block = _Block.empty(count + more, self.dimensions)
        if old is not None:
            block.rows[:count], block.bits[:, :count] = old.rows[places], old.bits[:, places]
            known = ~old.unknown(places)
            block.learn(np.flatnonzero(known), old.floats_at(places[known]))
        return replace(self, count=count, alive=None if self.alive is None else self.alive[places], _block=block)

    def nearest(
        self,
        vector: Vector,
        k: int,
        allowed: npt.NDArray[np.int64] | None = None,
        read: ReadVectors = lambda _: (),
    ) -> list[tuple[int, float]]:
        """Return the ``k`` nearest rows with their cosines, best first.

        Args:
            allowed: the only rows that may be found; None for all.
            read: reads vectors that are not in memory; those that it does not find are not found.
        """
        if self._block is None or self.count == 0:
            return []
        query = unit(vector)
        candidates = self._known(self._short_list(query, k, self._usable(allowed)), read)
        cosines = self._block.floats_at(candidates) @ query
        best = np.argpartition(-cosines, k - 1)[:k] if len(candidates) > k else np.arange(len(candidates))
        best = best[np.argsort(-cosines[best], kind="stable")]
        return list(zip(self._block.rows[candidates[best]].tolist(), cosines[best].tolist(), strict=True))

    def _known(self, places: npt.NDArray[np.intp], read: ReadVectors) -> npt.NDArray[np.intp]:
        """Return the places whose floats are in memory, after reading those that are not."""
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        unknown = places[self._block.unknown(places)]
        if not len(unknown):
            return places
        found = list(read(self._block.rows[unknown].tolist()))
        if found:
            at = np.searchsorted(self._block.rows[: self.count], [row for row, _ in found])
            self._block.learn(at, self._floats_of(vector for _, vector in found))
        return places[~self._block.unknown(places)]

    def _usable(self, allowed: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_] | None:
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        if allowed is None:
            return self.alive
        usable = np.isin(self._block.rows[: self.count], allowed)
        return usable if self.alive is None else usable & self.alive

    def _short_list(self, query: Vector, k: int, usable: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.intp]:
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        size = max(COMPARED, _COMPARED_FACTOR * k)
        usable_count = self.count if usable is None else int(usable.sum())
        if usable_count <= size or self.middle is None:
            return np.arange(self.count) if usable is None else np.flatnonzero(usable)
        distance = self._distances(query, self.middle.vector)
        if usable is not None:
            distance[~usable] = _FARTHEST
        # Distances are small whole numbers, so counting them finds the limit without a sort.
        limit = int(np.searchsorted(np.cumsum(np.bincount(distance, minlength=1)), size))
        return np.flatnonzero(distance <= limit)

    def _distances(self, query: Vector, middle: Vector) -> npt.NDArray[np.uint16]:
        """Return in how many dimensions each vector lies on the other side of the mean than the query.

        A dimension counts once, twice or three times, depending on the query's distance from the mean in it.
        """
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        from_middle = query - middle
        heavy = np.quantile(np.abs(from_middle), _HEAVIER)
        query_bits = _pack_bits(from_middle[None, :] > 0)[0]
        masks = [_pack_bits(np.abs(from_middle)[None, :] > least)[0] for least in heavy]
        distance = np.zeros(self.count, np.uint16)
        for number, bits in enumerate(self._block.bits):
            differing = bits[: self.count] ^ query_bits[number]
            distance += np.bitwise_count(differing)
            for mask in masks:
                distance += np.bitwise_count(differing & mask[number])
        return distance


def _width(dimensions: int) -> int:
    return -(-dimensions // 64)


def _pack_bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    packed = np.packbits(flags, axis=1)
    padded = np.zeros((len(flags), 8 * _width(flags.shape[1])), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)
