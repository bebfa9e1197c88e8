"""Group the mutants that survived by what the suite leaves out, those that open access first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .mutants import Mutant, direction_of
from .runner import MutantOutcome, RunResult
from .slices import Slices
from .syntax import Allow, Expression, Function, Match, Ruleset, Span
from .tokens import line_of

__all__ = ["CoverageGap", "findings"]

_RANKS = ("opens", "either", "narrows")
_DOES = {"update": "an update", "delete": "a delete", "create": "a create", "list": "a list", "get": "a get"}


@dataclass
class CoverageGap:
    """What the suite leaves out, with the mutants that survive for it.

    Attributes:
        cause: what is left out, as a sentence.
        offset: where it is in the text.
        direction: "opens" if a mutant lets more through, "narrows" if all let less through, "either" if it depends.
        suggestions: cases that would notice, as text to paste.
    """

    cause: str
    offset: int
    mutants: list[Mutant] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)

    @property
    def direction(self) -> str:
        """The direction of the mutant that opens most."""
        return min((direction_of(mutant) for mutant in self.mutants), key=_RANKS.index)


def findings(result: RunResult, ruleset: Ruleset, slices: Slices, without: frozenset[int]) -> list[CoverageGap]:
    """Return what a run found, the worst first.

    Args:
        slices: of the same rules and suite.
        without: the numbers of outcomes to pass over.
    """
    causes = _Causes(result, ruleset, slices)
    by_cause: dict[str, CoverageGap] = {}
    for number, outcome in enumerate(result.outcomes):
        if outcome.state == "survived" and number not in without:
            cause, offset = causes.of(outcome)
            by_cause.setdefault(cause, CoverageGap(cause, offset)).mutants.append(outcome.mutant)
    for finding in by_cause.values():
        finding.mutants.sort(key=lambda mutant: _RANKS.index(direction_of(mutant)))
    return sorted(by_cause.values(), key=lambda finding: (_RANKS.index(finding.direction), finding.offset))


class _Causes:
    def __init__(self, result: RunResult, ruleset: Ruleset, slices: Slices) -> None:
        self._source = result.source
        self._never = result.never_evaluated
        self._slices = slices
        self._who = "test" if result.command else "case"
        self._by_cases = not result.command
        self._matches = [item for item in ruleset.statements() if isinstance(item, Match)]

    def of(self, outcome: MutantOutcome) -> tuple[str, int]:
        """Return why a mutant survived, and where that is."""
        mutant = outcome.mutant
        unit = self._slices.unit_at(mutant)
        if unit is None:
            return self._of_match(outcome)
        missing = self._never_asked(unit, mutant) if self._by_cases else None
        if missing:
            return missing, unit.start
        if isinstance(unit, Allow) and mutant.expression is None:
            methods = self._slices.methods_changed(unit, mutant)
            listed = ", ".join(method for method in _DOES if method in methods)
            return f"no {self._who} notices who may {listed} at {self._slices.shown_path(unit)}", unit.start
        return self._of_expression(outcome, unit)

    def _never_asked(self, unit: Allow | Function, mutant: Mutant) -> str | None:
        """Return what no case ever asks for, if that is why a mutant survived."""
        if isinstance(unit, Function):
            reached = self._slices.reached_by[unit.start]
            return None if reached else f"no case reaches the function {unit.name}()"
        path = self._slices.shown_path(unit)
        if not self._slices.asked_at(unit):
            return f"no case ever asks for anything at {path}"
        methods = self._slices.methods_changed(unit, mutant)
        if not self._slices.asking(unit, methods):
            # One of them is enough to begin with, and puts what another statement says of it beside it.
            return f"no case ever does {next(_DOES[method] for method in _DOES if method in methods)} at {path}"
        return None

    def _of_expression(self, outcome: MutantOutcome, unit: Allow | Function) -> tuple[str, int]:
        mutant = outcome.mutant
        whole = mutant.expression
        if whole is None:
            return f"no {self._who} notices a change of {self._text((unit.start, unit.end))}", unit.start
        if not outcome.tried:
            for start, end in self._never:
                if start <= whole.start and whole.end <= end:
                    return f"no {self._who} gets as far as {self._text((start, end))}", start
        place = _condition_at(_whole_at(unit, mutant) or whole, mutant)
        return f"no {self._who} notices when {self._text(place)} is wrong", place[0]

    def _of_match(self, outcome: MutantOutcome) -> tuple[str, int]:
        mutant = outcome.mutant
        inner = [match for match in self._matches if match.start <= mutant.start and mutant.end <= match.end]
        if not inner:
            return f"no {self._who} notices a change of the whole file", 0
        match = inner[-1]
        path = "/" + "/".join(part for outer in inner for part in outer.path)
        path = path.removeprefix("/databases/{database}/documents") or "/"
        kind = mutant.operator
        if kind == "wildcard to recursive":
            return f"no {self._who} asks for a document below {path}", match.start
        if kind == "literal to wildcard":
            return f"no {self._who} asks at another path like {path}", match.start
        if kind == "recursive wildcard to one level":
            return f"no {self._who} is allowed more than one level down at {path}", match.start
        return f"no {self._who} is allowed anything at {path}", match.start

    def _text(self, place: Span) -> str:
        text = " ".join(self._source[place[0] : place[1]].split())
        return f"'{text}' (line {line_of(self._source, place[0])})"


def _whole_at(unit: Allow | Function, mutant: Mutant) -> Expression | None:
    wholes: Sequence[Expression | None] = unit.expressions if isinstance(unit, Function) else (unit.condition,)
    return next((whole for whole in wholes if whole and whole.start <= mutant.start and mutant.end <= whole.end), None)


def _condition_at(whole: Expression, mutant: Mutant) -> Span:
    """Return the smallest condition of a chain that holds all of a change; a change of a chain's sign has the chain."""
    inner = whole
    while True:
        held = [part for part in _operands(inner) if part.start <= mutant.start and mutant.end <= part.end]
        if not held:
            return _widened(inner, mutant)
        inner = held[0]


def _operands(node: Expression) -> Iterator[Expression]:
    bare = node.bare
    if bare.kind == "binary" and bare.text in {"&&", "||"}:
        yield from bare.operands(bare.text)
    elif bare.kind == "choice":
        yield from bare.children


def _widened(node: Expression, mutant: Mutant) -> Span:
    """Return the condition that is dropped, if that is the change: it has the sign beside it."""
    if mutant.operator == "drop condition":
        for part in _operands(node):
            if mutant.start <= part.start and part.end <= mutant.end:
                return part.place
    return node.place
