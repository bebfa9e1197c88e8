"""BM25 in memory, over the postings of the terms that were asked for lately.

FTS5 ranks a question with common words by looking at each occurrence, every time. Here each term's postings are read
from the file once, and kept with what the term adds to the score of each text. A search adds up a few arrays.

What is kept is of one state of the file. After a write, new texts are appended with their terms, and removed ones are
left out.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from .words import K1, B, QueryPart, mark_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Lexicon", "TermFile", "Texts"]

_LEAST_IDF: Final = 1e-6
"""The rarity of a word that more than half of the texts have, as in SQLite."""

_DEAD_SHARE: Final = 0.25
"""The share of removed texts from which all is read anew."""

_MOST_ADDED: Final = 512
"""Texts that are appended to the postings that are kept; if there are more, postings are read from the file again."""

_COMMON_SHARE: Final = 0.25
"""The share of texts that have a term from which the term's scores are kept for all texts."""

_BLOCK: Final = 256
"""Texts whose best one is looked for together."""

_POSTING_BYTES: Final = 4 + 4 + 8
_TEXT_BYTES: Final = 8 + 8 + 1 + 8 + 4
_MOST_POSTINGS: Final = 2_000_000
"""Postings that are kept of one file: 32 MB, or 80 MB if all terms are common ones."""

_TERM_POSTINGS: Final = 40
"""The memory of a term beside its postings, as a number of postings: 640 bytes, for its arrays and its name."""

_POSTINGS_A_TEXT: Final = 40
_FEWEST_POSTINGS: Final = 2_000
"""A file may keep this many, and so many for each text. Without this bound the files of many users, each with a few
texts, would keep every word that anybody ever asked for."""

_FEW: Final = 4_096
"""Postings that are read in 5 ms, so that it is not worth while to do without them."""

_MOST_CONTENDERS: Final = 256
"""Texts of which each one's terms are read, to do without the postings of common words."""


_READ_AT_ONCE: Final = 150_000
"""Postings of common words that one search reads to keep them, in 0.2 s; of a single word it reads all."""


