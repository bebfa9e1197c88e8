"""The port to a reranker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ...llm.types import FinishedCall
from ..index.base import Hit

__all__ = ["Reranker", "Spend", "question_end", "reordered"]

Spend = Callable[[FinishedCall], None]
"""Books a call. It is called for each call that may be charged, also if the call fails."""

_QUESTION_BYTES = 2_000
"""What a reranker reads of a question: its end, where a long message asks. A ranking model that is given more cuts the
passages instead."""


class Reranker(Protocol):
    """A ranking that reads the hits, which is better and more expensive than any index. Called from many threads."""

    def cost_bound(self, query: str) -> int:
        """Return the most micro-dollars that :meth:`rerank` books for a question; 0 if it is free."""

    def rerank(self, query: str, hits: Sequence[Hit], spend: Spend) -> Sequence[Hit]:
        """Return the hits, best first; hits that don't answer the query may be left out.

        If it raises, the search keeps its own order.
        """


def question_end(query: str) -> str:
    """Return what a reranker reads of a question."""
    return query.encode("utf-8", "replace")[-_QUESTION_BYTES:].decode("utf-8", "ignore")


def reordered(hits: Sequence[Hit], order: Iterable[int]) -> list[Hit]:
    """Return the hits in the order of the positions given; those that it leaves out follow as they were."""
    first = list(dict.fromkeys(position for position in order if 0 <= position < len(hits)))
    chosen = set(first)
    return [hits[n] for n in first] + [hit for n, hit in enumerate(hits) if n not in chosen]
