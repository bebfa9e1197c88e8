"""Keep SQLite connections for their next use, so many of all files together.

A connection takes two or three descriptors and up to 2 MB of memory for its cache. A connection for each thread, or
some for each file, would grow with the busiest moment of a process and never shrink.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque

__all__ = ["SpareConnections"]


class SpareConnections:
    """Connections that nobody uses at the moment.

    Args:
        most: how many are kept. Beyond that, the one that was unused for longest is closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: deque[tuple[object, sqlite3.Connection]] = deque()
        self._lock = threading.Lock()

    def take(self, owner: object) -> sqlite3.Connection | None:
        """Return the connection of ``owner`` that was used last; None if there is none."""
        with self._lock:
            for at in range(len(self._kept) - 1, -1, -1):
                if self._kept[at][0] is owner:
                    connection = self._kept[at][1]
                    del self._kept[at]
                    return connection
        return None

    def put(self, owner: object, connection: sqlite3.Connection) -> None:
        """Keep a connection of ``owner``."""
        with self._lock:
            self._kept.append((owner, connection))
            oldest = self._kept.popleft()[1] if len(self._kept) > self._most else None
        if oldest is not None:
            oldest.close()

    def close(self, owner: object) -> None:
        """Close the connections of ``owner``."""
        with self._lock:
            closed = [connection for kept, connection in self._kept if kept is owner]
            self._kept = deque(each for each in self._kept if each[0] is not owner)
        for connection in closed:
            connection.close()
