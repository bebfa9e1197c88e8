"""Proves that mutants change no decision, whatever a request, its user and the documents are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import z3

from .formulas import AllowFormula, RuleFormulas, methods_in
from .mutants import Mutant
from .parser import parse_statements
from .semantics import FormulaWords, LookUp, Untranslatable
from .slices import Slices
from .syntax import Allow, Function, Match, Ruleset
from .tokens import RulesSyntaxError

__all__ = ["EFFORT", "Prover"]

EFFORT = 3_000_000
"""The solver's own steps after which it gives up. Unlike seconds, they are the same on each machine."""


class Prover:
    """Proves mutants of a rules file to change nothing.

    Args:
        ruleset: of one service alone.
        slices: of the same rules; which cases they are of makes no difference.
    """

    def __init__(self, source: str, ruleset: Ruleset, slices: Slices) -> None:
        self._source = source
        self._slices = slices
        self._formulas = RuleFormulas(ruleset)

    def changes_nothing(self, mutant: Mutant) -> bool:
        """Return whether it is proved that the rules with ``mutant`` decide each request as they do without it.

        The limits on how much a request may evaluate are left aside; what is looked up for it stays the same.
        """
        unit = self._slices.unit_at(mutant)
        if unit is None:
            return False
        try:
            changed = _changed(self._source, unit, mutant)
            if isinstance(unit, Allow):
                return not isinstance(changed, Function) and self._same(unit, changed, {}, frozenset({unit.start}))
            return isinstance(changed, Function) and self._same_function(unit, changed)
        except (Untranslatable, RulesSyntaxError, ValueError, z3.Z3Exception):
            return False

    def _same_function(self, old: Function, new: Function) -> bool:
        if _signature(old) != _signature(new):
            return False
        users = self._slices.users_of([old.start])
        return all(self._same(allow, allow, {old.start: new}, users) for allow in map(self._formulas.allow_at, users))

    def _same(self, old: Allow, new: Allow | None, replaced: Mapping[int, Function], changing: frozenset[int]) -> bool:
        methods = methods_in(old) | (methods_in(new) if new else frozenset())
        return all(self._same_for(method, old, new, replaced, changing) for method in sorted(methods))

    def _same_for(
        self, method: str, old: Allow, new: Allow | None, replaced: Mapping[int, Function], changing: frozenset[int]
    ) -> bool:
        words = FormulaWords()
        before = self._formulas.of(words, old, method)
        after = self._formulas.of(words, old, method, new, replaced) if new else AllowFormula(z3.BoolVal(False))
        # Where a sibling that stays as it is lets the request through, both do.
        staying = [each for each in self._formulas.siblings(old) if each.start not in changing]
        others = [self._formulas.of(words, each, method).allowed for each in staying]
        differs = z3.And(before.allowed != after.allowed, z3.Not(z3.Or(*others)))
        more, less = _unmatched(after.look_ups, before.look_ups), _unmatched(before.look_ups, after.look_ups)
        solver = z3.Solver()
        solver.set("rlimit", EFFORT)
        solver.add(*words.facts(method), z3.Or(differs, *more, *less))
        return bool(solver.check() == z3.unsat)


def _signature(function: Function) -> tuple[str, tuple[str, ...]]:
    return function.name, tuple(parameter.text for parameter in function.parameters)


def _changed(source: str, unit: Allow | Function, mutant: Mutant) -> Allow | Function | None:
    """Return a statement with a mutant, or None if it is taken out."""
    statements = parse_statements(source[unit.start : mutant.start] + mutant.text + source[mutant.end : unit.end])
    if not statements:
        return None
    (statement,) = statements
    if isinstance(statement, Match):
        raise Untranslatable
    return statement


def _unmatched(these: Sequence[LookUp], others: Sequence[LookUp]) -> Iterator[Any]:
    """Yield for each look-up the formula that it is made and none of ``others`` is the same."""
    for kind, path, reached in these:
        same = [z3.And(also, where == path) for name, where, also in others if name == kind]
        yield z3.And(reached, z3.Not(z3.Or(*same)))
