"""From a question to the passages that a model is shown: by words, by vectors, or by both.

The two rankings are joined by reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009), which needs their
ranks alone: a BM25 score and a cosine have no common measure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ..errors import ModelError, SettingsError
from ..scope import Scope
from .embed.base import Embedded, Embedder, estimate
from .index.base import Hit, Where
from .index.scoped import ScopedIndex

__all__ = ["Mode", "Passage", "Reranker", "RetrievalLimits", "Retrieved", "Retriever", "fuse"]

Mode = Literal["hybrid", "vector", "lexical"]

_RANK_OFFSET = 60
"""k of reciprocal rank fusion, as in the paper."""

_QUERY_SECONDS = 10.0
"""For the embedding of a question: its user waits."""

_READ_AHEAD = 3
"""Hits whose texts are read for each passage that is wanted, where an index pays for each text: some say the same."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RetrievalLimits:
    """What a search gives.

    Args:
        passages: how many at most.
        candidates: how many each ranking brings in.
        min_cosine: a passage that is found by its vector alone must be this near; -1 for no matter.
        tokens: what all passages may take together, estimated; the first is kept whatever it takes.
        same: the share of words in common (Jaccard) from which a passage is left out as one that is there already.
    """

    passages: int = 8
    candidates: int = 50
    min_cosine: float = -1.0
    tokens: int = 3_000
    same: float = 0.9


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage that a model is shown, and that an answer cites by its ``number``, from 1."""

    number: int
    hit: Hit


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found, best first, and how: ``note`` says why it was not by all means there are."""

    passages: tuple[Passage, ...]
    mode: Mode
    note: str = ""


