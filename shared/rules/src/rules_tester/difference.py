"""Say what a change of rules opens and closes, whatever their order, comments, and names of functions and wildcards.

Each method on each path is allowed by alternatives, each a set of conditions that must all hold. Functions are put in
place of their calls. An alternative of the new rules opens something unless the old rules had it with the same
conditions or fewer. An alternative of the old rules closes something likewise. Conditions are compared as texts, so two
that mean the same but are written otherwise count as different: nothing that opens is missed, and what is told may be
no change. :mod:`.comparison` sorts those out by proof.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from .patterns import unquoted
from .syntax import Allow, Expression, Function, Match, PathSegment, Ruleset, ServiceBlock, Statement

__all__ = ["Right", "RulesDifference", "difference"]

_GROUPS = {"read": ("get", "list"), "write": ("create", "update", "delete")}
_MOST_ALTERNATIVES = 64
"""Conditions with more alternatives are compared as one."""
_MOST_TEXT = 20_000
"""Characters of a condition with functions in place; beyond, a call stands for itself."""
_SERVICE = "cloud.firestore"
_ROOT = ("databases", "*", "documents")

_BRACKETED = ("binary", "choice", "is")
_PLACE = re.compile(r"\{(\d+)\}")
"""The name in a condition of the segment that a wildcard of the path matched."""

_Names = Mapping[str, str]
_Scope = tuple[Mapping[str, Function], Mapping[str, str]]
"""The functions of a block, and the names of the wildcards that they see."""

_Conditions = frozenset[str]


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """A right: methods on the documents of a path, if all conditions hold.

    ``path`` has "*" for a segment of any name, and "**" for any number of segments.
    """

    path: tuple[str, ...]
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    request: str = ""
    """A request that shows it, if one was looked for and found."""

    @property
    def single_methods(self) -> tuple[str, ...]:
        """The methods, without "read" and "write" that stand for several."""
        return tuple(method for name in self.methods for method in _GROUPS.get(name, (name,)))

    def only(self, methods: Collection[str], request: str) -> Right:
        """Return the right with some of its methods, and a request that shows it."""
        return replace(self, methods=_named(methods), request=request)

    @property
    def everybody(self) -> bool:
        """Whether no condition asks who the user is."""
        return not any("request.auth" in condition for condition in self.conditions)

    def sentence(self, now: str) -> str:
        """Return "strangers can now read notes/*", with ``now`` as "can now" or "can no longer"."""
        who = "strangers" if self.everybody else "users"
        what = " and ".join(filter(None, [", ".join(self.methods[:-1]), self.methods[-1]]))
        path, conditions = self._shown()
        where = f", where {' and '.join(conditions)}" if conditions else ""
        return f"{who} {now} {what} {path}{where}"

    def example(self) -> str:
        """Return a request that shows it: "as nobody: get notes/x". Empty if none is known."""
        if self.request or self.conditions or not self.methods:
            return self.request
        path = [{"*": "x", "**": "x/y"}.get(part, part) for part in self.path[len(_ROOT) :]]
        method = {"read": "get", "write": "delete"}.get(self.methods[0], self.methods[0])
        return f"as nobody: {method} {'/'.join(path[:-1] if method == 'list' else path)}"

    def _shown(self) -> tuple[str, list[str]]:
        """Return path and conditions; a wildcard that a condition uses is {1}, {2}, ... in both."""
        used = sorted({int(place) for text in self.conditions for place in _PLACE.findall(text)})
        numbers = {place: f"{{{number}}}" for number, place in enumerate(used, 1)}
        conditions = [_PLACE.sub(lambda match: numbers[int(match[1])], text) for text in self.conditions]
        parts = [numbers.get(place, part) for place, part in enumerate(self.path)]
        return "/".join(parts[len(_ROOT) :] if self.path[: len(_ROOT)] == _ROOT else parts), conditions


@dataclass(frozen=True, slots=True)
class RulesDifference:
    """The changes: the rights that the new rules give and the old ones did not, and the other way round."""

    opens: tuple[Right, ...]
    closes: tuple[Right, ...]

    @property
    def kind(self) -> str:
        """ "opens" if anything is opened; otherwise "closes" or "none"."""
        return "opens" if self.opens else "closes" if self.closes else "none"

    def opened(self) -> list[str]:
        """Return a sentence for each right that is opened, with a request that shows it where one is known."""
        return _sentences(self.opens, "can now")

    def closed(self) -> list[str]:
        """Return a sentence for each right that is closed."""
        return _sentences(self.closes, "can no longer")


def _sentences(rights: Sequence[Right], now: str) -> list[str]:
    shown = ((right.sentence(now), right.example()) for right in rights)
    return [f"{sentence} ({example})" if example else sentence for sentence, example in shown]


def difference(old: Ruleset | None, new: Ruleset) -> RulesDifference:
    """Compare two sets of rules for Firestore. None stands for no rules, which allow nothing."""
    before, after = _rights(old) if old else set(), _rights(new)
    return RulesDifference(_grouped(_lacking(after, before)), _grouped(_lacking(before, after)))


_Single = tuple[tuple[str, ...], str, _Conditions]


def _lacking(these: set[_Single], others: set[_Single]) -> set[_Single]:
    """Return those of ``these`` that no right of ``others`` covers."""
    return {single for single in these if not any(_covers(other, single) for other in others)}


def _covers(wide: _Single, narrow: _Single) -> bool:
    path, method, conditions = wide
    if method != narrow[1] or not conditions <= narrow[2]:
        return False
    # A condition names the segments that wildcards matched by their places, which are the same on the same path alone.
    placed = any("{" in condition for condition in conditions)
    return path == narrow[0] if placed else _includes(path, narrow[0])


def _includes(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    if not wide or not narrow:
        return wide in {(), ("**",)} and narrow == ()
    if wide[0] == "**":
        return _includes(wide[1:], narrow) or _includes(wide, narrow[1:])
    return narrow[0] != "**" and wide[0] in {"*", narrow[0]} and _includes(wide[1:], narrow[1:])


def _grouped(singles: set[_Single]) -> tuple[Right, ...]:
    methods: dict[tuple[tuple[str, ...], _Conditions], set[str]] = {}
    for path, method, conditions in singles:
        methods.setdefault((path, conditions), set()).add(method)
    rights = []
    for (path, conditions), found in methods.items():
        rights.append(Right(path, _named(found), tuple(sorted(conditions))))
    return tuple(sorted(rights))


def _named(methods: Collection[str]) -> tuple[str, ...]:
    """Return methods with "read" and "write" in place of all that they stand for."""
    names: list[str] = []
    for group, members in _GROUPS.items():
        names += [group] if set(methods) >= set(members) else [member for member in members if member in methods]
    return tuple(names)


def _rights(ruleset: Ruleset) -> set[_Single]:
    outer = (_functions(ruleset.body), dict[str, str]())
    # Before version 2, "**" stands for one segment at least.
    many = ("**",) if ruleset.version == "2" else ("*", "**")
    rights: set[_Single] = set()
    for service in ruleset.services:
        if service.name == _SERVICE:
            rights |= set(_of_block(service.body, (outer,), (), many))
    return rights


def _functions(block: Sequence[Statement | ServiceBlock]) -> dict[str, Function]:
    return {item.name: item for item in block if isinstance(item, Function)}


def _of_block(
    block: Sequence[Statement], scopes: tuple[_Scope, ...], above: tuple[PathSegment, ...], many: tuple[str, ...]
) -> Iterator[_Single]:
    names = {segment.name: f"{{{place}}}" for place, segment in enumerate(above) if segment.name}
    inner: tuple[_Scope, ...] = (*scopes, (_functions(block), names))
    parts = (many if segment.glob == "**" else ("*",) if segment.name else (segment.text,) for segment in above)
    path = tuple(part for several in parts for part in several)
    for item in block:
        if isinstance(item, Match):
            yield from _of_block(item.body, inner, (*above, *item.segments), many)
        elif isinstance(item, Allow):
            whole = _Text(inner).alternatives(item.condition, names) if item.condition else {frozenset[str]()}
            for method in item.methods:
                for single in _GROUPS.get(method.text, (method.text,)):
                    yield from ((path, single, conditions) for conditions in whole)


class _Text:
    """Writes expressions in one way, with functions in place of their calls."""

    def __init__(self, scopes: tuple[_Scope, ...]) -> None:
        self._scopes = scopes

    def alternatives(self, condition: Expression, names: _Names) -> set[_Conditions]:
        """Return the sets of conditions of which one must hold."""
        node = condition.bare
        if node.kind == "constant" and node.text in {"true", "false"}:
            return {frozenset()} if node.text == "true" else set()
        called = self._called(node, names)
        if called:
            scope, value, inner = called
            return scope.alternatives(value, inner)
        if node.kind == "binary" and node.text == "||":
            parts = [self.alternatives(child, names) for child in node.children]
            return self._few(set().union(*parts), node, names)
        if node.kind == "binary" and node.text == "&&":
            parts = [self.alternatives(child, names) for child in node.children]
            return self._few({one | other for one, other in product(*parts)}, node, names)
        return {frozenset({_unbracketed(node, self.of(node, names))})}

    def _few(self, found: set[_Conditions], node: Expression, names: _Names) -> set[_Conditions]:
        if len(found) > _MOST_ALTERNATIVES:
            return {frozenset({self.of(node, names)})}
        return {one for one in found if not any(other < one for other in found)}

    def _called(self, node: Expression, names: _Names) -> tuple[_Text, Expression, _Names] | None:
        """Return what a call of a function of the rules stands for, and the names in it."""
        if node.kind != "call":
            return None
        for level in range(len(self._scopes), 0, -1):
            function = self._scopes[level - 1][0].get(node.text)
            if function is None:
                continue
            if len(function.parameters) != len(node.children):
                return None
            arguments = [self.of(child, names) for child in node.children]
            scope = _Text(self._scopes[:level])
            # A function sees the wildcards of the matches around itself, and not those around the call.
            inner = {
                **self._scopes[level - 1][1],
                **{p.text: a for p, a in zip(function.parameters, arguments, strict=True)},
            }
            for binding in function.bindings:
                inner[binding.name] = scope.of(binding.value, inner)
            return None if sum(map(len, inner.values())) > _MOST_TEXT else (scope, function.value, inner)
        return None

    def of(self, expression: Expression, names: _Names) -> str:
        """Return the text of an expression."""
        node = expression.bare
        called = self._called(node, names)
        if called:
            scope, value, inner = called
            return scope.of(value, inner)
        if node.kind == "name":
            return names.get(node.text, node.text)
        if node.kind == "string":
            return repr(unquoted(node.text))
        if node.kind == "path":
            return "".join(f"/{self._segment(segment, names)}" for segment in node.segments)
        if node.kind == "binary" and node.text in {"&&", "||"}:
            operands = {self.of(operand, names) for operand in node.operands(node.text)}
            return f"({f' {node.text} '.join(sorted(operands))})"
        return self._shaped(node, [self.of(child, names) for child in node.children])

    def _segment(self, segment: PathSegment, names: _Names) -> str:
        return f"$({self.of(segment.value, names)})" if segment.value else segment.plain

    def _shaped(self, node: Expression, parts: list[str]) -> str:
        text, rest = node.text, ", ".join(parts[1:])
        first = parts[0] if parts else ""
        shapes = {
            "binary": f" {text} ".join(sorted(parts) if text in {"==", "!="} else parts),
            "unary": f"{text}{first}",
            "is": f"{first} is {text}",
            "choice": " ? ".join([first, " : ".join(parts[1:])]),
            "member": f"{first}.{text}",
            "method": f"{first}.{text}({rest})",
            "index": f"{first}[{rest}]",
            "slice": f"{first}[{':'.join(parts[1:])}]",
            "list": f"[{', '.join(parts)}]",
            "map": f"{{{', '.join(parts)}}}",
            "call": f"{text}({', '.join(parts)})",
        }
        shaped = shapes.get(node.kind, text)
        return f"({shaped})" if node.kind in _BRACKETED else shaped


def _unbracketed(node: Expression, text: str) -> str:
    return text[1:-1] if node.kind in _BRACKETED else text
