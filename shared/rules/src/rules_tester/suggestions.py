"""Find, for mutants that survived, cases that would notice them, by trying the suite's own users, paths and data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .case_yaml import written
from .cases import Case, Suite
from .client import Operation, UnexpectedAnswer
from .findings import CoverageGap
from .mutants import Mutant, direction_of
from .patterns import unquoted
from .runner import Emulating, EmulatorProject
from .slices import Slices
from .syntax import Allow, Expression, Function, PathSegment, Ruleset

__all__ = ["suggest"]

_MOST_CANDIDATES = 400
_MOST_USERS = 6
_MOST_FINDINGS = 60
_MOST_OF_ONE = 4
"""Most cases that are suggested for one finding."""
_UID = object()
"""Stands for the id of the user in guessed data."""
_SAMPLES: dict[str, Any] = {"string": "x", "int": 1, "number": 1, "float": 1.5, "bool": True, "list": [], "map": {}}


def suggest(
    emulator: Emulating,
    source: str,
    ruleset: Ruleset,
    suite: Suite,
    found: Sequence[CoverageGap],
    unsigned: Callable[[str, Mapping[str, Any]], str],
    deadline: float | None = None,
    step: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Add suggested cases to findings. Each has another result with a mutant than with the rules as they are.

    Args:
        deadline: the time of the monotonic clock after which no more is tried.
    """
    found = found[:_MOST_FINDINGS]
    pool = _Candidates(source, ruleset, suite)
    tried = [pool.of(finding) for finding in found]
    every = [case for cases in tried for case in cases]
    if not every:
        return
    slices = Slices(source, ruleset, every)
    everyone = Suite(suite.documents, tuple(every), suite.users)
    before, after = (EmulatorProject(emulator, everyone, unsigned) for _ in range(2))
    search = _Search(source, slices, every, before, after, deadline)
    offset = 0
    try:
        for done, (finding, cases) in enumerate(zip(found, tried, strict=True), 1):
            finding.suggestions = [_text(case) for case in search.of(finding, range(offset, offset + len(cases)))]
            offset += len(cases)
            step("cases to suggest", done, len(found))
    finally:
        before.close()
        after.close()


@dataclass
class _Search:
    source: str
    slices: Slices
    cases: Sequence[Case]
    before: EmulatorProject
    after: EmulatorProject
    deadline: float | None

    def of(self, finding: CoverageGap, numbers: range) -> list[Case]:
        """Return cases by which the mutants of a finding differ from the rules, with what the rules say."""
        mask = sum(1 << number for number in numbers)
        if not mask:
            return []
        self.before.load(self.slices.cut(mask, [], ()))
        allowed: dict[int, bool | None] = {}
        chosen: list[int] = []
        for mutant in finding.mutants:
            if len(chosen) == _MOST_OF_ONE or self._is_late():
                break
            number = self._noticing(mutant, mask, numbers, allowed, chosen)
            if number is not None and number not in chosen:
                chosen.append(number)
        return [_expecting(self.cases[number], allow=bool(allowed[number])) for number in chosen]

    def _noticing(
        self, mutant: Mutant, mask: int, numbers: range, allowed: dict[int, bool | None], chosen: Sequence[int]
    ) -> int | None:
        impact = self.slices.impact(mutant)
        try:
            self.after.load(self.slices.cut(mask, [mutant], impact.units))
        except self.after.refusal:
            return None
        # A case that opens must be one that is denied now, and the other way round.
        wanted = {"opens": False, "narrows": True}.get(direction_of(mutant))
        for number in (*chosen, *(number for number in numbers if impact.cases >> number & 1)):
            if self._is_late():
                return None
            if number not in allowed:
                allowed[number] = _decided(self.before, self.cases[number])
            now = allowed[number]
            if now is None or (wanted is not None and now is not wanted):
                continue
            changed = _decided(self.after, self.cases[number])
            if changed is not None and changed is not now:
                return number
        return None

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


def _decided(worker: EmulatorProject, case: Case) -> bool | None:
    """Return what the rules in force say, or None if the emulator says neither yes nor no."""
    try:
        return worker.holds(case)
    except UnexpectedAnswer:
        return None


def _expecting(case: Case, *, allow: bool) -> Case:
    return replace(case, allow=allow)


