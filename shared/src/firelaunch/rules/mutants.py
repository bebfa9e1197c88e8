"""Small changes to rules, each of which a good suite notices. What expressions there are comes from the emulator."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .source import Allow, Segment, allows, blanked, closed, line_of, matches

__all__ = ["Expression", "Mutant", "expressions", "mutants"]

_OPERATOR = re.compile(r"&&|\|\||==|!=|<=|>=|<|>|\bin\b|\bis\b")
_SWAPS = {
    "&&": ("||",), "||": ("&&",), "==": ("!=",), "!=": ("==",),
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
}  # fmt: skip
_DROPPED = "match /dropped/match { allow get: if false; }"
"""In place of a match: a block may not be left empty."""

_READS, _WRITES = ("get", "list"), ("create", "update", "delete")


@dataclass(frozen=True)
class Expression:
    """A node of the emulator's expression tree: its span, and whether a value of it was a boolean, or any was seen."""

    start: int
    end: int
    children: tuple[Expression, ...]
    boolean: bool
    evaluated: bool

    def walk(self) -> Iterator[Expression]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Mutant:
    """One change: ``source[start:end]`` becomes ``text``. ``expression`` is set where only that expression changes."""

    operator: str
    start: int
    end: int
    text: str
    expression: Expression | None = None

    def apply(self, source: str) -> str:
        """The rules with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def shown(self, source: str) -> dict[str, Any]:
        """The change for people: its line, the lines before and after, and an id that stays while these do."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        last = len(source) if last < 0 else last
        before = source[first:last]
        after = source[first : self.start] + self.text + source[self.end : last]
        before, after = (" ".join(text.split()) for text in (before, after))
        key = hashlib.sha256(f"{self.operator}\n{before}\n{after}".encode()).hexdigest()[:10]
        line = line_of(source, self.start)
        return {"id": key, "line": line, "operator": self.operator, "before": before, "after": after}


def expressions(source: str, report: Sequence[Mapping[str, Any]]) -> list[Expression]:
    """The expression tree of ``:ruleCoverage``'s report; its offsets count characters, its ends leave brackets out."""
    text = blanked(source)
    return [_expression(text, node) for node in report]


def mutants(source: str, trees: Sequence[Expression]) -> list[Mutant]:
    """Every change that the operators make of ``source``, each resulting text once."""
    found: dict[str, Mutant] = {}
    text = blanked(source)
    everything = [node for tree in trees for node in tree.walk()]
    for mutant in [*_of_expressions(source, text, everything), *_of_statements(source)]:
        changed = mutant.apply(source)
        if changed != source:
            found.setdefault(changed, mutant)
    return list(found.values())


def _expression(text: str, node: Mapping[str, Any]) -> Expression:
    place = node["sourcePosition"]
    start = int(place.get("currentOffset", 0))
    end = closed(text, start, int(place.get("endOffset", start)) + 1)
    values = [item.get("value", {}) for item in node.get("values", [])]
    boolean = any("boolValue" in item or "booleanValue" in item for item in values)
    children = sorted((_expression(text, child) for child in node.get("children", [])), key=lambda child: child.start)
    return Expression(start, end, tuple(children), boolean, bool(values))


def _of_expressions(source: str, text: str, nodes: Sequence[Expression]) -> Iterator[Mutant]:
    operators = {(node.start, node.end): _top_operator(text, node) for node in nodes}
    # What is asked for its type alone: a negated boolean is a boolean still, and a negated anything else an error.
    typed = {
        (child.start, child.end)
        for node in nodes
        if (found := operators[node.start, node.end]) and found.group() == "is"
        for child in node.children
    }
    for node in nodes:
        if source[node.start : node.end].lstrip().startswith(("let ", "return ")):
            continue
        operator = operators[node.start, node.end]
        sign = operator.group() if operator else None
        negated = text[node.start : node.end].lstrip("( ").startswith("!") and not sign
        if node.boolean or sign or negated:
            inner = source[node.start : node.end]
            yield Mutant("to true", node.start, node.end, "true", node)
            yield Mutant("to false", node.start, node.end, "false", node)
            if (node.start, node.end) not in typed:
                yield Mutant("negate", node.start, node.end, f"!({inner})", node)
        yield from _of_literals(source, text, node)
        if operator is None or sign is None:
            continue
        for other in _SWAPS.get(sign, ()):
            yield Mutant(f"{sign} to {other}", operator.start(), operator.end(), other, node)
        if sign in {"&&", "||"}:
            start, end = _inside(text, node)
            yield Mutant("drop condition", start, end, source[operator.end() : end].strip(), node)
            yield Mutant("drop condition", start, end, source[start : operator.start()].strip(), node)


