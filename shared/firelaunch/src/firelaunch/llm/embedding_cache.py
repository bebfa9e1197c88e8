"""Embeddings that were made before, by the hash of their text: the same text of the same model is embedded once."""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from collections.abc import Callable, Sequence

from .cache import BoundedCache

__all__ = ["EmbeddingCache"]

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


class EmbeddingCache:
    """Stands before one app's embedder. A vector says no more than its text, so the app's users share it.

    Args:
        app_id: whose embedder it is.
        model: the embedder's name with all that changes its vectors, such as "text-embedding-3-small/512/query".
        seconds, entries, size, monotonic: see :class:`~firelaunch.llm.cache.BoundedCache`.
    """

    def __init__(
        self,
        app_id: str,
        model: str,
        *,
        seconds: float = 86_400,
        entries: int = 20_000,
        size: int = 64 << 20,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = (app_id, model)
        self._kept: BoundedCache[array[float]] = BoundedCache(seconds, entries, size, monotonic)

    def vectors(self, texts: Sequence[str], embed: Embed) -> list[list[float]]:
        """A vector for each text, in order. ``embed`` is called once, with the texts that are not known, or not at all.

        Raises:
            ValueError: ``embed`` gave another number of vectors than it was asked for.
        """
        keys = [self._key(text) for text in texts]
        found = {key: self._kept.get(key) for key in keys}
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
        if wanted:
            made = embed(list(wanted.values()))
            for key, vector in zip(wanted, made, strict=True):
                kept = found[key] = array("d", vector)
                self._kept.put(key, kept, len(kept) * kept.itemsize)
        return [list(found[key] or ()) for key in keys]

    def _key(self, text: str) -> str:
        return hashlib.sha256(json.dumps([*self._prefix, text]).encode()).hexdigest()
