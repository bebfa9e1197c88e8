"""Find which cases a change can make a difference for, and cut out the part of the rules that those cases can reach.

A request evaluates the ``allow`` statements of its methods whose path fits, and the functions that they call. Compiling
rules takes the emulator much longer than answering a request, and most of a large file is out of a request's reach.
A set of cases is an integer here, with a bit for each case.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .cases import Case
from .client import Operation
from .mutants import FILLER, Mutant, methods_of
from .parser import parse_statements
from .syntax import Allow, Expression, Function, Match, PathSegment, Ruleset, ServiceBlock
from .tokens import RulesSyntaxError

__all__ = ["Impact", "Slices", "requests_of", "verdict_changed"]

_ROOT = ("databases", "(default)", "documents")
_ANY, _ANY_ABOVE = "*", "**"
"""Parts of a request's path that are not known: the id of a document in a list, the path above a collection group."""
_METHODS: dict[str, frozenset[str]] = {
    "get": frozenset({"get"}),
    "list": frozenset({"list"}),
    "group": frozenset({"list"}),
    "count": frozenset({"list"}),
    "create": frozenset({"create"}),
    "set": frozenset({"create", "update"}),
    "update": frozenset({"update"}),
    "delete": frozenset({"delete"}),
}
_EVERY_METHOD = frozenset().union(*_METHODS.values())

_ADDS = ("add ", "widen to ", "literal to wildcard", "to true")
_TAKES = ("narrow ", "drop ")
_DATABASE = re.compile(r"^/databases/\{[^}]*\}/documents")

_Unit = Allow | Function


@dataclass(frozen=True, slots=True)
class Impact:
    """The reach of a change.

    Attributes:
        units: the beginnings of the allows and functions whose effect changes.
        cases: the cases that could tell a difference.
        calls: the functions that the units call, of a change that brings cases to them which never got there before.
    """

    units: frozenset[int]
    cases: int
    calls: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Placed:
    """An allow with the matches around it, outermost first."""

    allow: Allow
    around: tuple[Match, ...]

    def path(self, match: Match | None = None, segments: tuple[PathSegment, ...] = ()) -> tuple[PathSegment, ...]:
        """Return the whole path; ``segments`` stand in for those of ``match``."""
        return tuple(part for each in self.around for part in (segments if each is match else each.segments))


def requests_of(operation: Operation) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """Yield the paths that the rules are asked about, each with the methods that it may be."""
    for part in operation.parts or (operation,):
        path = tuple(part.path.split("/"))
        if part.kind == "group":
            yield (*_ROOT, _ANY_ABOVE, *path, _ANY), _METHODS["group"]
        elif part.kind in {"list", "count"}:
            yield (*_ROOT, *path, _ANY), _METHODS["list"]
            yield (*_ROOT, *path), _METHODS["list"]
        else:
            yield (*_ROOT, *path), _METHODS[part.kind]