class _Candidates:
    """Requests that may show a difference, as cases that expect them to be allowed."""

    def __init__(self, source: str, ruleset: Ruleset, suite: Suite) -> None:
        self._slices = Slices(source, ruleset, suite.cases)
        self._functions = [item for item in ruleset.statements() if isinstance(item, Function)]
        self._allows = [item for item in ruleset.statements() if isinstance(item, Allow)]
        self._suite = suite
        operations = [part for case in suite.cases for part in (case.operation.parts or (case.operation,))]
        self._operations = [operation for operation in operations if operation.kind != "group"]
        self._there: dict[str, Mapping[str, Any]] = dict(suite.documents)
        for case in suite.cases:
            self._there |= {path: data for path, data in case.documents.items() if data is not None}
        self._users = dict(list(suite.users.items())[:_MOST_USERS])

    def of(self, finding: CoverageGap) -> list[Case]:
        """Return candidates for a finding, the suite's own requests first."""
        mutants = finding.mutants
        seen: dict[str, Case] = {}
        for allow in self._allows_of(mutants):
            methods = frozenset().union(*(self._methods(allow, mutant) for mutant in mutants))
            for operation, documents in self._requests(allow, mutants, sorted(methods)):
                for user, claims in self._users.items():
                    data = {name: _filled(item, claims) for name, item in operation.data.items()}
                    where = [(name, sign, _filled(item, claims)) for name, sign, item in operation.where]
                    mine = replace(operation, data=data, where=where)
                    theirs = {
                        path: fields and {name: _filled(item, claims) for name, item in fields.items()}
                        for path, fields in documents.items()
                    }
                    case = Case("suggested", user, claims, mine, allow=True, documents=theirs)
                    seen.setdefault(repr((user, mine, theirs)), case)
                    if len(seen) >= _MOST_CANDIDATES:
                        return list(seen.values())
        return list(seen.values())

    def _allows_of(self, mutants: Sequence[Mutant]) -> list[Allow]:
        units = self._slices.users_of(unit for mutant in mutants for unit in self._slices.impact(mutant).units)
        return [allow for allow in self._allows if allow.start in units][:6]

    def _methods(self, allow: Allow, mutant: Mutant) -> frozenset[str]:
        unit = self._slices.unit_at(mutant)
        return self._slices.methods_changed(allow, mutant if unit is allow else _NOTHING)

    def _requests(
        self, allow: Allow, mutants: Sequence[Mutant], methods: Sequence[str]
    ) -> Iterator[tuple[Operation, Mapping[str, Any]]]:
        pattern = self._slices.path_of(allow)[3:]
        paths = list(self._paths(pattern, mutants))
        guessed = _guesses(allow, self._functions)
        for method in methods:
            if method == "list":
                yield from self._lists(paths, guessed)
                continue
            for path in paths:
                for fields, there in self._fields(method, path, guessed):
                    yield Operation(method, path, fields), there  # type: ignore[arg-type]

    def _paths(self, pattern: Sequence[PathSegment], mutants: Sequence[Mutant]) -> Iterator[str]:
        """Yield paths of documents that a pattern matches, the suite's own first, then those of changed patterns."""
        known = dict.fromkeys([*self._there, *(operation.path for operation in self._operations)])
        documents = [path for path in known if len(path.split("/")) % 2 == 0]
        own = [path for path in documents if _matches(pattern, path)]
        ids = [str(claims["sub"]) for claims in self._users.values() if claims]
        made = [_filled_path(pattern, each) for each in (*ids[:2], "x")]
        yield from dict.fromkeys(own[:8] + made)
        example = (own or made)[0]
        operators = {mutant.operator for mutant in mutants}
        if "wildcard to recursive" in operators:
            yield f"{example}/below/x"
        if "literal to wildcard" in operators:
            for place, segment in enumerate(pattern):
                if not segment.name:
                    parts = example.split("/")
                    parts[place : place + 1] = ["other"]
                    yield "/".join(parts)

    def _lists(
        self, paths: Sequence[str], guessed: Mapping[str, list[Any]]
    ) -> Iterator[tuple[Operation, Mapping[str, Any]]]:
        collections = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        for operation in self._operations:
            if operation.kind in {"list", "count"} and operation.path in collections:
                yield operation, {}
        for collection in collections:
            yield Operation("list", collection, limit=10), {}
            yield Operation("list", collection), {}
            for name, items in guessed.items():
                for item in items:
                    yield Operation("list", collection, where=[(name, "==", item)]), {}
                    yield Operation("list", collection, where=[(name, "==", item)], limit=10), {}

    def _fields(
        self, method: str, path: str, guessed: Mapping[str, list[Any]]
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Yield what a request of ``method`` may send, with the documents that it needs."""
        collection = path.rpartition("/")[0].split("/")[-1]
        beside = [data for other, data in self._there.items() if other.split("/")[-2] == collection]
        sample = {name: values[0] for name, values in guessed.items()}
        missing = {} if path in self._suite.documents else {path: beside[0] if beside else sample}
        if method in {"get", "delete"}:
            yield {}, missing
            if missing:
                yield {}, {}
            return
        sent = [o.data for o in self._operations if o.data and o.path.split("/")[-2:-1] == [collection]]
        if method == "create":
            there = {path: None} if path in self._suite.documents else {}
            for data in _varied([*sent, *beside, sample], guessed):
                yield data, there
        else:
            base = self._suite.documents.get(path) or missing.get(path) or {}
            single = [{name: item} for name, items in guessed.items() for item in items]
            changes = [{name: _other(item)} for name, item in base.items() if _other(item) is not item]
            for data in _varied([*sent, *changes, *single, {"other": 1}], guessed):
                yield data, missing


_NOTHING = Mutant("", 0, 0, "", Expression("name", 0, 0))
"""A change that leaves every allow's methods as they are."""


def _varied(all_data: Sequence[Mapping[str, Any]], guessed: Mapping[str, list[Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield data as it is, then with one field changed, left out or added."""
    bases = [data for data in all_data if data]
    yield from bases
    for data in bases[:3]:
        for name, item in data.items():
            for other in (*guessed.get(str(name), ()), _other(item)):
                yield {**data, name: other}
            if len(data) > 1:
                yield {key: kept for key, kept in data.items() if key != name}
        yield {**data, "other": 1}


def _other(item: Any) -> Any:
    """Return another value of the type."""
    match item:
        case bool():
            return not item
        case int() | float():
            return item + 1
        case str():
            return f"{item}x"
        case list():
            return [*item, "other"]
    return item


def _filled(item: Any, claims: Mapping[str, Any] | None) -> Any:
    """Return a guessed value with the id of the user in place of :data:`_UID`."""
    return (claims or {}).get("sub", "x") if item is _UID else item


def _filled_path(pattern: Sequence[PathSegment], each: str) -> str:
    parts = [each if segment.name else segment.text for segment in pattern]
    return "/".join(parts + [each] * (len(parts) % 2))


def _matches(pattern: Sequence[PathSegment], path: str) -> bool:
    parts = path.split("/")
    recursive = bool(pattern) and pattern[-1].glob == "**"
    if len(parts) < len(pattern) or (len(parts) > len(pattern) and not recursive):
        return False
    return all(segment.name or segment.text == part for segment, part in zip(pattern, parts, strict=False))


def _guesses(allow: Allow, functions: Iterable[Function]) -> dict[str, list[Any]]:
    """Return values that fields of documents may have, from what the rules compare them with."""
    by_name = {function.name: function for function in functions}
    guessed: dict[str, list[Any]] = {}
    waiting = [allow.condition] if allow.condition else []
    called: set[str] = set()
    while waiting:
        for node in waiting.pop().walk():
            if node.kind == "call" and node.text in by_name and node.text not in called:
                called.add(node.text)
                waiting += by_name[node.text].expressions
            name = _field(node)
            if name:
                guessed.setdefault(name, [])
            for field, values in _compared(node):
                known = guessed.setdefault(field, [])
                known += [value for value in values if not any(value is k or value == k for k in known)]
    return {name: values or ["x"] for name, values in guessed.items()}


def _field(node: Expression) -> str:
    """Return the name of a document's field, of ``resource.data.name`` and the like."""
    if node.kind == "member" and node.children[0].kind in {"member", "name"}:
        owner = node.children[0]
        if owner.text in {"data", "document", "doc"} or (owner.kind == "name" and owner.text not in _NOT_DATA):
            return node.text
    return ""


_NOT_DATA = {"request", "resource", "math", "duration", "timestamp", "latlng", "hashing"}


def _compared(node: Expression) -> Iterator[tuple[str, list[Any]]]:
    if node.kind == "is":
        name = _field(node.children[0].bare)
        if name and node.text in _SAMPLES:
            yield name, [_SAMPLES[node.text]]
    if node.kind != "binary":
        return
    left, right = (child.bare for child in node.children)
    for one, other in ((left, right), (right, left)):
        name = _field(one)
        if not name and one.kind == "method" and one.text == "size" and other.kind == "int":
            name = _field(one.children[0].bare)
            if name:
                yield name, ["x" * size for size in (int(other.text), int(other.text) + 1) if size < 2000]
        elif name:
            yield name, _values(other)


def _values(node: Expression) -> list[Any]:
    match node.kind:
        case "string":
            return [unquoted(node.text)]
        case "int":
            return [int(node.text), int(node.text) + 1, int(node.text) - 1]
        case "constant":
            return [{"true": True, "false": False, "null": None}[node.text]]
        case "list":
            return [value for child in node.children for value in _values(child.bare)]
        case "member" if node.text == "uid":
            return [_UID]
    return []


def _text(case: Case) -> str:
    """Return a case as a line of YAML."""
    operation = case.operation
    item: dict[str, Any] = {"as": case.user, operation.kind: operation.path}
    if operation.data:
        item["data"] = dict(operation.data)
    if operation.where:
        item["where"] = [list(condition) for condition in operation.where]
    if operation.order:
        item["order"] = list(operation.order)
    if operation.limit is not None:
        item["limit"] = operation.limit
    if case.documents:
        item["documents"] = {path: None if data is None else dict(data) for path, data in case.documents.items()}
    item["expect"] = "allow" if case.allow else "deny"
    return written(item)
