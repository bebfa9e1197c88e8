"""Nearest neighbours in memory: one bit for each dimension finds a short list, floats put it in order.

A search reads 48 bytes of a vector of 384 dimensions instead of 1,536. So a hundred thousand vectors take a few
milliseconds, with nothing to build. Up to ``_SHORT_LIST`` vectors the answer is exact, since all of them are on the
list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .base import Vector

__all__ = ["Matrix", "unit"]

_SHORT_LIST = 8_192
"""Vectors that are compared as floats.

Of 100,000 vectors with 384 dimensions, the list holds 0.99 of the ten nearest even if the vectors are spread at
random, which is harder than embeddings are (`make bench ONLY=index`).
"""

_SHORT_LIST_FACTOR = 64
_HEAVIER = (0.4, 0.75)
"""Shares of the dimensions that count only once, and once or twice.

The weights halve the short list that a given recall needs.
"""

_MIN_ROWS = 256
_SAMPLE = 8_192
"""Vectors whose mean stands for that of all."""

_FARTHEST = np.uint16(65_535)


def unit(vector: Sequence[float] | Vector) -> Vector:
    """Return a vector of length one in the same direction, so that a dot product is a cosine."""
    array = np.asarray(vector, dtype=np.float32)
    return np.asarray(array / np.linalg.norm(array), dtype=np.float32)


@dataclass(slots=True)
class _Block:
    """Arrays with room to grow. New rows are written behind those that a matrix counts, while others read the rest."""

    rows: npt.NDArray[np.int64]
    floats: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint64]
    middle: Vector

    @classmethod
    def empty(cls, count: int, dimensions: int) -> _Block:
        """Return a block with room for twice as many rows; memory pages take no memory until they are written."""
        room = max(_MIN_ROWS, 2 * count)
        return cls(
            np.empty(room, np.int64),
            np.empty((room, dimensions), np.float32),
            np.empty((-(-dimensions // 64), room), np.uint64),
            np.zeros(dimensions, np.float32),
        )

    def describe(self, count: int) -> None:
        """Make the bits of the first ``count`` rows, by the mean of a sample of them.

        The bits say on which side of the mean a vector lies. Embeddings of one model share a direction, so bits
        relative to zero would be equal in all of them.
        """
        if count:
            self.middle = self.floats[: count : -(-count // _SAMPLE)].mean(axis=0, dtype=np.float32)
        for begin in range(0, count, 8_192):
            place = slice(begin, min(begin + 8_192, count))
            self.bits[:, place] = _bits(self.floats[place], self.middle)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Vectors of length one, each with the number of its row. Immutable: changes return a new matrix.

    Args:
        dimensions: length of each vector.
        count: rows of the block that belong to the matrix.
        alive: which of these are not removed; None for all.
    """

    dimensions: int
    count: int = 0
    alive: npt.NDArray[np.bool_] | None = None
    _block: _Block | None = None

    @classmethod
    def read(cls, dimensions: int, batches: Iterable[tuple[Sequence[int], Iterable[bytes]]], most: int) -> Matrix:
        """Return a matrix of rows that come in batches, each with the bytes of its vectors; no vector is copied twice.

        Args:
            most: at least as many rows as will come.
        """
        block, count = _Block.empty(most, dimensions), 0
        for rows, vectors in batches:
            place = slice(count, count := count + len(rows))
            block.rows[place] = rows
            block.floats[place] = np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(len(rows), dimensions)
        block.describe(count)
        return cls(dimensions, count, None, block)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its rows take."""
        width = -(-self.dimensions // 64)
        return self.count * (self.dimensions * 4 + width * 8 + 8)

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
            return self._new_matrix(held[alive], self._block.floats[: self.count][alive])
        return Matrix(self.dimensions, self.count, None if alive.all() else alive, self._block)

    def add(self, rows: Sequence[int], vectors: Iterable[bytes]) -> Matrix:
        """Return a matrix with more rows, whose numbers must be higher than all earlier ones.

        Each vector is given as the bytes of its float32s.
        """
        if not rows:
            return self
        floats = np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(len(rows), self.dimensions)
        numbers = np.asarray(rows, dtype=np.int64)
        block, end = self._block, self.count + len(rows)
        if block is None or end > len(block.rows):
            old = (numbers[:0], floats[:0]) if block is None else (block.rows[: self.count], block.floats[: self.count])
            return self._new_matrix(np.concatenate([old[0], numbers]), np.concatenate([old[1], floats]), self.alive)
        place = slice(self.count, end)
        block.rows[place], block.floats[place] = numbers, floats
        block.bits[:, place] = _bits(floats, block.middle)
        return Matrix(self.dimensions, end, _extend(self.alive, len(rows)), block)

    def _new_matrix(
        self, rows: npt.NDArray[np.int64], floats: npt.NDArray[np.float32], alive: npt.NDArray[np.bool_] | None = None
    ) -> Matrix:
        count = len(rows)
        block = _Block.empty(count, self.dimensions)
        block.rows[:count], block.floats[:count] = rows, floats
        block.describe(count)
        return Matrix(self.dimensions, count, _extend(alive, count - len(alive)) if alive is not None else None, block)

    def nearest(self, vector: Vector, k: int, allowed: npt.NDArray[np.int64] | None = None) -> list[tuple[int, float]]:
        """Return the ``k`` nearest rows with their cosines, best first; with ``allowed``, only of these rows."""
        if self._block is None or self.count == 0:
            return []
        query = unit(vector)
        candidates = self._short_list(query, k, self._usable(allowed))
        cosines = self._block.floats[candidates] @ query
        best = np.argpartition(-cosines, k - 1)[:k] if len(candidates) > k else np.arange(len(candidates))
        best = best[np.argsort(-cosines[best], kind="stable")]
        return list(zip(self._block.rows[candidates[best]].tolist(), cosines[best].tolist(), strict=True))

    def _usable(self, allowed: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_] | None:
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        if allowed is None:
            return self.alive
        usable = np.isin(self._block.rows[: self.count], allowed)
        return usable if self.alive is None else usable & self.alive

    def _short_list(self, query: Vector, k: int, usable: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.intp]:
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        size = max(_SHORT_LIST, _SHORT_LIST_FACTOR * k)
        usable_count = self.count if usable is None else int(usable.sum())
        if usable_count <= size:
            return np.arange(self.count) if usable is None else np.flatnonzero(usable)
        distance = self._distances(query)
        if usable is not None:
            distance[~usable] = _FARTHEST
        # Distances are small whole numbers, so counting them finds the limit without a sort.
        limit = int(np.searchsorted(np.cumsum(np.bincount(distance, minlength=1)), size))
        return np.flatnonzero(distance <= limit)

    def _distances(self, query: Vector) -> npt.NDArray[np.uint16]:
        """Return in how many dimensions each vector lies on the other side of the mean than the query.

        A dimension counts once, twice or three times, depending on the query's distance from the mean in it.
        """
        assert self._block is not None  # noqa: S101 - for the type checker; callers have looked
        from_middle = query - self._block.middle
        heavy = np.quantile(np.abs(from_middle), _HEAVIER)
        query_bits = _pack_bits(from_middle[None, :] > 0)[:, 0]
        masks = [_pack_bits(np.abs(from_middle)[None, :] > least)[:, 0] for least in heavy]
        distance = np.zeros(self.count, np.uint16)
        for number, bits in enumerate(self._block.bits):
            differing = bits[: self.count] ^ query_bits[number]
            distance += np.bitwise_count(differing)
            for mask in masks:
                distance += np.bitwise_count(differing & mask[number])
        return distance


def _bits(vectors: npt.NDArray[np.float32], middle: Vector) -> npt.NDArray[Any]:
    """Return one row for each 64 dimensions, one column for each vector."""
    return _pack_bits(vectors > middle)


def _pack_bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    packed = np.packbits(flags, axis=1)
    padded = np.zeros((len(flags), -(-flags.shape[1] // 64) * 8), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64).T


def _extend(alive: npt.NDArray[np.bool_] | None, more: int) -> npt.NDArray[np.bool_] | None:
    return None if alive is None else np.concatenate([alive, np.ones(more, np.bool_)])
