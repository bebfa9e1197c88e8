"""Replace words that no text has by the most similar words that some text has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from .words import QUERY_TERMS, QueryPart, QueryWord

__all__ = ["Vocabulary", "corrected"]

_ONE_TYPO: Final = 4
_TWO_TYPOS: Final = 8
"""The letters of a word from which one typo, and two, are looked for."""

_MOST_CORRECTED: Final = 4
_CORRECTIONS: Final = 3
_LIMIT: Final = 50


class Vocabulary(Protocol):
    """The terms of the texts that are searched."""

    def has(self, term: str) -> bool:
        """Return whether any text has a term."""

    def beginning(self, letter: str) -> Mapping[str, int]:
        """Return the terms that begin with a letter, and how many texts have each."""


def corrected(words: Sequence[QueryWord], vocabulary: Vocabulary) -> list[QueryWord]:
    """Return the words of a query; each of letters that no text has gets the forms of the words most like it.

    Long queries stay as they are, and so do all but the first few words of which no text has any.
    """
    if len(words) >= QUERY_TERMS // 4:
        return list(words)
    replaced: list[QueryWord] = []
    left = _MOST_CORRECTED
    for word in words:
        if left and _may_be_a_typo(word.forms[0]) and not any(map(vocabulary.has, word.forms)):
            left -= 1
            forms = tuple(_similar(word.forms[0], vocabulary))
            if not forms:
                replaced.append(word)
                continue
            weight = max(part.weight for part in word.parts)
            replaced.append(QueryWord((QueryPart((), forms, (), weight),)))
        else:
            replaced.append(word)
    return replaced


def _may_be_a_typo(term: str) -> bool:
    return len(term) >= _ONE_TYPO and term.isalpha()


def _similar(term: str, vocabulary: Vocabulary) -> list[str]:
    """Return the nearest terms; of equally near ones, those that most texts have."""
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    most = 2 if len(term) >= _TWO_TYPOS else 1
    # The first letter is right, or has changed places with the second.
    candidates = {**vocabulary.beginning(term[0]), **(vocabulary.beginning(term[1]) if term[1] != term[0] else {})}
    lengths = range(len(term) - most, len(term) + most + 1)
    near = process.extract(
        term,
        [candidate for candidate in candidates if len(candidate) in lengths],
        scorer=OSA.distance,
        score_cutoff=most,
        limit=_LIMIT,
    )
    least = min((distance for _, distance, _ in near), default=0)
    nearest = [candidate for candidate, distance, _ in near if distance == least]
    return sorted(nearest, key=lambda candidate: -candidates[candidate])[:_CORRECTIONS]
