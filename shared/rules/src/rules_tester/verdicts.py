"""Keep verdicts on mutants by what they follow from, so that a run goes on where one was stopped.

A verdict follows from the rules that its cases can reach, the cases, and the documents. All else may change.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["KnownVerdict", "VerdictStore", "cache_folder", "key_of"]

_FORMAT = "1"
"""Changed whenever a new version of the tester could judge differently."""
_KEPT_SECONDS = 30 * 86400.0

KnownVerdict = tuple[int, int]
"""The number of the case that killed it, counted among the mutant's own cases (-1: it survived), and how many ran."""


def cache_folder() -> Path:
    """Return the folder of caches: ``RULES_TESTER_CACHE``, or where the system has such things."""
    named = os.environ.get("RULES_TESTER_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rules-tester"
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "rules-tester"


def key_of(parts: Iterable[str]) -> str:
    """Return the key of a verdict that follows from ``parts``."""
    digest = hashlib.sha256(_FORMAT.encode())
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


class VerdictStore:
    """Verdicts in an SQLite file, for use by several threads. One that cannot be used is as good as empty."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with suppress(OSError, sqlite3.Error):
            folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(folder / "verdicts.sqlite3", check_same_thread=False, timeout=5)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, killer INTEGER, tried INTEGER, used REAL)"
            )
            connection.execute("DELETE FROM verdicts WHERE used < ?", (time.time() - _KEPT_SECONDS,))
            connection.commit()
            self._connection = connection

    def get(self, keys: Iterable[str]) -> dict[str, KnownVerdict]:
        """Return what is known of ``keys``."""
        known: dict[str, KnownVerdict] = {}
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                for key in keys:
                    row = self._connection.execute(
                        "SELECT killer, tried FROM verdicts WHERE key = ?", (key,)
                    ).fetchone()
                    if row:
                        known[key] = (int(row[0]), int(row[1]))
                now = time.time()
                self._connection.executemany(
                    "UPDATE verdicts SET used = ? WHERE key = ?", [(now, key) for key in known]
                )
                self._connection.commit()
        return known

    def put(self, verdicts: dict[str, KnownVerdict]) -> None:
        """Keep verdicts at once, so that they outlive the process."""
        rows = [(key, killer, tried, time.time()) for key, (killer, tried) in verdicts.items()]
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", rows)
                self._connection.commit()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
