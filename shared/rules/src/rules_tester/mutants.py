"""Make small changes to rules, each of which a good suite notices. The emulator reports the rules' expressions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .source import AllowStatement, MatchBlock, PathSegment, allows, blanked, closed, line_of, matches
from .static_analysis import Span, bare, guards, operands, unreachable

__all__ = ["Expression", "Mutant", "expressions", "mutants"]

_NEUTRAL = {"&&": "true", "||": "false"}
"""The operand that has no effect in a chain of each sign."""
_BODY = re.compile(r"\s*(?:let|return)\s")
_OPERATOR = re.compile(r"&&|\|\||==|!=|<=|>=|<|>|\bin\b|\bis\b")
_BRANCH = re.compile(r"[?:]\s*(true|false)\b(?!\s*[.\[(=!<>&|?])")
_SWAPS = {
    "&&": ("||",), "||": ("&&",), "==": ("!=",), "!=": ("==",),
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
}  # fmt: skip
_DROPPED = "match /dropped/match { allow get: if false; }"
"""The replacement of a dropped match, as a block may not be empty."""

_VERSION = re.compile(r"(?<![\w.])rules_version\s*=\s*(['\"])(_)\1")
"""The version's declaration in blanked text. A file without one is of version 1."""
_PREFIX = 3
_READS, _WRITES = ("get", "list"), ("create", "update", "delete")


@dataclass(frozen=True)
class Expression:
    """A node of the emulator's expression tree: its span, whether it had a boolean value, and whether any value."""

    start: int
    end: int
    children: tuple[Expression, ...]
    boolean: bool
    evaluated: bool

    @property
    def place(self) -> Span:
        """The node's span."""
        return self.start, self.end

    def walk(self) -> Iterator[Expression]:
        """Yield this node and all nodes below it."""
        yield self
        for child in self.children:
            yield from child.walk()


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


def expressions(source: str, report: Sequence[Mapping[str, Any]]) -> list[Expression]:
    """Read the expression trees of ``:ruleCoverage``'s report. Its offsets count characters; its ends omit brackets."""
    text = blanked(source)
    return [_expression(text, node) for node in report]


def mutants(source: str, trees: Sequence[Expression]) -> list[Mutant]:
    """Return every change that the operators make to ``source``, without two that give the same text."""
    by_text: dict[str, Mutant] = {}
    text = blanked(source)
    everything = [node for tree in trees for node in tree.walk()]
    for mutant in [*_of_expressions(source, text, everything), *_of_statements(source)]:
        changed = mutant.apply(source)
        if changed != source:
            by_text.setdefault(changed, mutant)
    return list(by_text.values())


def _expression(text: str, node: Mapping[str, Any]) -> Expression:
    place = node["sourcePosition"]
    start = int(place.get("currentOffset", 0))
    end = closed(text, start, int(place.get("endOffset", start)) + 1)
    values = [item.get("value", {}) for item in node.get("values", [])]
    boolean = any("boolValue" in item or "booleanValue" in item for item in values)
    children = sorted((_expression(text, child) for child in node.get("children", [])), key=lambda child: child.start)
    return Expression(start, end, tuple(children), boolean, bool(values))


def _of_expressions(source: str, text: str, nodes: Sequence[Expression]) -> Iterator[Mutant]:
    nodes = [node for node in nodes if not _BODY.match(text, node.start)]
    operators = {node.place: _top_operator(text, node) for node in nodes}
    signs = {place: operator.group() for place, operator in operators.items() if operator}
    chained = _chained(text, nodes, signs)
    passed_over = _passed_over(nodes, signs)
    idle = guards(source)
    for span, (sign, node) in chained.items():
        if not (sign == "&&" and span in idle) and source[slice(*span)] != _NEUTRAL[sign]:
            yield Mutant("drop condition", *_with_sign(text, span, sign), "", node)
    for node in nodes:
        operator = operators[node.place]
        negated = operator is None and text[node.start : node.end].lstrip("( ").startswith("!")
        if (node.boolean or operator or negated) and node.place not in passed_over:
            span = bare(text, node.start, node.end)
            within = chained[span][0] if span in chained else None
            # In a chain, a condition that is always (or never) true has the same effect as dropping the condition.
            if within != "&&" and span not in idle:
                yield Mutant("to true", node.start, node.end, "true", node)
            if within != "||":
                yield Mutant("to false", node.start, node.end, "false", node)
            yield Mutant("negate", node.start, node.end, f"!({source[node.start : node.end]})", node)
        yield from _of_literals(source, text, node)
        yield from _of_branches(text, node)
        if operator:
            for other in _SWAPS.get(operator.group(), ()):
                yield Mutant(f"{operator.group()} to {other}", operator.start(), operator.end(), other, node)