def _of_literals(source: str, text: str, node: Expression) -> Iterator[Mutant]:
    """Numbers that the node itself holds, one more and one less; its list without one of its elements."""
    for left, right in _own(node):
        for number in re.finditer(r"(?<![\w.$])\d+(?![\w.])", text[left:right]):
            start, end = left + number.start(), left + number.end()
            for near in (int(number.group()) + 1, int(number.group()) - 1):
                yield Mutant("number by one", start, end, str(near), node)
    if text[node.start : node.end].startswith("[") and source[node.end - 1] == "]":
        elements = _elements(source, text, node)
        for left_out in range(len(elements)):
            rest = [element for place, element in enumerate(elements) if place != left_out]
            yield Mutant("drop element", node.start, node.end, f"[{', '.join(rest)}]", node)


def _own(node: Expression) -> list[tuple[int, int]]:
    """The parts of a node's span that are no child's."""
    edges = [node.start, *(edge for child in node.children for edge in (child.start, child.end)), node.end]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _elements(source: str, text: str, node: Expression) -> list[str]:
    found, begin = [], node.start + 1
    for offset in range(node.start + 1, node.end):
        if offset == node.end - 1 or (text[offset] == "," and _depth(text, node.start + 1, offset) == 0):
            if source[begin:offset].strip():
                found.append(source[begin:offset].strip())
            begin = offset + 1
    return found


def _top_operator(text: str, node: Expression) -> re.Match[str] | None:
    """The operator that joins the node's operands. It lies between its children, or beside the only one."""
    start, end = _inside(text, node)
    edges = [start, *(edge for child in node.children for edge in (child.start, child.end)), end]
    found = None
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        for operator in _OPERATOR.finditer(text, left, right):
            # Inside brackets an operator belongs to what they hold: a list's, a call's or a path's own.
            if _depth(text, start, operator.start()) == 0:
                found = operator
    return found


def _inside(text: str, node: Expression) -> tuple[int, int]:
    """The node's span without brackets around all of it."""
    start, end = node.start, node.end
    while text[start:end].startswith("(") and closed(text, start, start + 1) == end:
        start, end = start + 1, end - 1
    return start, end


def _depth(text: str, start: int, end: int) -> int:
    part = text[start:end]
    return sum(part.count(c) for c in "([{") - sum(part.count(c) for c in ")]}")


def _of_statements(source: str) -> Iterator[Mutant]:
    for allow in allows(source):
        yield Mutant("drop allow", allow.start, allow.end, "")
        for operator, methods in _method_lists(allow):
            yield Mutant(operator, allow.methods_start, allow.methods_end, ", ".join(methods))
    for number, match in enumerate(matches(source)):
        yield Mutant("drop match", match.start, match.end, _DROPPED)
        for segment in match.segments:
            # Every path begins with /databases/{database}/documents, so these two literals decide nothing.
            if segment.text not in {"databases", "documents"} or match.segments[0].text != "databases":
                yield from _of_segment(segment, number)


def _method_lists(allow: Allow) -> Iterator[tuple[str, list[str]]]:
    """Wider and narrower lists of methods."""
    given = allow.methods
    # A read's condition seldom looks at what is written, so it would let writes through; the other way round it does.
    if set(given) <= {"read", *_READS}:
        for method in _WRITES:
            yield f"add {method}", [*given, method]
    for group, members in (("read", _READS), ("write", _WRITES)):
        if any(method in members for method in given) and group not in given:
            yield f"widen to {group}", [m for m in given if m not in members] + [group]
        if group in given:
            rest = [method for method in given if method != group]
            for member in members:
                yield f"narrow {group} to {member}", [*rest, member]
    if len(given) > 1:
        for method in given:
            yield f"drop {method}", [other for other in given if other != method]


def _of_segment(segment: Segment, number: int) -> Iterator[Mutant]:
    wildcard = re.fullmatch(r"\{\s*(\w+)\s*(=\s*\*\*)?\s*\}", segment.text)
    if wildcard is None:
        yield Mutant("literal to wildcard", segment.start, segment.end, f"{{anything{number}}}")
        return
    name, recursive = wildcard.groups()
    yield Mutant("wildcard to literal", segment.start, segment.end, name)
    if recursive:
        yield Mutant("recursive wildcard to one level", segment.start, segment.end, f"{{{name}}}")
    else:
        yield Mutant("wildcard to recursive", segment.start, segment.end, f"{{{name}=**}}")