class Reranker(Protocol):
    """Puts hits in a better order by reading them, which is dearer than any index."""

    def rerank(self, query: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The same hits, best first; those that say nothing to the query may be left out."""


class Retriever:
    """Searches one app's index. May be called from many threads.

    Args:
        version: the index version that is in use, asked for at each search, so that a switch takes effect at once.
        embedder: None where the app has none; then words alone are searched.
    """

    def __init__(
        self,
        index: ScopedIndex,
        version: Callable[[], str],
        embedder: Embedder | None,
        limits: RetrievalLimits = RetrievalLimits(),
        reranker: Reranker | None = None,
    ) -> None:
        if embedder is None and not index.has_words:
            raise SettingsError(
                "This index finds by vectors alone, and there is no embedder: set index.embedder, or use an index that "
                "searches words (embedded, pgvector)."
            )
        self._index = index
        self._version = version
        self._embedder = embedder
        self._limits = limits
        self._reranker = reranker
        self._beside = ThreadPoolExecutor(8, thread_name_prefix="search")

    @property
    def mode(self) -> Mode:
        """The best that this app's index and embedder can do."""
        if self._embedder is None:
            return "lexical"
        return "hybrid" if self._index.has_words else "vector"

    def search(
        self,
        scope: Scope,
        query: str,
        where: Where | None = None,
        *,
        library: bool = True,
        paid: Callable[[Embedded], None] = lambda _: None,
        living: Callable[[Sequence[Hit]], Sequence[Hit]] = lambda hits: hits,
    ) -> Retrieved:
        """The passages for a question: ranked, without near-duplicates, within the limits.

        Words alone are searched, and the note says so, where there is no embedder or it fails.

        Args:
            paid: told of the question's embedding, before this returns and also where the search fails afterwards.
            living: keeps those hits whose documents live. Asked about what is to be shown, and about nothing else.

        Raises:
            IndexFailed: the index cannot be searched.
            ModelError: the embedder fails, and the index has no words to fall back on.
        """
        if not query.strip():
            return Retrieved((), self.mode)
        version = self._version()
        found, mode, note = self._found(scope, version, query, where, library, paid)
        hits = self._read(scope, version, found, library)
        if self._reranker is not None:
            hits = list(self._reranker.rerank(query, living(hits)))
        chosen = self._chosen(hits)
        while len(alive := living(chosen)) < len(chosen):
            # What is dead took the place of others, and hid those that say the same.
            dead = {id(hit) for hit in chosen} - {id(hit) for hit in alive}
            hits = [hit for hit in hits if id(hit) not in dead]
            chosen = self._chosen(hits)
        return Retrieved(tuple(Passage(n, hit) for n, hit in enumerate(chosen, 1)), mode, note)

    def _chosen(self, hits: Sequence[Hit]) -> list[Hit]:
        return _within(_distinct(hits, self._limits.same), self._limits.passages, self._limits.tokens)

    def rank(
        self, scope: Scope, query: str, mode: Mode, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """The ``k`` best hits by one way of searching, duplicates and all; what ``firelaunch eval`` measures."""
        version = self._version()
        if mode == "lexical":
            return self._index.matching(scope, version, query, k, where, library=library)
        near = self._near(scope, version, query, k, where, library)
        if mode == "vector":
            return near
        return fuse([near, self._index.matching(scope, version, query, k, where, library=library)])[:k]

    def close(self) -> None:
        """End its threads."""
        self._beside.shutdown(wait=False)

    def _read(self, scope: Scope, version: str, hits: list[Hit], library: bool) -> list[Hit]:
        """Read the texts of the best hits. Of the others those stay that came with theirs."""
        wanted = self._limits.candidates if self._reranker else _READ_AHEAD * self._limits.passages
        best = self._index.texts(scope, version, hits[:wanted], library=library)
        return best + [hit for hit in hits[wanted:] if not hit.unread]

    def _found(
        self,
        scope: Scope,
        version: str,
        query: str,
        where: Where | None,
        library: bool,
        paid: Callable[[Embedded], None],
    ) -> tuple[list[Hit], Mode, str]:
        k = self._limits.candidates
        if self._embedder is None:
            hits = self._index.matching(scope, version, query, k, where, library=library, texts=False)
            return hits, "lexical", "There is no embedding model: the search was by words alone."
        if not self._index.has_words:
            return self._near(scope, version, query, k, where, library, paid), "vector", ""
        # The embedding is a call of another service, and the words need not wait for it.
        running = self._beside.submit(self._near, scope, version, query, k, where, library, paid)
        try:
            words = self._index.matching(scope, version, query, k, where, library=library, texts=False)
        except BaseException:
            running.exception()  # it may have to be paid
            raise
        try:
            near = running.result()
        except ModelError as error:
            return words, "lexical", f"The embedding model failed ({error.code}): the search was by words alone."
        return fuse([near, words]), "hybrid", ""

    def _near(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None,
        library: bool,
        paid: Callable[[Embedded], None] = lambda _: None,
    ) -> list[Hit]:
        assert self._embedder is not None  # noqa: S101 - callers have looked
        asked = self._embedder.embed([query], query=True, seconds=_QUERY_SECONDS)
        paid(asked)
        hits = self._index.nearest(scope, version, asked.vectors[0], k, where, library=library)
        return [hit for hit in hits if hit.score >= self._limits.min_cosine]


def fuse(rankings: Iterable[Sequence[Hit]]) -> list[Hit]:
    """One ranking of several by reciprocal ranks; a hit's score is the sum of 1 / (60 + rank)."""
    scores: dict[tuple[str, str], float] = {}
    hits: dict[tuple[str, str], Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            key = (hit.owner, hit.entry.id)
            scores[key] = scores.get(key, 0.0) + 1 / (_RANK_OFFSET + rank)
            if key not in hits or hits[key].unread:
                hits[key] = hit
    return [replace(hits[key], score=scores[key]) for key in sorted(scores, key=lambda key: -scores[key])]


def _distinct(hits: Iterable[Hit], same: float) -> Iterable[Hit]:
    """Without those that say what a better one said."""
    seen: list[set[str]] = []
    for hit in hits:
        words = set(_WORD.findall(hit.entry.text.lower()))
        if not any(_common(words, other) >= same for other in seen):
            seen.append(words)
            yield hit


def _common(one: set[str], other: set[str]) -> float:
    if not one or not other:
        return float(one == other)
    if min(len(one), len(other)) * 10 < max(len(one), len(other)):
        return 0.0
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def _within(hits: Iterable[Hit], count: int, tokens: int) -> list[Hit]:
    chosen: list[Hit] = []
    for hit in hits:
        tokens -= estimate(hit.entry.text)
        if len(chosen) == count or (tokens < 0 and chosen):
            break
        chosen.append(hit)
    return chosen