def _chained(text: str, nodes: Sequence[Expression], signs: Mapping[Span, str]) -> dict[Span, tuple[str, Expression]]:
    """Return the operands of chains, each with its chain's sign and the node of the whole chain."""
    operands_of_chains: dict[Span, tuple[str, Expression]] = {}
    for node in nodes:
        sign = signs.get(node.place)
        if sign in _NEUTRAL:
            spans = operands(text, node.start, node.end, sign)
            for span in spans if len(spans) > 1 else ():
                operands_of_chains.setdefault(span, (sign, node))
    return operands_of_chains


def _passed_over(nodes: Sequence[Expression], signs: Mapping[Span, str]) -> set[Span]:
    """Return the nodes whose changes would show nothing.

    They are the operands of "is", since another boolean is still a boolean and "is" itself is changed for all other
    types; and the first conditions of a chain taken together, since a case that kills their change also kills a change
    of the whole chain or of one of them.
    """
    return {
        child.place
        for node in nodes
        for child in node.children
        if signs.get(node.place) == "is"
        or (signs.get(node.place) in _NEUTRAL and signs.get(node.place) == signs.get(child.place))
    }


def _with_sign(text: str, span: Span, sign: str) -> Span:
    """Return an operand's span with the sign that joins it to the others, and the brackets around it alone."""
    start, end = span
    while True:
        left, right = len(text[:start].rstrip()), end + len(text[end:]) - len(text[end:].lstrip())
        if text.endswith(sign, 0, left):
            return len(text[: left - len(sign)].rstrip()), end
        if text.startswith(sign, right):
            rest = text[right + len(sign) :]
            return start, right + len(sign) + len(rest) - len(rest.lstrip())
        start, end = left - 1, right + 1


def _of_literals(source: str, text: str, node: Expression) -> Iterator[Mutant]:
    """Change what the node itself holds: numbers by one, hasOnly and the like, and the elements of its list."""
    for left, right in _own(node):
        for number in re.finditer(r"(?<![\w.$])\d+(?![\w.])", text[left:right]):
            start, end = left + number.start(), left + number.end()
            for near in (int(number.group()) + 1, int(number.group()) - 1):
                # After a minus, a second one would be a decrement, which rules do not have.
                signed = near < 0 and text[:start].rstrip().endswith("-")
                yield Mutant("number by one", start, end, f"({near})" if signed else str(near), node)
        for method in re.finditer(r"(?<=\.)has(?:Only|All|Any)\b", text[left:right]):
            other = "hasAll" if method.group() == "hasAny" else "hasAny"
            yield Mutant(f"{method.group()} to {other}", left + method.start(), left + method.end(), other, node)
    if text[node.start : node.end].startswith("[") and source[node.end - 1] == "]":
        elements = _elements(source, text, node)
        for left_out in range(len(elements)):
            rest = [element for place, element in enumerate(elements) if place != left_out]
            yield Mutant("drop element", node.start, node.end, f"[{', '.join(rest)}]", node)


def _of_branches(text: str, node: Expression) -> Iterator[Mutant]:
    """Change the branches of a choice (``?`` and ``:``) that are true or false, which are no nodes in the emulator."""
    start, end = bare(text, node.start, node.end)
    if _top(re.compile(r"\?"), text, node) is not None:
        for literal in _BRANCH.finditer(text, start, end):
            if _depth(text, start, literal.start()) == 0:
                other = "false" if literal.group(1) == "true" else "true"
                yield Mutant(f"to {other}", literal.start(1), literal.end(1), other, node)


def _own(node: Expression) -> list[Span]:
    """Return the parts of a node's span that belong to no child."""
    edges = [node.start, *(edge for child in node.children for edge in (child.start, child.end)), node.end]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _elements(source: str, text: str, node: Expression) -> list[str]:
    elements, begin = [], node.start + 1
    for offset in range(node.start + 1, node.end):
        if offset == node.end - 1 or (text[offset] == "," and _depth(text, node.start + 1, offset) == 0):
            if source[begin:offset].strip():
                elements.append(source[begin:offset].strip())
            begin = offset + 1
    return elements


