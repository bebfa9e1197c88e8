"""Refuse what the rules compiler refuses although its grammar allows it: names, limits and versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from .patterns import is_pattern, unquoted
from .syntax import Allow, Expression, Function, Match, PathSegment, Ruleset, ServiceBlock, Statement
from .tokens import RulesSyntaxError

__all__ = ["MOST_MATCHES", "MOST_NESTED", "check_ruleset", "check_statements"]

MOST_NESTED = 98
"""Most expressions inside one another. This and the other limits are those of the compiler in the emulator."""
MOST_MATCHES = 11
_MOST_SEGMENTS = 100
_MOST_PARAMETERS = 7
_MOST_BINDINGS = 11
_MOST_CALLS = 21
_LARGEST = 2**63 - 1
_VERSIONS = ("1", "2")
_TYPES = frozenset(
    "bool bytes constraint duration float int latlng list map map_diff number path set string timestamp vector".split()  # noqa: SIM905
)
_PACKAGES = frozenset({"duration", "hashing", "latlng", "math", "timestamp"})
"""Names that may only stand before a method, as in ``duration.value(1, 's')``."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WITH_PATTERN = ("matches", "replace", "split")

_Scope = dict[str, Function]


def check_ruleset(ruleset: Ruleset) -> None:
    """Raise :class:`.tokens.RulesSyntaxError` at the first thing that the compiler refuses."""
    if ruleset.version not in _VERSIONS:
        raise RulesSyntaxError(0, f"there is no version {ruleset.version!r} of the rules; write rules_version = '2';")
    names: set[str] = set()
    for service in ruleset.services:
        if service.name in names:
            raise RulesSyntaxError(service.start, f"the service {service.name} stands here a second time")
        names.add(service.name)
    _Check(ruleset.version).of_block(ruleset.body, (), ())


def check_statements(statements: Sequence[Statement]) -> None:
    """Raise :class:`.tokens.RulesSyntaxError` at the first thing that the compiler refuses by version 2."""
    _Check("2").of_block(statements, (), ())


class _Check:
    def __init__(self, version: str) -> None:
        self._latest = version == "2"

    def of_block(
        self,
        block: Sequence[Statement | ServiceBlock],
        scopes: tuple[_Scope, ...],
        path: tuple[PathSegment, ...],
    ) -> None:
        """Check a block and all below it; ``scopes`` has the functions of the blocks around it, inner ones last."""
        scope: _Scope = {}
        for item in block:
            if isinstance(item, Function):
                if item.name in scope:
                    raise RulesSyntaxError(item.start, f"the function {item.name} is declared twice in this block")
                scope[item.name] = item
        inner = (*scopes, scope)
        for item in block:
            match item:
                case Function():
                    self._function(item)
                    _check_calls(item, inner)
                case ServiceBlock():
                    self.of_block(item.body, inner, path)
                case Match():
                    self._match(item, path)
                    self.of_block(item.body, inner, (*path, *item.segments))
                case Allow():
                    _check_expressions([item.condition] if item.condition else [])

    def _match(self, match: Match, above: tuple[PathSegment, ...]) -> None:
        if len(above) + len(match.segments) > _MOST_SEGMENTS:
            raise RulesSyntaxError(match.start, f"a path has at most {_MOST_SEGMENTS} segments, those above included")
        _check_wildcards(match.segments)
        others = sum(segment.glob == "**" for segment in above) if self._latest else 0
        for segment in match.segments:
            if segment.glob != "**":
                continue
            if others:
                raise RulesSyntaxError(segment.start, "a path has at most one {name=**}, those above it included")
            if not self._latest and segment is not match.segments[-1]:
                raise RulesSyntaxError(segment.start, "before version 2, {name=**} may only be last in a path")
            others += 1

    def _function(self, function: Function) -> None:
        if len(function.parameters) > _MOST_PARAMETERS:
            raise RulesSyntaxError(function.start, f"a function has at most {_MOST_PARAMETERS} parameters")
        if len(function.bindings) > _MOST_BINDINGS:
            raise RulesSyntaxError(function.start, f"a function has at most {_MOST_BINDINGS} lets")
        if function.bindings and not self._latest:
            raise RulesSyntaxError(function.bindings[0].start, "let needs rules_version = '2';")
        named: set[str] = set()
        for place, name in [
            *((parameter.start, parameter.text) for parameter in function.parameters),
            *((binding.start, binding.name) for binding in function.bindings),
        ]:
            _check_name(place, name)
            if name in named:
                raise RulesSyntaxError(place, f"the function {function.name} has the name {name} twice")
            named.add(name)
        _check_expressions(function.expressions)


def _check_wildcards(segments: Sequence[PathSegment]) -> None:
    names: set[str] = set()
    for segment in segments:
        if segment.name and segment.name in names:
            raise RulesSyntaxError(
                segment.start, f"{{{segment.name}}} stands twice in one path; give each its own name"
            )
        _check_name(segment.start, segment.name)
        names.add(segment.name)


def _check_name(offset: int, name: str) -> None:
    if name in _PACKAGES:
        raise RulesSyntaxError(offset, f"{name} may only stand before a method, as in {name}.abs(1); rename it")


def _check_calls(function: Function, scopes: tuple[_Scope, ...]) -> None:
    """Refuse a function that calls itself, directly or through others, or that calls too deeply."""
    inside: list[Function] = []

    def enter(called: Function, around: tuple[_Scope, ...]) -> None:
        if any(called is other for other in inside):
            raise RulesSyntaxError(called.start, f"the function {called.name} calls itself, directly or through others")
        inside.append(called)
        if len(inside) > _MOST_CALLS:
            raise RulesSyntaxError(function.start, f"functions call one another more than {_MOST_CALLS} deep")
        for name in dict.fromkeys(_called(called)):
            for level in range(len(around), 0, -1):
                if name in around[level - 1]:
                    enter(around[level - 1][name], around[:level])
                    break
        inside.pop()

    enter(function, scopes)


def _called(function: Function) -> Iterator[str]:
    for expression in function.expressions:
        yield from (node.text for node in expression.walk() if node.kind == "call")


def _check_expressions(expressions: Iterable[Expression]) -> None:
    for expression in expressions:
        nodes = list(expression.walk())
        negated = {id(node.children[0]) for node in nodes if node.kind == "unary" and node.text == "-"}
        called = {id(node.children[0]) for node in nodes if node.kind == "method"}
        for node in nodes:
            if node.kind == "name" and id(node) not in called:
                _check_name(node.start, node.text)
            _check_expression(node, most=_LARGEST + (id(node) in negated))


def _check_expression(node: Expression, *, most: int) -> None:
    if node.kind == "int" and int(node.text) > most:
        raise RulesSyntaxError(node.start, f"{node.text} is no integer of 64 bits")
    if node.kind == "bytes" and "u" in _ESCAPE.findall(node.text):
        raise RulesSyntaxError(node.start, r"bytes have no \u; write \x and two digits for each byte")
    if node.kind == "is" and node.text not in _TYPES:
        raise RulesSyntaxError(node.sign[1], f"there is no type {node.text}; there are {', '.join(sorted(_TYPES))}")
    if node.kind == "method" and node.text in _WITH_PATTERN and len(node.children) == 2:
        pattern = node.children[1].bare
        if pattern.kind == "string" and not is_pattern(unquoted(pattern.text)):
            raise RulesSyntaxError(pattern.start, f"{pattern.text} is no regular expression that RE2 takes")
    if node.kind == "path":
        _check_wildcards(node.segments)
