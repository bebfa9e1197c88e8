"""SQLite's write-ahead log, in which pages live on for a while after what was on them is gone."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["empty_wal"]

_SECONDS = 10.0


def empty_wal(connection: sqlite3.Connection) -> None:
    """Write the log into its database and cut it to nothing, once no reader is in the way.

    Raises:
        sqlite3.OperationalError: readers were in the way for ten seconds.
    """
    give_up = time.monotonic() + _SECONDS
    # The answer's first figure says whether somebody was in the way (https://sqlite.org/pragma.html#pragma_wal_checkpoint).
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > give_up:
            raise sqlite3.OperationalError("the log is busy: readers were in the way")
        time.sleep(0.02)
