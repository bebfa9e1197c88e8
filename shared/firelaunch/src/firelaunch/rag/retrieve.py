"""From a question to the passages that a model is shown: search by words, by vectors, or by both.

:mod:`.fusion` joins the two rankings.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ..errors import FirelaunchError, ModelError, SettingsError
from ..scope import Scope
from .embed.base import Embedded, Embedder, estimate
from .fusion import Fusion
from .index.base import Hit, Where
from .index.scoped import ScopedIndex

if TYPE_CHECKING:
    from .rerank.base import Reranker, Spend

__all__ = [
    "Mode",
    "Passage",
    "RetrievalLimits",
    "Retrieved",
    "Retriever",
    "in_conversation",
    "weighted_sum",
]

log = logging.getLogger(__name__)

Mode = Literal["hybrid", "vector", "lexical"]

_QUERY_SECONDS = 10.0
"""Seconds for the embedding of a question, whose user is waiting."""

_READ_AHEAD = 3
"""Hits whose texts are read for each passage shown, if an index pays for each text: near-duplicates are dropped."""

_EARLIER_WEIGHT = 0.7
"""The weight of a word search with the earlier messages, beside one for the last message alone. With 0.35, 0.5, 0.7 and
1, nDCG@10 on ``evals/follow_ups`` is 0.769, 0.780, 0.788 and 0.791; a change of subject suffers less with less weight.
"""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RetrievalLimits:
    """The limits of a search's result.

    Args:
        passages: the most passages.
        candidates: the hits that each ranking contributes.
        min_cosine: the least cosine of a passage found by its vector only; -1 for no limit.
        tokens: the most tokens of all passages together, estimated; the first passage is always kept.
        same: the share of common words (Jaccard) from which a passage is left out as a duplicate.
    """

    passages: int = 8
    candidates: int = 50
    min_cosine: float = -1.0
    tokens: int = 3_000
    same: float = 0.9


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that a model is shown, and that an answer cites by its ``number``, from 1."""

    number: int
    hit: Hit


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages, best first, and the search mode; ``note`` says why a possible mode was not used."""

    passages: tuple[Passage, ...]
    mode: Mode
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """A question as it is searched: the last message, the messages before it, and where to look."""

    text: str
    earlier: str
    within: Where | None
    library: bool

    @property
    def whole(self) -> str:
        """The question with the messages before it, for what understands sentences."""
        return in_conversation(self.text, self.earlier)


class Retriever:
    """The search in one app's index. May be called from many threads.

    Args:
        version: returns the index version in use; called for each search, so that a switch takes effect at once.
        embedder: None if the app has none; then only words are searched.
        reranker: orders the hits anew; None to keep the search's own order.
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
        self._fusion = Fusion()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="search")

    @property
    def reranks(self) -> bool:
        """Whether there is a reranker."""
        return self._reranker is not None

    @property
    def mode(self) -> Mode:
        """The best mode that this app's index and embedder allow."""
        if self._embedder is None:
            return "lexical"
        return "hybrid" if self._index.has_words else "vector"

    def search(
        self,
        scope: Scope,
        query: str,
        where: Where | None = None,
        *,
        earlier: str = "",
        library: bool = True,
        paid: Callable[[Embedded], None] = lambda _: None,
        spend: Spend = lambda _: None,
        living: Callable[[Sequence[Hit]], Sequence[Hit]] = lambda hits: hits,
    ) -> Retrieved:
        """Return the passages for a question: ranked, without near-duplicates, within the limits.

        Without an embedder, or if it fails, only words are searched, and the note says so. If the reranker fails, the
        passages are in the order of the search, and the note says so, too.

        Args:
            earlier: the user's messages before this one, which say what "it" is. Their words count less than the
                question's. They cost a second search by words, beside the first, and are embedded with the question.
            paid: called with the question's embedding before this returns, also if the search fails afterwards.
            spend: called with each call of the reranker before this returns.
            living: returns the hits whose documents still exist; called only with hits that are about to be shown.

        Raises:
            IndexFailed: the index cannot be searched.
            ModelError: the embedder fails, and the index has no words to fall back on.
        """
        if not query.strip():
            return Retrieved((), self.mode)
        version, question = self._version(), _Question(query, earlier, where, library)
        candidates, mode, note = self._candidates(scope, version, question, paid)
        hits = self._read(scope, version, candidates, library)
        if self._reranker is not None:
            hits, failure = self.rerank(question.whole, living(hits), spend)
            note = " ".join(filter(None, (note, failure)))
        chosen = self._choose(hits)
        while len(alive := living(chosen)) < len(chosen):
            # Hits of deleted documents took the place of others, and suppressed their near-duplicates. Choose again.
            dead = {id(hit) for hit in chosen} - {id(hit) for hit in alive}
            hits = [hit for hit in hits if id(hit) not in dead]
            chosen = self._choose(hits)
        return Retrieved(tuple(Passage(n, hit) for n, hit in enumerate(chosen, 1)), mode, note)

    def rerank(self, query: str, hits: Sequence[Hit], spend: Spend) -> tuple[list[Hit], str]:
        """Return the hits in the reranker's order, or as they are with a note that says why."""
        if self._reranker is None or len(hits) < 2:
            return list(hits), ""
        try:
            return list(self._reranker.rerank(query, hits, spend)), ""
        except Exception as error:
            # The passages are found, so no fault of a reranker takes them from the user.
            failure = error if isinstance(error, FirelaunchError) else FirelaunchError()
            level = logging.WARNING if failure is error else logging.ERROR
            log.log(level, "the passages could not be reranked: %s", error, exc_info=failure is not error)
            return list(hits), f"The reranker failed ({failure.code}): the passages are in the order of the search."

    def _choose(self, hits: Sequence[Hit]) -> list[Hit]:
        return _within_limits(_distinct(hits, self._limits.same), self._limits.passages, self._limits.tokens)

    def rank(
        self,
        scope: Scope,
        query: str,
        mode: Mode,
        k: int,
        where: Where | None = None,
        *,
        earlier: str = "",
        library: bool = True,
        paid: Callable[[Embedded], None] = lambda _: None,
    ) -> list[Hit]:
        """Return the ``k`` best hits of one search mode, duplicates included.

        ``firelaunch eval`` measures them, and what :meth:`rerank` makes of them.
        """
        version, question = self._version(), _Question(query, earlier, where, library)
        if mode == "lexical":
            return self._matching(scope, version, question, k)
        vector_hits = self._nearest(scope, version, question, k, paid)
        if mode == "vector":
            return vector_hits
        return self._fusion.merge(vector_hits, self._matching(scope, version, question, k))[:k]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    def _read(self, scope: Scope, version: str, candidates: list[Hit], library: bool) -> list[Hit]:
        """Read the texts of the best hits. Of the others, keep those that came with their texts."""
        limit = self._limits.candidates if self._reranker else _READ_AHEAD * self._limits.passages
        best = self._index.texts(scope, version, candidates[:limit], library=library)
        return best + [hit for hit in candidates[limit:] if not hit.unread]

    def _candidates(
        self, scope: Scope, version: str, question: _Question, paid: Callable[[Embedded], None]
    ) -> tuple[list[Hit], Mode, str]:
        k = self._limits.candidates
        if self._embedder is None:
            hits = self._matching(scope, version, question, k, texts=False)
            return hits, "lexical", "There is no embedding model: the search was by words alone."
        if not self._index.has_words:
            return self._nearest(scope, version, question, k, paid), "vector", ""
        # The embedding calls another service, so search the words meanwhile.
        vector_search = self._threads.submit(copy_context().run, self._nearest, scope, version, question, k, paid)
        try:
            word_hits = self._matching(scope, version, question, k, texts=False)
        except BaseException:
            vector_search.exception()  # wait for it, since its embedding may have to be paid
            raise
        try:
            vector_hits = vector_search.result()
        except ModelError as error:
            return word_hits, "lexical", f"The embedding model failed ({error.code}): the search was by words alone."
        return self._fusion.merge(vector_hits, word_hits), "hybrid", ""

    def _matching(self, scope: Scope, version: str, question: _Question, k: int, *, texts: bool = True) -> list[Hit]:
        """Search the question's words, and those of the messages before it with less weight."""

        def search(text: str) -> list[Hit]:
            return self._index.matching(scope, version, text, k, question.within, library=question.library, texts=texts)

        if not question.earlier:
            return search(question.text)
        wider = self._threads.submit(copy_context().run, search, question.whole)
        try:
            hits = search(question.text)
        finally:
            wider.exception()  # a search in a conversation fails as a whole
        # The scores of BM25 add up, so this is one search in which each word has a weight.
        return weighted_sum([(hits, 1.0), (wider.result(), _EARLIER_WEIGHT)])[:k]

    def _nearest(
        self,
        scope: Scope,
        version: str,
        question: _Question,
        k: int,
        paid: Callable[[Embedded], None] = lambda _: None,
    ) -> list[Hit]:
        assert self._embedder is not None  # noqa: S101 - callers have looked
        embedded = self._embedder.embed([question.whole], query=True, seconds=_QUERY_SECONDS)
        paid(embedded)
        where, library = question.within, question.library
        hits = self._index.nearest(scope, version, embedded.vectors[0], k, where, library=library)
        return [hit for hit in hits if hit.score >= self._limits.min_cosine]


