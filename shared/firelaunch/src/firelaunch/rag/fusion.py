"""Merge the rankings by words and by vectors, each weighted by how far it is to be trusted.

Reciprocal rank fusion gives both the same weight, so a model that knows little of the documents' language drags good
word results down. Here each ranking's scores are scaled to 0 to 1, and the vectors' weight follows from three signs:

- how high the words rate what the vectors rank first, over the latest questions;
- how high the vectors rate what the words rank first, over the latest questions. A side whose best hits the other side
  confirms more than the other way round is the better one;
- how far the best cosine stands out of the others, against what chance alone makes of the same number, over the latest
  questions and for this one.

docs/adr/0043 has why, and docs/adr/0054 how the numbers here were fitted and on what they were measured.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from .index.base import Hit

__all__ = ["Fusion"]

_SCALED = 50
"""The hits of a ranking whose scores are scaled. Later hits only order themselves."""

_RANK_OFFSET = 60
"""k of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009), which orders hits of equal scores."""

_BEST = 5
_TAIL = 10
"""The hits that may be relevant, and so say nothing of how a ranking's other scores are spread."""

_DECAY = 0.98
"""What a question counts for less with each later one: the last 50 make up the most of a mean."""

_PRIOR_QUESTIONS = 2.5
"""How many questions the means to begin with count for."""

_BIAS, _CHANCE = -2.175, -0.275
_USUAL = (5.68, -8.95, 1.04, -0.535)
_USUAL_CONFIRMED_BY_CHANCE = 0.507
"""The weights of what is usual, and of how far this question's chance is from it (docs/adr/0054; the bias: 0072)."""

_LEAST_CHANCE = 1e-4

_Key = tuple[str, str]


class _Signs(NamedTuple):
    """The signs of how far the vectors are to be trusted, from one question or as means over many.

    Args:
        vectors_best: the score that the words give to the vectors' best hit.
        words_best_five: the mean score that the vectors give to the words' five best hits.
        vectors_best_five: the mean score that the words give to the vectors' five best hits.
        chance: the logarithm of the probability that so high a best cosine means nothing.
    """

    vectors_best: float
    words_best_five: float
    vectors_best_five: float
    chance: float


_PRIOR = _Signs(0.522, 0.262, 0.223, -2.445)
"""The means to begin with, those of all sets of docs/adr/0054."""


class Fusion:
    """The fusion of one index version's rankings. May be called from many threads.

    It keeps running means over the latest questions of this process, and nothing else of them.
    """

    def __init__(self) -> None:
        self._means = _PRIOR
        self._count = _PRIOR_QUESTIONS
        self._lock = threading.Lock()

    def merge(self, vector_hits: Sequence[Hit], word_hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits of both rankings, best first; a hit's score is its weighted sum."""
        vectors, words = _scaled(vector_hits), _scaled(word_hits)
        weight = self._vector_weight(vector_hits, vectors, words) if vectors and words else 0.5
        hits: dict[_Key, Hit] = {}
        ranks: dict[_Key, float] = {}
        for ranking in (vector_hits, word_hits):
            for rank, hit in enumerate(ranking, 1):
                key = _key(hit)
                ranks[key] = ranks.get(key, 0.0) + 1 / (_RANK_OFFSET + rank)
                if key not in hits or hits[key].unread:
                    hits[key] = hit
        scores = {key: weight * vectors.get(key, 0.0) + (1 - weight) * words.get(key, 0.0) for key in hits}
        order = sorted(hits, key=lambda key: (-scores[key], -ranks[key]))
        return [replace(hits[key], score=scores[key]) for key in order]

    def _vector_weight(
        self, vector_hits: Sequence[Hit], vectors: Mapping[_Key, float], words: Mapping[_Key, float]
    ) -> float:
        signs = _Signs(
            words.get(next(iter(vectors)), 0.0),
            _mean_score(vectors, list(words)),
            _mean_score(words, list(vectors)),
            math.log(_LEAST_CHANCE + _chance([hit.score for hit in vector_hits[:_SCALED]])),
        )
        usual = self._learn(signs)
        logit = (
            _BIAS
            + sum(weight * sign for weight, sign in zip(_USUAL, usual, strict=True))
            + _USUAL_CONFIRMED_BY_CHANCE * usual.vectors_best * usual.chance
            + _CHANCE * (signs.chance - usual.chance)
        )
        return 1 / (1 + math.exp(-logit))

    def _learn(self, signs: _Signs) -> _Signs:
        """Add a question's signs to the means, and return these."""
        with self._lock:
            old, self._count = self._count * _DECAY, self._count * _DECAY + 1
            pairs = zip(self._means, signs, strict=True)
            self._means = _Signs(*((mean * old + sign) / self._count for mean, sign in pairs))
            return self._means


def _mean_score(scores: Mapping[_Key, float], ranking: Sequence[_Key]) -> float:
    """Return the mean of the scores that one side gives to the best hits of the other's ranking."""
    best = ranking[:_BEST]
    return sum(scores.get(key, 0.0) for key in best) / len(best)


def _key(hit: Hit) -> _Key:
    return hit.owner, hit.entry.id


def _scaled(ranking: Sequence[Hit]) -> dict[_Key, float]:
    """Return the scores of a ranking's first hits, best first, scaled so that the best is 1 and the last 0."""
    best = ranking[:_SCALED]
    if not best:
        return {}
    high, low = best[0].score, best[-1].score
    return {_key(hit): (hit.score - low) / (high - low) if high > low else 1.0 for hit in best}


def _chance(scores: Sequence[float]) -> float:
    """Return how probable so high a best score is among scores that mean nothing, from 0 to 1.

    The highest of many meaningless scores, such as cosines of random vectors, fall off exponentially. The rate comes
    from all but the first few, which may be relevant.
    """
    count = len(scores)
    if count < 3:
        return 1.0
    skipped = min(_TAIL, count // 3)
    least = scores[-1]
    excess = [0.0] * count
    for rank in range(count - 1, 0, -1):
        excess[rank - 1] = excess[rank] + 1 / rank
    expected, tail = sum(excess[skipped:]), sum(score - least for score in scores[skipped:])
    if tail <= 0 or expected <= 0:
        return 0.0 if scores[0] > least else 1.0
    return 1 - (1 - math.exp(-(scores[0] - least) * expected / tail)) ** (count - 1)
