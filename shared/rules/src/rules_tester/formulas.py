"""Formulas for what the statements of a rules file let through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from .mutants import methods_of
from .semantics import FormulaWords, LookUp, Meaning, RuleScope, Term, holds, segment, segments
from .syntax import Allow, Function, Match, PathSegment, Ruleset, ServiceBlock, Statement

__all__ = ["AllowFormula", "RuleFormulas", "methods_in"]

_SERVICE = "cloud.firestore"


@dataclass(frozen=True, slots=True)
class AllowFormula:
    """When an allow lets a request through, and what is looked up for it."""

    allowed: Any
    look_ups: Sequence[LookUp] = ()


@dataclass(frozen=True, slots=True)
class _Placed:
    allow: Allow
    around: tuple[Match, ...]

    @property
    def path(self) -> tuple[PathSegment, ...]:
        return tuple(part for match in self.around for part in match.segments)


class RuleFormulas:
    """The formulas of a rules file.

    Args:
        ruleset: only its rules for Firestore are read. None stands for no rules.
    """

    def __init__(self, ruleset: Ruleset | None) -> None:
        self._latest = ruleset is not None and ruleset.version == "2"
        self._placed: dict[int, _Placed] = {}
        self._outer = [_functions(ruleset.body if ruleset else ())]
        for service in ruleset.services if ruleset else ():
            if service.name == _SERVICE:
                self._outer.append(_functions(service.body))
                self._place(service.body, ())

    def _place(self, body: Iterable[Statement], around: tuple[Match, ...]) -> None:
        for item in body:
            if isinstance(item, Allow):
                self._placed[item.start] = _Placed(item, around)
            elif isinstance(item, Match):
                self._place(item.body, (*around, item))

    def siblings(self, allow: Allow) -> tuple[Allow, ...]:
        """Return the allows of the same block."""
        return self._placed[allow.start].around[-1].allows

    def allow_at(self, start: int) -> Allow:
        """Return the allow that begins at a place of the text."""
        return self._placed[start].allow

    def of(
        self,
        words: FormulaWords,
        allow: Allow,
        method: str,
        instead: Allow | None = None,
        replaced: Mapping[int, Function] | None = None,
    ) -> AllowFormula:
        """Return the formula of an allow for a request of ``method`` to a path that it matches.

        Args:
            instead: a statement that stands in its place.
            replaced: functions that stand in for those that begin at these places.

        Raises:
            Untranslatable: nothing certain is known of its condition.
        """
        placed = self._placed[allow.start]
        names = {
            part.name: segment(place, many=part.glob == "**") for place, part in enumerate(placed.path) if part.name
        }
        return self._formula(words, placed, instead or allow, method, names, replaced)

    def decision(self, words: FormulaWords, path: Sequence[str], method: str) -> Any:
        """Return the formula that a request for a document is allowed.

        Args:
            path: its segments from "databases" on, each its text, or "*" for any.

        Raises:
            Untranslatable: nothing certain is known of a condition.
        """
        ways = []
        for placed in self._placed.values():
            if method in methods_in(placed.allow):
                for names, same in self._fits(words, placed.path, path, 0):
                    formula = self._formula(words, placed, placed.allow, method, names, None)
                    ways.append(z3.And(*same, formula.allowed))
        return z3.Or(*ways)

    def _formula(
        self,
        words: FormulaWords,
        placed: _Placed,
        allow: Allow,
        method: str,
        names: Mapping[str, Any],
        replaced: Mapping[int, Function] | None,
    ) -> AllowFormula:
        if method not in methods_in(allow):
            return AllowFormula(z3.BoolVal(False))
        if allow.condition is None:
            return AllowFormula(z3.BoolVal(True))
        of_query = method == "list"
        terms = {name: Term(value, z3.BoolVal(False), of_query) for name, value in names.items()}
        blocks = [*self._outer]
        for match in placed.around:
            own = {part.name: terms[part.name] for part in match.segments if part.name}
            blocks.append(RuleScope(_functions(match.body).functions, own))
        meaning = Meaning(words, blocks, replaced, of_query=of_query)
        return AllowFormula(holds(meaning.of(allow.condition)), meaning.look_ups)

    def _fits(
        self, words: FormulaWords, pattern: Sequence[PathSegment], path: Sequence[str], place: int
    ) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Yield each way to match a path from number ``place`` on: the wildcards, and what must hold for it."""
        if not pattern:
            if place == len(path):
                yield {}, []
            return
        first = pattern[0]
        least = 0 if self._latest else 1
        ends = range(place + least, len(path) + 1) if first.glob == "**" else range(place + 1, place + 2)
        for end in ends:
            if end > len(path):
                continue
            for names, same in self._fits(words, pattern[1:], path, end):
                if first.name:
                    value = segments(place, end) if first.glob == "**" else segment(place)
                    yield {first.name: value, **names}, same
                elif path[place] in {"*", first.text}:
                    literal = segment(place) == words.string(first.text)
                    yield names, same if path[place] == first.text else [literal, *same]


def _functions(body: Iterable[Statement | ServiceBlock]) -> RuleScope:
    return RuleScope({item.name: item for item in body if isinstance(item, Function)}, {})


def methods_in(allow: Allow) -> frozenset[str]:
    """Return the methods that an allow is for."""
    return methods_of([method.text for method in allow.methods])
