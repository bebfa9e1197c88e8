"""The codes of a file's vectors: what a search reads of each of them, in a fiftieth of the bytes.

A code has one bit for each dimension. The codes of many rows are stored together, so that a process that begins to
search reads some hundred records instead of all vectors. Vectors that came since the last block have no code in the
file. All is written and removed in the commits that write and remove vectors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...precedence import give_way
from .vectors import COMPARED, Middle

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["forget_codes", "read_codes", "read_middle", "write_codes"]

_BLOCK = 256
"""Vectors whose codes are stored together."""

_SAMPLE = 2_048
"""Vectors whose mean stands for that of all."""


def write_codes(connection: sqlite3.Connection, dimensions: int) -> None:
    """Code the vectors that came since the last block, if they fill one.

    A file gets codes when a search would not compare all vectors. All codes are made anew each time the file has
    doubled, as the mean of its vectors may have changed.
    """
    (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
    middle = read_middle(connection)
    if count >= 2 * (middle.made_of if middle else COMPARED // 2):
        connection.execute("DELETE FROM codes")
        connection.execute("DELETE FROM middle")
        middle = _middle_of(connection, count, dimensions)
        if middle is not None:
            connection.execute("INSERT INTO middle VALUES (?, ?)", (count, middle.vector.tobytes()))
    if middle is None:
        return
    last = connection.execute("SELECT last FROM codes ORDER BY first DESC LIMIT 1").fetchone() or (0,)
    newest = connection.execute("SELECT max(row) FROM vectors").fetchone()
    if (newest[0] or 0) - last[0] < _BLOCK:
        return
    added = connection.execute("SELECT row, vector FROM vectors WHERE row > ? ORDER BY row", last)
    while batch := added.fetchmany(_BLOCK):
        give_way()
        rows = [row for row, _ in batch]
        vectors = np.frombuffer(b"".join(vector for _, vector in batch), np.float32).reshape(len(rows), -1)
        block = (rows[0], rows[-1], np.asarray(rows, np.int64).tobytes(), middle.codes(vectors).tobytes())
        connection.execute("INSERT INTO codes VALUES (?, ?, ?, ?)", block)


def forget_codes(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Remove the codes of rows that are removed."""
    before = "SELECT max(first) FROM codes WHERE first <= value"
    of_rows = f"SELECT first FROM codes WHERE first IN (SELECT ({before}) FROM json_each(?)) AND last >= ?"  # noqa: S608
    blocks = [first for (first,) in connection.execute(of_rows, (json.dumps(rows), min(rows)))]
    for first in blocks:
        numbers, codes = connection.execute("SELECT rows, codes FROM codes WHERE first = ?", (first,)).fetchone()
        held = np.frombuffer(numbers, np.int64)
        stays = ~np.isin(held, rows)
        kept = np.frombuffer(codes, np.uint8).reshape(len(held), -1)[stays]
        change = "UPDATE codes SET rows = ?, codes = ? WHERE first = ?"
        connection.execute(change, (held[stays].tobytes(), kept.tobytes(), first))
    if blocks:
        connection.execute("DELETE FROM codes WHERE rows = x''")
        connection.execute("DELETE FROM middle WHERE NOT EXISTS (SELECT 1 FROM codes)")


def read_middle(connection: sqlite3.Connection) -> Middle | None:
    """Return what the codes of a file were made with; None if it has none."""
    found = connection.execute("SELECT made_of, vector FROM middle").fetchone()
    return found and Middle(found[0], np.frombuffer(found[1], np.float32))


def read_codes(connection: sqlite3.Connection) -> Iterator[tuple[npt.NDArray[np.int64], bytes]]:
    """Yield the rows and the codes of each block, in the order of the rows."""
    for rows, codes in connection.execute("SELECT rows, codes FROM codes ORDER BY first"):
        yield np.frombuffer(rows, np.int64), codes


def _middle_of(connection: sqlite3.Connection, count: int, dimensions: int) -> Middle | None:
    rows = [row for (row,) in connection.execute("SELECT row FROM entries")][:: max(1, count // _SAMPLE)]
    sql = "SELECT vector FROM vectors WHERE row IN (SELECT value FROM json_each(?))"
    sample = b"".join(vector for (vector,) in connection.execute(sql, (json.dumps(rows),)))
    if not sample:
        return None
    return Middle(count, np.frombuffer(sample, np.float32).reshape(-1, dimensions).mean(axis=0, dtype=np.float32))
