"""Empty SQLite's write-ahead log, in which removed data would live on for a while."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["empty_wal"]

_SECONDS = 10.0


def empty_wal(connection: sqlite3.Connection) -> None:
    """Write the log into its database and truncate it, as soon as no reader uses it.

    Raises:
        sqlite3.OperationalError: readers used the log for ten seconds.
    """
    give_up = time.monotonic() + _SECONDS
    # The first number of the result says whether a reader blocked it (https://sqlite.org/pragma.html#pragma_wal_checkpoint).
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > give_up:
            raise sqlite3.OperationalError("the log is busy: readers were in the way")
        time.sleep(0.02)
