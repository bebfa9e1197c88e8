"""Make small changes to rules, each of which a good suite notices. The emulator reports which expressions it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .static_analysis import guards, unreachable
from .syntax import Allow, Expression, Match, PathSegment, Ruleset, Span
from .tokens import line_of

__all__ = ["FILLER", "Coverage", "Mutant", "direction_of", "methods_of", "mutants"]

_NEUTRAL = {"&&": "true", "||": "false"}
"""The operand that has no effect in a chain of each sign."""
_CONDITIONS = frozenset({"&&", "||", "==", "!=", "<=", ">=", "<", ">", "in"})
"""The operators whose value is a boolean."""
_OTHER = {"true": "false", "false": "true"}
_HAS = {"hasOnly": "hasAny", "hasAll": "hasAny", "hasAny": "hasAll"}
_SWAPS = {
    "&&": ("||",), "||": ("&&",), "==": ("!=",), "!=": ("==",),
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
}  # fmt: skip
FILLER = "match /dropped/match { allow get: if false; }"
"""What a block holds from which everything was taken, as it may not be empty."""
_OPENS = ("to true", "&& to ||", "hasOnly to", "hasAll to", "widen", "add ", "literal to wildcard", "wildcard to rec")
_NARROWS = ("to false", "|| to &&", "hasAny to", "narrow", "drop ", "wildcard to literal", "recursive wildcard")
_PREFIX = 3
_READS, _WRITES = ("get", "list"), ("create", "update", "delete")


@dataclass
class Coverage:
    """The emulator's report on expressions: the places of those that it runs, and of them with a value, or a boolean.

    Its report leaves out most literals, and a place in it ends before closing brackets.
    """

    places: set[Span] = field(default_factory=set)
    evaluated: set[Span] = field(default_factory=set)
    booleans: set[Span] = field(default_factory=set)
    _ends: dict[int, list[int]] = field(default_factory=dict)

    def add(self, ruleset: Ruleset, report: Sequence[Mapping[str, Any]]) -> dict[Span, int]:
        """Add a report of ``:ruleCoverage``, and return how often each expression had a value in it."""
        if not self._ends:
            for expression in ruleset.expressions():
                for node in expression.walk():
                    self._ends.setdefault(node.start, []).append(node.end)
        counts: dict[Span, int] = {}
        for item in _reported(report):
            start = int(item["sourcePosition"].get("currentOffset", 0))
            end = int(item["sourcePosition"].get("endOffset", start)) + 1
            # The body of a function is reported too, and is no expression.
            place = (start, min((other for other in self._ends.get(start, []) if other >= end), default=-1))
            if place[1] < 0:
                continue
            self.places.add(place)
            for value in item.get("values", []):
                counts[place] = counts.get(place, 0) + int(value.get("count", 1))
                if {"boolValue", "booleanValue"} & value.get("value", {}).keys():
                    self.booleans.add(place)
        self.evaluated |= counts.keys()
        return counts


@dataclass(frozen=True)
class Mutant:
    """A change: ``source[start:end]`` becomes ``text``. ``expression`` is set if only that expression changes."""

    operator: str
    start: int
    end: int
    text: str
    expression: Expression | None = None

    def apply(self, source: str) -> str:
        """Return the rules with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def shown(self, source: str) -> dict[str, Any]:
        """Describe the change: its line, the text before and after, and an id that follows from operator and texts."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        last = len(source) if last < 0 else last
        before = source[first:last]
        after = source[first : self.start] + self.text + source[self.end : last]
        before, after = (" ".join(text.split()) for text in (before, after))
        key = hashlib.sha256(f"{self.operator}\n{before}\n{after}".encode()).hexdigest()[:10]
        changed = source[self.start : self.end]
        line = line_of(source, self.start + len(changed) - len(changed.lstrip()))
        return {"id": key, "line": line, "operator": self.operator, "before": before, "after": after}


def direction_of(mutant: Mutant) -> str:
    """Return whether a mutant "opens" or "narrows" access, or "either", by its kind alone."""
    if mutant.operator == "drop condition" and mutant.expression is not None:
        return "opens" if mutant.expression.bare.text == "&&" else "narrows"
    if mutant.operator.startswith(_OPENS):
        return "opens"
    return "narrows" if mutant.operator.startswith(_NARROWS) else "either"


def mutants(source: str, ruleset: Ruleset, coverage: Coverage) -> list[Mutant]:
    """Return every change that the operators make to ``source``, without two that give the same text."""
    by_text: dict[bytes, Mutant] = {}
    for mutant in [*_of_expressions(source, ruleset, coverage), *_of_statements(source, ruleset)]:
        changed = mutant.apply(source)
        if changed != source:
            # Digests, because the texts of a large file with all its changes would not fit into memory.
            by_text.setdefault(hashlib.sha256(changed.encode("utf-8", "surrogatepass")).digest(), mutant)
    return list(by_text.values())


def _reported(report: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for item in report:
        yield item
        yield from _reported(item.get("children", []))


def _of_expressions(source: str, ruleset: Ruleset, coverage: Coverage) -> Iterator[Mutant]:
    nodes = [node for whole in ruleset.expressions() for node in whole.walk() if node.place in coverage.places]
    chained = _chained(nodes)
    passed_over = _passed_over(nodes)
    idle = guards(source, ruleset)
    for node in nodes:
        for operand, start, end in _removals(node):
            sign, whole = chained[operand.place]
            if not (sign == "&&" and operand.place in idle) and operand.text != _NEUTRAL[sign]:
                yield Mutant("drop condition", start, end, "", whole)
    for node in nodes:
        inner = node.bare
        if (node.place in coverage.booleans or _is_condition(inner)) and node.place not in passed_over:
            within = chained[inner.place][0] if inner.place in chained else None
            # In a chain, a condition that is always (or never) true has the same effect as dropping the condition.
            if within != "&&" and inner.place not in idle:
                yield Mutant("to true", node.start, node.end, "true", node)
            if within != "||":
                yield Mutant("to false", node.start, node.end, "false", node)
            yield Mutant("negate", node.start, node.end, f"!({source[node.start : node.end]})", node)
        yield from _of_parts(source, node, coverage)
        if inner.kind == "binary":
            for other in _SWAPS.get(inner.text, ()):
                yield Mutant(f"{inner.text} to {other}", *inner.sign, other, node)


def _is_condition(inner: Expression) -> bool:
    if inner.kind == "unary":
        return inner.text == "!"
    return inner.kind == "is" or (inner.kind == "binary" and inner.text in _CONDITIONS)


def _is_chain(inner: Expression) -> bool:
    return inner.kind == "binary" and inner.text in _NEUTRAL


def _chained(nodes: Sequence[Expression]) -> dict[Span, tuple[str, Expression]]:
    """Return the operands of chains, each with its chain's sign and the whole chain."""
    operands_of_chains: dict[Span, tuple[str, Expression]] = {}
    for node in nodes:
        inner = node.bare
        if _is_chain(inner):
            for operand in inner.operands(inner.text):
                operands_of_chains.setdefault(operand.place, (inner.text, node))
    return operands_of_chains