class Slices:
    """The reach of each case of a suite in a rules file.

    Args:
        ruleset: of one service alone.
    """

    def __init__(self, source: str, ruleset: Ruleset, cases: Sequence[Case]) -> None:
        self._source = source
        self._ruleset = ruleset
        self._asked: dict[tuple[str, ...], dict[frozenset[str], int]] = {}
        for number, case in enumerate(cases):
            for path, methods in requests_of(case.operation):
                masks = self._asked.setdefault(path, {})
                masks[methods] = masks.get(methods, 0) | 1 << number
        self._every_case = (1 << len(cases)) - 1
        statements = list(ruleset.statements())
        self._matches = [item for item in statements if isinstance(item, Match)]
        self._units = sorted((item for item in statements if not isinstance(item, Match)), key=lambda unit: unit.start)
        self._starts = [unit.start for unit in self._units]
        self._placed = {placed.allow.start: placed for placed in _placed(ruleset)}
        self._below: dict[int, list[_Placed]] = {}
        for placed in self._placed.values():
            for match in placed.around:
                self._below.setdefault(match.start, []).append(placed)
        self._functions = _by_name(self._units)
        self._called: dict[int, frozenset[int]] = {}
        self.reached_by = self._masks()
        """The cases that can reach each unit, by its beginning."""

    def impact(self, mutant: Mutant) -> Impact:
        """Return what ``mutant`` can make a difference for."""
        unit = self.unit_at(mutant)
        if isinstance(unit, Function):
            return Impact(frozenset({unit.start}), self.reached_by[unit.start])
        if unit is not None:
            methods = self.methods_changed(unit, mutant)
            cases = self._asking(self._placed[unit.start].path(), methods)
            calls = frozenset() if mutant.expression is not None else self._calls(unit)
            return Impact(frozenset({unit.start}), cases, calls)
        for match in self._matches:
            if match.start <= mutant.start and mutant.end <= match.end:
                covers = mutant.start == match.start and mutant.end == match.end
                if covers or mutant.end <= match.body_start:
                    segments = () if covers else _segments_with(self._source, match, mutant)
                    impact = self._impact_of_match(match, segments)
                    # A wildcard in place of a literal lets more paths in, and changes nothing for those it had.
                    had = self._reaching(impact.units) if mutant.operator == "literal to wildcard" else 0
                    return Impact(impact.units, impact.cases & ~had, impact.calls)
        return Impact(frozenset(self._starts), self._every_case)

    def _reaching(self, units: Iterable[int]) -> int:
        cases = 0
        for unit in units:
            cases |= self.reached_by[unit]
        return cases

    def size_of(self, units: Iterable[int]) -> int:
        """Return how many expressions are in ``units`` and the functions that they call."""
        starts = set(units)
        starts |= {called for start in list(starts) for called in self._calls(self._unit(start))}
        return sum(1 for start in starts for whole in _wholes(self._unit(start)) for _ in whole.walk())

    def unit_at(self, mutant: Mutant) -> _Unit | None:
        """Return the allow or the function that holds a change."""
        index = bisect_right(self._starts, mutant.start) - 1
        unit = self._units[index] if index >= 0 else None
        return unit if unit is not None and mutant.end <= unit.end else None

    def users_of(self, units: Iterable[int]) -> frozenset[int]:
        """Return the beginnings of the allows among ``units``, and of those that call a function among them."""
        wanted = set(units)
        return frozenset(
            start for start, placed in self._placed.items() if start in wanted or wanted & self._calls(placed.allow)
        )

    def path_of(self, allow: Allow) -> tuple[PathSegment, ...]:
        """Return the whole path of an allow."""
        return self._placed[allow.start].path()

    def shown_path(self, allow: Allow) -> str:
        """Return the path of an allow within the database, as it is usually written."""
        path = "/".join(["", *(segment.plain for segment in self.path_of(allow))])
        return _DATABASE.sub("", path) or "/"

    def asked_at(self, allow: Allow) -> int:
        """Return the cases that ask for anything at the path of an allow."""
        return self._asking(self.path_of(allow), _EVERY_METHOD)

    def asking(self, allow: Allow, methods: Collection[str]) -> int:
        """Return the cases that ask for one of ``methods`` at the path of an allow."""
        return self._asking(self.path_of(allow), methods)

    def methods_changed(self, allow: Allow, mutant: Mutant) -> frozenset[str]:
        """Return the methods that a mutant of an allow makes a difference for."""
        before = methods_of([method.text for method in allow.methods])
        after = _methods_after(self._source, allow, mutant)
        return before ^ after or before

    def allows_reached(self) -> list[set[int]]:
        """Return, for each case, the beginnings of the allows that it can reach."""
        reached: list[set[int]] = [set() for _ in range(self._every_case.bit_length())]
        for start in self._placed:
            for number in range(self.reached_by[start].bit_length()):
                if self.reached_by[start] >> number & 1:
                    reached[number].add(start)
        return reached

    def touched(self, cases: int) -> frozenset[int]:
        """Return the beginnings of the units that ``cases`` can reach."""
        return frozenset(start for start, mask in self.reached_by.items() if mask & cases)

    def cut(self, cases: int, mutants: Sequence[Mutant], changed: Iterable[int]) -> str:
        """Return rules with ``mutants`` made that decide ``cases`` as the whole file with them would.

        Args:
            changed: the units that the mutants change.
        """
        keep = set(self.touched(cases)).union(changed)
        keep |= {name for start in list(keep) for name in self._calls(self._unit(start))}
        return _Cut(self._source, keep, mutants).text(self._ruleset)

    def _masks(self) -> dict[int, int]:
        masks = dict.fromkeys(self._starts, 0)
        for placed in self._placed.values():
            methods = methods_of([method.text for method in placed.allow.methods])
            mask = self._asking(placed.path(), methods)
            for start in (placed.allow.start, *self._calls(placed.allow)):
                masks[start] |= mask
        return masks

    def _asking(self, path: tuple[PathSegment, ...], methods: Collection[str]) -> int:
        mask = 0
        for asked, by_methods in self._asked.items():
            if _fits(path, asked):
                for possible, cases in by_methods.items():
                    if not possible.isdisjoint(methods):
                        mask |= cases
        return mask

    def _impact_of_match(self, match: Match, segments: tuple[PathSegment, ...] | None) -> Impact:
        units, cases = set(), 0
        for placed in self._below.get(match.start, ()):
            units.add(placed.allow.start)
            cases |= self.reached_by[placed.allow.start]
            if segments:
                methods = methods_of([method.text for method in placed.allow.methods])
                cases |= self._asking(placed.path(match, segments), methods)
        calls = frozenset().union(*(self._calls(self._unit(start)) for start in units))
        return Impact(frozenset(units), self._every_case if segments is None else cases, calls)

    def _unit(self, start: int) -> _Unit:
        return self._units[bisect_right(self._starts, start) - 1]

    def _calls(self, unit: _Unit) -> frozenset[int]:
        """Return the functions that a unit calls, directly or not, by name. Of one name there may be several."""
        known = self._called.get(unit.start)
        if known is None:
            called: set[int] = set()
            waiting: list[_Unit] = [unit]
            while waiting:
                for name in _names_called(waiting.pop()):
                    new = [function for function in self._functions.get(name, ()) if function.start not in called]
                    called |= {function.start for function in new}
                    waiting += new
            known = self._called[unit.start] = frozenset(called)
        return known