class TermFile(Protocol):
    """The terms of one state of a file."""

    def postings(self, term: str) -> Sequence[tuple[int, float]]:
        """Return the rows that have a term, each with its BM25 for this term alone, as SQLite counts it."""

    def having(self, word: str) -> int:
        """Return how many texts have a word."""

    def terms_of(self, rows: Sequence[int]) -> Sequence[Mapping[str, int]]:
        """Return how often the texts of these rows have each of their terms."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one state of a file.

    Args:
        rows: their numbers, ascending.
        lengths: the terms and marks of each.
        alive: False for those that were removed since.
    """

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.float64]
    alive: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[int], lengths: Sequence[int]) -> Texts:
        """Return texts that are all alive."""
        return cls(np.asarray(rows, np.int64), np.asarray(lengths, np.float64), np.ones(len(rows), np.bool_))

    @property
    def last(self) -> int:
        """The highest row that was ever added."""
        return int(self.rows[-1]) if len(self.rows) else 0

    def changed(self, removed: Sequence[int], added: Texts) -> Texts:
        """Return the texts without some rows, and with others behind them."""
        alive = self.alive
        if removed and len(self.rows):
            alive = alive.copy()
            alive[self.places_of(removed)] = False
        return Texts(
            np.concatenate([self.rows, added.rows]),
            np.concatenate([self.lengths, added.lengths]),
            np.concatenate([alive, added.alive]),
        )

    def places_of(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where these rows are; those that are not here are left out."""
        wanted = np.asarray(rows, np.int64)
        if not len(self.rows):
            return wanted[:0]
        places = np.searchsorted(self.rows, wanted).clip(max=len(self.rows) - 1)
        return np.asarray(places[self.rows[places] == wanted], np.int64)


@dataclass(slots=True)
class _Postings:
    """The texts that have a term: ``places`` in the first ``seen`` texts, and how often each has it."""

    places: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float32]
    seen: int
    scores: npt.NDArray[np.float64] | None = None
    """The term's part of the score of each of these texts, if that is known for the present state. For a common term
    it is an array of all texts, which are added up faster than some."""


@dataclass(slots=True)
class Lexicon:
    """The texts and postings of one file. Its callers take care that one thread uses it at a time.

    Args:
        texts: of the state that ``generation`` and ``removals`` name.
    """

    generation: int
    removals: int
    texts: Texts
    _terms: OrderedDict[str, _Postings] = field(default_factory=OrderedDict)
    _added: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """The terms of the texts that were appended, by their places."""
    _kept: int = 0
    _documents: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    _numbers: dict[str, int] = field(default_factory=dict)
    """The number of each document, and of the document of each text."""
    _relative: npt.NDArray[np.float64] | None = None
    _living: int = 0

    def of_documents(
        self, documents: Iterable[str], read: Callable[[int], Iterable[tuple[int, str]]]
    ) -> npt.NDArray[np.bool_]:
        """Return which texts are of these documents.

        Args:
            read: returns the rows behind one, each with its document.
        """
        if len(self._documents) < len(self.texts.rows):
            known = len(self._documents)
            numbers = np.full(len(self.texts.rows), -1, np.int32)
            numbers[:known] = self._documents
            found = list(read(int(self.texts.rows[known - 1]) if known else 0))
            places = self.texts.places_of([row for row, _ in found])
            numbers[places] = [self._numbers.setdefault(name, len(self._numbers)) for _, name in found]
            self._documents = numbers
        wanted = np.zeros(len(self._numbers) + 1, np.bool_)  # the last one is for texts that were removed
        wanted[[self._numbers[name] for name in documents if name in self._numbers]] = True
        return np.asarray(wanted[self._documents], np.bool_)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return len(self.texts.rows) * _TEXT_BYTES + self._kept * _POSTING_BYTES

    @property
    def worn(self) -> bool:
        """Whether so many texts were removed that all should be read anew."""
        return bool(len(self.texts.rows) and self.texts.alive.mean() < 1 - _DEAD_SHARE)

    def update(
        self,
        generation: int,
        removals: int,
        removed: Sequence[int],
        added: Texts,
        file: TermFile,
    ) -> None:
        """Go on to a later state of the file."""
        first = len(self.texts.rows)
        self.texts = self.texts.changed(removed, added)
        self.generation, self.removals = generation, removals
        self._relative = None
        for postings in self._terms.values():
            postings.scores = None
        if len(added.rows) and self._terms:
            if len(self._added) + len(added.rows) > _MOST_ADDED:
                self._terms.clear()
                self._added.clear()
                self._kept = 0
            else:
                self._added.update(enumerate(file.terms_of(added.rows.tolist()), first))

    def best(
        self, parts: Sequence[QueryPart], k: int, file: TermFile, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[tuple[int, float]]:
        """Return the rows with the highest BM25, and their scores; of equal ones, the earlier row first.

        A common word adds little. So its postings are not read if those of rarer words leave few texts that it could
        bring among the best.

        Args:
            file: of the same state; is asked for postings that are not kept.
            allowed: which texts may be found; None for all.
        """
        late = self._late(parts, file)
        insides = {part.languages: self._inside(part.languages, file) for part in parts}
        totals = np.zeros(len(self.texts.rows))
        for part in parts:
            self._add(totals, part, insides[part.languages], file, late)
        while True:
            if allowed is not None:
                totals[~allowed] = 0.0
            if not late:
                found = _candidates(totals, k)
                break
            more = sum(weight * late.get(term, 0.0) for part in parts for term, weight in part.weights.items())
            contenders = _contenders(totals, k, more)
            if contenders is not None:
                found = contenders
                self._add_late(totals, found, parts, insides, file, late)
                break
            rarest = max(late, key=lambda form: late[form])
            del late[rarest]
            for part in parts:
                if rarest in part.forms:
                    self._add_term(totals, rarest, part.weights[rarest], insides[part.languages], file)
        self._make_room()
        order = np.argsort(-totals[found], kind="stable")[:k]
        return list(zip(self.texts.rows[found[order]].tolist(), totals[found[order]].tolist(), strict=True))

    def _late(self, parts: Sequence[QueryPart], file: TermFile) -> dict[str, float]:
        """Return the words whose postings are many and not kept, each with the most that it adds to a score.

        The first search of a file leaves out all of them. Later ones read some, the rarest first.
        """
        if len(self.texts.rows) <= _FEW:
            return {}
        forms = {form for part in parts for form in part.forms} - self._terms.keys()
        having = {form: file.having(form) for form in forms}
        self._measured()
        common = sorted((form for form in forms if having[form] > _FEW), key=lambda form: (having[form], form))
        totals = list(accumulate(having[form] for form in common))
        read = max(1, sum(total <= _READ_AT_ONCE for total in totals)) if self._terms else 0
        return {form: (K1 + 1) * self._idf(having[form]) for form in common[read:]}

    def _inside(self, languages: Sequence[str], file: TermFile) -> npt.NDArray[np.bool_] | None:
        """Return which texts are in these languages; None for all, if there are none."""
        if not languages:
            return None
        inside = np.zeros(len(self.texts.rows), np.bool_)
        for language in languages:
            inside[self._postings(mark_of(language), file).places] = True
        return inside

    def _add(
        self,
        totals: npt.NDArray[np.float64],
        part: QueryPart,
        inside: npt.NDArray[np.bool_] | None,
        file: TermFile,
        late: Collection[str],
    ) -> None:
        """Add what a part of a question counts in each text, without the words that are late."""
        for term, weight in part.weights.items():
            if term not in late:
                self._add_term(totals, term, weight, inside, file)

    def _add_late(
        self,
        totals: npt.NDArray[np.float64],
        places: npt.NDArray[np.intp],
        parts: Sequence[QueryPart],
        insides: Mapping[tuple[str, ...], npt.NDArray[np.bool_] | None],
        file: TermFile,
        late: Mapping[str, float],
    ) -> None:
        """Add what the late words count in the texts at some places."""
        terms, norms = file.terms_of(self.texts.rows[places].tolist()), self._norms(places)
        scores: dict[str, npt.NDArray[np.float64]] = {}
        for form, most in late.items():
            counts = np.asarray([each.get(form, 0) for each in terms], np.float64)
            scores[form] = most * counts / (counts + norms)
        for part in parts:
            inside = insides[part.languages]
            weights = part.weights
            for form in late.keys() & set(part.forms):
                totals[places] += weights[form] * scores[form] * (1.0 if inside is None else inside[places])

    def _add_term(
        self,
        totals: npt.NDArray[np.float64],
        term: str,
        weight: float,
        inside: npt.NDArray[np.bool_] | None,
        file: TermFile,
    ) -> None:
        postings = self._postings(term, file)
        if postings.scores is None:
            postings.scores = self._scores(postings)
        scores = postings.scores if weight == 1 else postings.scores * weight
        if len(scores) == len(totals):
            totals += scores if inside is None else scores * inside
        else:
            # A term has each text once, so no text is named twice here.
            totals[postings.places] += scores if inside is None else scores * inside[postings.places]

    def _scores(self, postings: _Postings) -> npt.NDArray[np.float64]:
        norms = self._norms(postings.places)
        alive = self.texts.alive[postings.places]
        counts = postings.counts.astype(np.float64)
        scores = np.asarray(alive * ((K1 + 1) * self._idf(int(alive.sum())) * counts / (counts + norms)), np.float64)
        if len(scores) < _COMMON_SHARE * len(self.texts.rows):
            return scores
        all_scores = np.zeros(len(self.texts.rows))
        all_scores[postings.places] = scores
        return all_scores

    def _counts(self, places: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return how often texts have a term, from their scores for it.

        FTS5 tells the counts only one occurrence at a time, which takes ten times as long for a common word.
        """
        norms = self._norms(places)
        most = (K1 + 1) * self._idf(len(places))
        return np.rint(scores * norms / (most - scores)).astype(np.float32)

    def _norms(self, places: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Return what the lengths of some texts count in BM25."""
        return np.asarray(K1 * (1 - B + B * self._measured()[places]), np.float64)

    def _measured(self) -> npt.NDArray[np.float64]:
        """Return the length of each text, where the average is 1."""
        if self._relative is None:
            lengths, alive = self.texts.lengths, self.texts.alive
            self._living = int(alive.sum())
            average = max(1.0, float(lengths[alive].mean())) if self._living else 1.0
            self._relative = lengths / average
        return self._relative

    def _idf(self, having: int) -> float:
        """Return how rare a term is that so many texts have."""
        return max(_LEAST_IDF, math.log((self._living - having + 0.5) / (having + 0.5)))

    def _postings(self, term: str, file: TermFile) -> _Postings:
        postings = self._terms.get(term)
        if postings is None:
            found = file.postings(term)
            places = self.texts.places_of([row for row, _ in found])
            counts = self._counts(places, np.asarray([score for _, score in found], np.float64))
            postings = self._terms[term] = _Postings(places.astype(np.int32), counts, len(self.texts.rows))
            self._kept += len(places) + _TERM_POSTINGS
        elif postings.seen < len(self.texts.rows):
            self._extend(term, postings)
        self._terms.move_to_end(term)
        return postings

    def _extend(self, term: str, postings: _Postings) -> None:
        having = [
            (place, terms[term]) for place, terms in self._added.items() if place >= postings.seen and term in terms
        ]
        postings.seen = len(self.texts.rows)
        if having:
            places, counts = zip(*having, strict=True)
            postings.places = np.concatenate([postings.places, np.asarray(places, np.int32)])
            postings.counts = np.concatenate([postings.counts, np.asarray(counts, np.float32)])
            self._kept += len(having)

    def _make_room(self) -> None:
        most = min(_MOST_POSTINGS, _FEWEST_POSTINGS + _POSTINGS_A_TEXT * len(self.texts.rows))
        while self._kept > most and len(self._terms) > 1:
            self._kept -= len(self._terms.popitem(last=False)[1].places) + _TERM_POSTINGS


def _candidates(totals: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.intp]:
    """Return the places of the ``k`` highest totals above 0, of all that equal the last of them, and of some others."""
    blocks = len(totals) // _BLOCK
    if blocks > k:
        # In each of ``k`` blocks is a total that is no lower than this, so the ``k`` highest are not lower either.
        highest = totals[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        least = np.partition(highest, blocks - k)[blocks - k]
        if least > 0:
            return np.flatnonzero(totals >= least)
    return np.flatnonzero(totals)


def _contenders(totals: npt.NDArray[np.float64], k: int, more: float) -> npt.NDArray[np.intp] | None:
    """Return the places that may have the ``k`` highest totals once up to ``more`` is added to any.

    None if these are too many to look at each.
    """
    found = totals[totals > more]
    if len(found) < k:
        return None
    places = np.flatnonzero(totals >= np.partition(found, len(found) - k)[len(found) - k] - more)
    return places if len(places) <= max(_MOST_CONTENDERS, 2 * k) else None