def _top_operator(text: str, node: Expression) -> re.Match[str] | None:
    """Find the operator that joins the node's operands, between its children or beside its only child."""
    return _top(_OPERATOR, text, node)


def _top(signs: re.Pattern[str], text: str, node: Expression) -> re.Match[str] | None:
    """Find the last of ``signs`` that belongs to the node itself and is in none of its brackets."""
    start, end = bare(text, node.start, node.end)
    edges = [start, *(edge for child in node.children for edge in (child.start, child.end)), end]
    last = None
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        for operator in signs.finditer(text, left, right):
            # An operator inside brackets belongs to a list, a call or a path.
            if _depth(text, start, operator.start()) == 0:
                last = operator
    return last


def _depth(text: str, start: int, end: int) -> int:
    part = text[start:end]
    return sum(part.count(c) for c in "([{") - sum(part.count(c) for c in ")]}")


def _of_statements(source: str) -> Iterator[Mutant]:
    text = blanked(source)
    lets_through: list[int] = []
    all_matches = list(matches(source))
    for allow in allows(source):
        never = unreachable(text, allow.condition, allow.condition_end)
        condition = bare(text, allow.condition, allow.condition_end)
        if text[slice(*condition)] == "false":
            yield Mutant("to true", *condition, "true")
        if _methods(allow.methods) - never:
            lets_through.append(allow.start)
            if not _alone(text, allow, all_matches):
                yield Mutant("drop allow", allow.start, allow.end, "")
        for operator, methods in _method_lists(allow):
            if (_methods(allow.methods) ^ _methods(methods)) - never:
                yield Mutant(operator, allow.methods_start, allow.methods_end, ", ".join(methods))
    for number, match in enumerate(all_matches):
        if not any(match.start < place < match.end for place in lets_through):
            continue
        yield Mutant("drop match", match.start, match.end, _DROPPED)
        # Every path begins with /databases/{database}/documents, so changes of those segments decide nothing.
        first = match.segments[0].text == "databases"
        for segment in match.segments[_PREFIX:] if first else match.segments:
            yield from _of_segment(segment, number, recursive=_may_recurse(source, segment, match, all_matches))


def _alone(text: str, allow: AllowStatement, all_matches: Sequence[MatchBlock]) -> bool:
    """Return whether the match holds only this allow: a block may not be empty, and "drop match" covers the change."""
    around = [match for match in all_matches if match.start < allow.start < match.end]
    if not around:
        return False
    inner = max(around, key=lambda match: match.start)
    begin = text.index("{", inner.segments[-1].end)
    return not (text[begin + 1 : allow.start] + text[allow.end : inner.end - 1]).strip()


def _may_recurse(source: str, segment: PathSegment, match: MatchBlock, all_matches: Sequence[MatchBlock]) -> bool:
    """Return whether the compiler accepts ``**`` here: once in a path, and before version 2 only as its last part."""
    above = [other for other in all_matches if other.start < match.start < other.end]
    below = [other for other in all_matches if match.start < other.start < match.end]
    others = [part for match_on_path in (*above, match, *below) for part in match_on_path.segments if part != segment]
    if any("**" in part.text for part in others):
        return False
    version = _VERSION.search(blanked(source))
    latest = version is not None and source[version.start(2)] == "2"
    return latest or (not below and segment == match.segments[-1])


def _methods(names: Sequence[str]) -> frozenset[str]:
    """Return the methods that the names stand for."""
    groups = {"read": _READS, "write": _WRITES}
    return frozenset(method for name in names for method in groups.get(name, (name,)))


def _method_lists(allow: AllowStatement) -> Iterator[tuple[str, list[str]]]:
    """Yield wider and narrower lists of methods."""
    methods = allow.methods
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
    wildcard = re.fullmatch(r"\{\s*(\w+)\s*(=\s*\*\*)?\s*\}", segment.text)
    if wildcard is None:
        yield Mutant("literal to wildcard", segment.start, segment.end, f"{{anything{number}}}")
        return
    name, glob = wildcard.groups()
    yield Mutant("wildcard to literal", segment.start, segment.end, name)
    if glob:
        yield Mutant("recursive wildcard to one level", segment.start, segment.end, f"{{{name}}}")
    elif recursive:
        yield Mutant("wildcard to recursive", segment.start, segment.end, f"{{{name}=**}}")