@dataclass
class _Cut:
    """The text of the statements in ``keep`` and of the blocks around them, with mutants made."""

    source: str
    keep: set[int]
    mutants: Sequence[Mutant]

    def text(self, ruleset: Ruleset) -> str:
        """Return a whole rules file."""
        version = "rules_version = '2';\n" if ruleset.version == "2" else ""
        return version + "\n".join(filter(None, map(self._outer, ruleset.body)))

    def _outer(self, item: ServiceBlock | Function) -> str:
        if isinstance(item, Function):
            return self._statement(item)
        body = [part for part in map(self._statement, item.body) if part]
        return f"service {item.name} {{\n" + "\n".join(body or [FILLER]) + "\n}"

    def _statement(self, item: Match | Allow | Function) -> str:
        if not isinstance(item, Match):
            return self._changed(item.start, item.end) if item.start in self.keep else ""
        dropped = next((m for m in self.mutants if (m.start, m.end) == (item.start, item.end)), None)
        if dropped:
            return dropped.text
        # A nested match that keeps nothing is left out; of this one it is known only after its body.
        parts = [self._statement(inner) for inner in item.body]
        if not any(parts) and not any(inner.start in self.keep for inner in item.body):
            return ""
        body = "\n".join(filter(None, parts)) or FILLER
        return f"{self._changed(item.start, item.body_start)}{{\n{body}\n}}"

    def _changed(self, start: int, end: int) -> str:
        text = self.source[start:end]
        for mutant in sorted(self.mutants, key=lambda mutant: -mutant.start):
            if start <= mutant.start and mutant.end <= end:
                text = text[: mutant.start - start] + mutant.text + text[mutant.end - start :]
        return text


def _placed(ruleset: Ruleset) -> Iterator[_Placed]:
    def within(match: Match, around: tuple[Match, ...]) -> Iterator[_Placed]:
        for item in match.body:
            if isinstance(item, Allow):
                yield _Placed(item, around)
            elif isinstance(item, Match):
                yield from within(item, (*around, item))

    for service in ruleset.services:
        for item in service.body:
            if isinstance(item, Match):
                yield from within(item, (item,))


def _by_name(units: Sequence[_Unit]) -> dict[str, list[Function]]:
    functions: dict[str, list[Function]] = {}
    for unit in units:
        if isinstance(unit, Function):
            functions.setdefault(unit.name, []).append(unit)
    return functions


def _wholes(unit: _Unit) -> Iterator[Expression]:
    if isinstance(unit, Function):
        yield from unit.expressions
    elif unit.condition is not None:
        yield unit.condition


def _names_called(unit: _Unit) -> set[str]:
    return {node.text for whole in _wholes(unit) for node in whole.walk() if node.kind == "call"}


def verdict_changed(mutant: Mutant) -> bool | None:
    """Return the verdict that a mutant of a statement can change: True for allowed, or None for either.

    More methods or paths in one statement deny nothing that another allows, and fewer allow nothing.
    """
    if mutant.expression is not None:
        return None
    if mutant.operator.startswith(_ADDS):
        return False
    return True if mutant.operator.startswith(_TAKES) else None


def _fits(pattern: Sequence[PathSegment], path: tuple[str, ...]) -> bool:
    """Return whether a path of rules may match a request's path. In doubt it does."""
    if not pattern:
        return all(part == _ANY_ABOVE for part in path)
    first = pattern[0]
    if first.glob == "**":
        return any(_fits(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    if not path:
        return False
    if path[0] == _ANY_ABOVE:
        return _fits(pattern, path[1:]) or _fits(pattern[1:], path)
    # A literal may be written with escapes, as in /a%20b.
    same = first.name or path[0] in {first.text, _ANY} or "%" in first.text or "(" in first.text
    return bool(same) and _fits(pattern[1:], path[1:])


def _methods_after(source: str, allow: Allow, mutant: Mutant) -> frozenset[str]:
    """Return the methods that an allow has with a mutant."""
    if mutant.expression is not None:
        return methods_of([method.text for method in allow.methods])
    if (mutant.start, mutant.end) == (allow.start, allow.end):
        return frozenset()
    changed = _parsed(source, allow.start, allow.end, mutant)
    return methods_of([method.text for method in changed.methods]) if isinstance(changed, Allow) else _EVERY_METHOD


def _segments_with(source: str, match: Match, mutant: Mutant) -> tuple[PathSegment, ...] | None:
    """Return the path of a match that a mutant changes, or None if that cannot be told."""
    changed = _parsed(source, match.start, match.body_start, mutant, f"{{ {FILLER} }}")
    return changed.segments if isinstance(changed, Match) else None


def _parsed(source: str, start: int, end: int, mutant: Mutant, more: str = "") -> Match | Allow | Function | None:
    text = source[start : mutant.start] + mutant.text + source[mutant.end : end] + more
    try:
        (statement,) = parse_statements(text)
    except (RulesSyntaxError, ValueError):
        return None
    return statement