def in_conversation(text: str, earlier: str) -> str:
    """Return a question with the messages before it, as it is embedded."""
    return f"{earlier}\n{text}" if earlier else text


def weighted_sum(rankings: Iterable[tuple[Sequence[Hit], float]]) -> list[Hit]:
    """Merge rankings by the sums of their scores, each times its ranking's weight."""
    scores: dict[tuple[str, str], float] = {}
    hits: dict[tuple[str, str], Hit] = {}
    for ranking, weight in rankings:
        for hit in ranking:
            key = (hit.owner, hit.entry.id)
            scores[key] = scores.get(key, 0.0) + weight * hit.score
            if key not in hits or hits[key].unread:
                hits[key] = hit
    return [replace(hits[key], score=scores[key]) for key in sorted(scores, key=lambda key: -scores[key])]


def _distinct(hits: Iterable[Hit], same: float) -> Iterable[Hit]:
    """Yield the hits without near-duplicates of better ones."""
    seen: list[set[str]] = []
    for hit in hits:
        words = set(_WORD.findall(hit.entry.text.lower()))
        if not any(_similarity(words, other) >= same for other in seen):
            seen.append(words)
            yield hit


def _similarity(words: set[str], other_words: set[str]) -> float:
    if not words or not other_words:
        return float(words == other_words)
    if min(len(words), len(other_words)) * 10 < max(len(words), len(other_words)):
        return 0.0
    common = len(words & other_words)
    return common / (len(words) + len(other_words) - common)


def _within_limits(hits: Iterable[Hit], count: int, tokens: int) -> list[Hit]:
    kept: list[Hit] = []
    for hit in hits:
        tokens -= estimate(hit.entry.text)
        if len(kept) == count or (tokens < 0 and kept):
            break
        kept.append(hit)
    return kept
