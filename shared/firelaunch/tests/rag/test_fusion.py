"""Fusion: the better ranking has its way, whichever it is, and whatever its scores are like."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from firelaunch.rag.fusion import Fusion
from firelaunch.rag.index.base import Entry, Hit
from hypothesis import given
from hypothesis import strategies as st

DOCUMENTS, QUESTIONS, DEPTH = 300, 120, 50
Scores = Callable[[int, float], float]


def hit(name: str, score: float, owner: str = "user:ada") -> Hit:
    return Hit("demo", owner, "v1", Entry(name, "d", name), score)


def ranking(dice: random.Random, right: int, skill: float, spread: float) -> list[Hit]:
    """A ranking of documents by noise, in which the right one stands out with a probability of ``skill``."""
    scores = {n: dice.gauss(0, 1) for n in range(DOCUMENTS)}
    if dice.random() < skill:
        scores[right] = 5 + dice.random()
    best = sorted(scores, key=lambda n: -scores[n])[:DEPTH]
    return [hit(f"d{n}", spread * scores[n]) for n in best]


def by_rank(hits: list[Hit]) -> list[Hit]:
    """The hits as a service gives them that tells ranks alone."""
    return [hit(each.entry.id, 1 / rank) for rank, each in enumerate(hits, 1)]


def found(vectors: float, words: float, *, ranks: bool) -> tuple[float, float, float]:
    """The share of questions whose right document comes first: by vectors, by words, by both."""
    dice, fusion, counts = random.Random(7), Fusion(), [0, 0, 0]  # noqa: S311 - the same each time
    for _ in range(QUESTIONS):
        right = dice.randrange(DOCUMENTS)
        vector_hits, word_hits = ranking(dice, right, vectors, 0.05), ranking(dice, right, words, 4.0)
        if ranks:
            word_hits = by_rank(word_hits)
        for n, hits in enumerate((vector_hits, word_hits, fusion.merge(vector_hits, word_hits))):
            counts[n] += hits[0].entry.id == f"d{right}"
    return counts[0] / QUESTIONS, counts[1] / QUESTIONS, counts[2] / QUESTIONS


@pytest.mark.parametrize("ranks", [False, True], ids=["scores", "ranks"])
@pytest.mark.parametrize(("vectors", "words"), [(0.0, 0.9), (0.2, 0.9), (0.95, 0.5)])
def test_a_weak_side_takes_next_to_nothing_from_a_strong_one(vectors: float, words: float, ranks: bool) -> None:
    by_vectors, by_words, by_both = found(vectors, words, ranks=ranks)
    assert by_both >= max(by_vectors, by_words) - 0.02, (by_vectors, by_words, by_both)


@pytest.mark.parametrize("ranks", [False, True], ids=["scores", "ranks"])
def test_vectors_that_are_right_for_less_than_half_of_the_questions_do_not_have_their_way(ranks: bool) -> None:
    by_vectors, by_words, by_both = found(0.4, 0.9, ranks=ranks)
    assert by_both >= by_words - 0.08, (by_vectors, by_words, by_both)


def test_a_hit_of_both_rankings_comes_once_and_equal_ids_of_two_owners_stay_apart() -> None:
    mine, shared, other = hit("x", 0.9), hit("x", 0.8, "library"), hit("y", 3.0)
    merged = Fusion().merge([mine, shared], [other, hit("x", 2.0)])
    assert sorted((each.owner, each.entry.id) for each in merged) == [
        ("library", "x"), ("user:ada", "x"), ("user:ada", "y"),
    ]  # fmt: skip


def test_a_side_that_finds_nothing_leaves_the_order_of_the_other() -> None:
    hits = [hit(f"d{n}", 1 / (n + 1)) for n in range(70)]
    for merged in (Fusion().merge(hits, []), Fusion().merge([], hits)):
        assert [each.entry.id for each in merged] == [each.entry.id for each in hits]


names = st.lists(st.integers(0, 30), unique=True, max_size=30)


@given(names, names, st.lists(st.floats(-1, 1), min_size=30, max_size=30), st.booleans())
def test_no_hit_is_lost_or_doubled_and_no_score_is_strange(
    vectors: list[int], words: list[int], scores: list[float], flat: bool
) -> None:
    best = [0.5] * 30 if flat else sorted(scores, reverse=True)
    fusion = Fusion()
    for _ in range(2):
        merged = fusion.merge(
            [hit(f"d{n}", score) for n, score in zip(vectors, best, strict=False)],
            [hit(f"d{n}", score) for n, score in zip(words, best, strict=False)],
        )
        assert sorted(each.entry.id for each in merged) == sorted({f"d{n}" for n in [*vectors, *words]})
        assert all(0.0 <= each.score <= 1.0 for each in merged)