def _removals(node: Expression) -> Iterator[tuple[Expression, int, int]]:
    """Yield the operands of one sign of a chain, each with what to take out to drop it."""
    inner = node.bare
    if not _is_chain(inner):
        return
    left, right = inner.children
    for operand, start, end in ((left.bare, left.start, right.start), (right.bare, left.end, right.end)):
        if not (_is_chain(operand) and operand.text == inner.text):
            yield operand, start, end


def _passed_over(nodes: Sequence[Expression]) -> set[Span]:
    """Return the nodes whose changes would show nothing.

    They are the operands of "is", since another boolean is still a boolean and "is" itself is changed for all other
    types; and the first conditions of a chain taken together, since a case that kills their change also kills a change
    of the whole chain or of one of them.
    """
    return {
        child.place
        for node in nodes
        for child in node.bare.children
        if node.bare.kind == "is"
        or (_is_chain(node.bare) and _is_chain(child.bare) and child.bare.text == node.bare.text)
    }


def _of_parts(source: str, node: Expression, coverage: Coverage) -> Iterator[Mutant]:
    """Change what is the node's own: numbers by one, hasOnly and the like, elements of lists, constant branches."""
    inner = node.bare
    if inner.kind == "method" and inner.text in _HAS:
        yield Mutant(f"{inner.text} to {_HAS[inner.text]}", *inner.sign, _HAS[inner.text], node)
    if inner.kind == "choice":
        for branch in inner.children[1:]:
            other = _OTHER.get(branch.bare.text) if branch.bare.kind == "constant" else None
            if other:
                yield Mutant(f"to {other}", *branch.bare.place, other, node)
    for part, signed in _own(inner, coverage):
        if part.kind == "int":
            for near in (int(part.text) + 1, int(part.text) - 1):
                # After a minus, a second one would be a decrement, which rules do not have.
                yield Mutant("number by one", *part.place, f"({near})" if signed and near < 0 else str(near), node)
        if part.kind == "list":
            elements = [source[element.start : element.end] for element in part.children]
            for left_out in range(len(elements)):
                rest = [element for place, element in enumerate(elements) if place != left_out]
                yield Mutant("drop element", *part.place, f"[{', '.join(rest)}]", node)


