"""The index for a laptop: one SQLite file for each owner and version, so that owners share no table and no statistic.

A file holds the entries, their vectors and the terms of their texts (FTS5). The vectors of recently searched owners
are also kept in memory; after a write, only the changes are read again. An acknowledged write survives the death of
the process; an interrupted one leaves nothing.
"""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ...scope import Scope
from ...store.connections import SpareConnections
from ...store.fence import Fence
from .base import Entry, Hit, Where, owner_of, scopes_of
from .shard import Shard
from .words import Analyzer

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["EmbeddedIndex"]

_OPEN_SHARDS = 64
"""The most files whose vectors and connections are kept."""

_SPARE_CONNECTIONS = 32
"""The most connections that are kept of all files together; each takes two or three descriptors."""


class EmbeddedIndex:
    """An :class:`~firelaunch.rag.index.base.Index` in a folder: ``<app>/<version>/<hash of the owner>.sqlite3``.

    Args:
        folder: created with the first write.
        analyzer: makes terms of texts and queries. Another analyzer needs another version.
        memory_bytes: for the vectors in memory. A single owner's may take more.
    """

    has_words = True

    def __init__(self, folder: Path, analyzer: Analyzer | None = None, memory_bytes: int = 512 * 2**20) -> None:
        self._folder = folder
        self._analyzer = analyzer or Analyzer()
        self._memory_bytes = memory_bytes
        self._shards: OrderedDict[Path, Shard] = OrderedDict()
        self._spare = SpareConnections(_SPARE_CONNECTIONS)
        self._lock = threading.Lock()

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write all entries in one commit, as :class:`~firelaunch.rag.index.base.Index` describes."""
        self._shard(scope, version).upsert(entries, fence)

    def delete(
        self,
        scope: Scope,
        document: str | None = None,
        *,
        version: str | None = None,
        ids: Collection[str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        app = self._folder / scope.app_id
        versions = [version] if version is not None else sorted(path.name for path in app.glob("*"))
        for version_id in versions:
            self._shard(scope, version_id).delete(document, ids, fence)

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        shards = [self._shard(each, version) for each in scopes_of(scope, library)]
        hits = _best([hit for shard in shards for hit in shard.nearest(vector, k, where or {})], k)
        self._make_room()
        return hits

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,  # noqa: ARG002 - they come with the hits
    ) -> list[Hit]:
        """Return the entries that match the words best, as :class:`~firelaunch.rag.index.base.Index` describes.

        Scores are BM25's, from each owner's own statistics.
        """
        shards = [self._shard(each, version) for each in scopes_of(scope, library)]
        hits = _best([hit for shard in shards for hit in shard.matching(query, k, where or {})], k)
        self._make_room()
        return hits

    def texts(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:  # noqa: ARG002 - of the port
        """Return the hits with their texts, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return list(hits)

    def read(self, scope: Scope, version: str, document: str) -> list[Hit]:
        """Return a document's entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return self._shard(scope, version).read(document)

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :class:`~firelaunch.rag.index.base.Index` describes."""
        return self._shard(scope, version).count()

    def drop(self, app_id: str, version: str) -> None:
        """Remove a version, as :class:`~firelaunch.rag.index.base.Index` describes."""
        folder = self._folder / app_id / version
        with self._lock:
            for path in [path for path in self._shards if path.parent == folder]:
                self._shards.pop(path).close()
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Release connections and memory, as :class:`~firelaunch.rag.index.base.Index` describes."""
        with self._lock:
            for shard in self._shards.values():
                shard.close()
            self._shards.clear()

    def _shard(self, scope: Scope, version: str) -> Shard:
        # A user id may hold characters that file names cannot; its hash does not. The file itself names its owner.
        name = sha256(owner_of(scope).encode()).hexdigest()[:40]
        path = self._folder / scope.app_id / version / f"{name}.sqlite3"
        with self._lock:
            shard = self._shards.get(path)
            if shard is not None and shard.removed:
                self._shards.pop(path).close()
                shard = None
            if shard is None:
                shard = Shard(path, scope.app_id, owner_of(scope), version, self._analyzer, self._spare)
                self._shards[path] = shard
            self._shards.move_to_end(path)
            while len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)[1].close()
        return shard

    def _make_room(self) -> None:
        with self._lock:
            bytes_in_use = 0
            for shard in reversed(self._shards.values()):
                bytes_in_use += shard.memory
                if bytes_in_use > self._memory_bytes and bytes_in_use > shard.memory:
                    shard.forget()


def _best(hits: list[Hit], k: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: -hit.score)[:k]