def _own(node: Expression, coverage: Coverage) -> Iterator[tuple[Expression, bool]]:
    """Yield the node and the parts of it that the emulator does not report, each with whether a minus is before it."""
    yield node, False
    for child in node.children:
        if child.place not in coverage.places:
            for part, signed in _own(child, coverage):
                yield part, signed or (part is child and node.kind == "unary") or _subtracted(node, child)


def _subtracted(node: Expression, child: Expression) -> bool:
    return node.kind == "binary" and node.text == "-" and child is node.children[1]


def _of_statements(source: str, ruleset: Ruleset) -> Iterator[Mutant]:
    all_matches = [item for item in ruleset.statements() if isinstance(item, Match)]
    alone = {match.body[0].start for match in all_matches if len(match.body) == 1}
    lets_through: list[int] = []
    for allow in ruleset.statements():
        if isinstance(allow, Allow):
            never = unreachable(source, allow.condition)
            if methods_of([method.text for method in allow.methods]) - never:
                lets_through.append(allow.start)
            yield from _of_allow(allow, never, alone=allow.start in alone)
    for number, match in enumerate(all_matches):
        if any(match.start < place < match.end for place in lets_through):
            yield Mutant("drop match", match.start, match.end, FILLER)
            # Every path begins with /databases/{database}/documents, so changes of those segments decide nothing.
            first = match.segments[0].text == "databases"
            for segment in match.segments[_PREFIX:] if first else match.segments:
                recursive = _may_recurse(ruleset, segment, match, all_matches)
                yield from _of_segment(segment, number, recursive=recursive)


def _of_allow(allow: Allow, never: frozenset[str], *, alone: bool) -> Iterator[Mutant]:
    names = [method.text for method in allow.methods]
    condition = allow.condition.bare if allow.condition else None
    if condition and (condition.kind, condition.text) == ("constant", "false"):
        yield Mutant("to true", *condition.place, "true")
    # A block may not be empty, and "drop match" covers the change.
    if methods_of(names) - never and not alone:
        yield Mutant("drop allow", allow.start, allow.end, "")
    for operator, methods in _method_lists(tuple(names)):
        if (methods_of(names) ^ methods_of(methods)) - never:
            yield Mutant(operator, allow.methods[0].start, allow.methods[-1].end, ", ".join(methods))


def _may_recurse(ruleset: Ruleset, segment: PathSegment, match: Match, all_matches: Sequence[Match]) -> bool:
    """Return whether the compiler accepts ``**`` here: once in a path, and before version 2 only as its last part."""
    above = [other for other in all_matches if other.start < match.start < other.end]
    below = [other for other in all_matches if match.start < other.start < match.end]
    others = [part for match_on_path in (*above, match, *below) for part in match_on_path.segments if part != segment]
    if any(part.glob == "**" for part in others):
        return False
    return ruleset.version == "2" or (not below and segment == match.segments[-1])


def methods_of(names: Sequence[str]) -> frozenset[str]:
    """Return the methods that the names stand for."""
    groups = {"read": _READS, "write": _WRITES}
    return frozenset(method for name in names for method in groups.get(name, (name,)))


def _method_lists(methods: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield wider and narrower lists of methods."""
    # A read's condition seldom checks the written data, so it would allow writes. A write's condition would check it.
    if set(methods) <= {"read", *_READS}:
        for method in _WRITES:
            yield f"add {method}", [*methods, method]
    for group, members in (("read", _READS), ("write", _WRITES)):
        if any(method in members for method in methods) and group not in methods:
            yield f"widen to {group}", [m for m in methods if m not in members] + [group]
        if group in methods:
            rest = [method for method in methods if method != group]
            for member in members:
                yield f"narrow {group} to {member}", [*rest, member]
    if len(methods) > 1:
        for method in methods:
            yield f"drop {method}", [other for other in methods if other != method]


def _of_segment(segment: PathSegment, number: int, *, recursive: bool) -> Iterator[Mutant]:
    if not segment.name:
        yield Mutant("literal to wildcard", segment.start, segment.end, f"{{anything{number}}}")
        return
    yield Mutant("wildcard to literal", segment.start, segment.end, segment.name)
    if segment.glob == "**":
        yield Mutant("recursive wildcard to one level", segment.start, segment.end, f"{{{segment.name}}}")
    elif recursive:
        yield Mutant("wildcard to recursive", segment.start, segment.end, f"{{{segment.name}=**}}")
