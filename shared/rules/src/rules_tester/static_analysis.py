"""Analyze conditions without running them, to find changes that make no difference, whatever the cases are.

An error denies like false does. So ``request.auth != null`` next to ``request.auth.uid == owner`` decides nothing
(without a token the second is an error), and a condition with ``request.query`` can only allow a list. The analysis
considers only what is always evaluated, and reports nothing in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from .patterns import unquoted
from .syntax import Allow, Expression, Function, Ruleset, Span

__all__ = ["guards", "text_of", "unreachable"]

_METHODS = frozenset({"get", "list", "create", "update", "delete"})
_ONLY = {
    "request.query": frozenset({"list"}),
    "request.resource": frozenset({"create", "update"}),
    "resource": _METHODS - {"create"},
}
"""Names, and the methods for which they have fields. For other methods these are an error
(https://firebase.google.com/docs/reference/rules/rules.firestore)."""

_LAZY = ("&&", "||")
_Uses = Callable[[Expression], bool]


def text_of(source: str, node: Expression) -> str:
    """Return the text of an expression without spaces."""
    return "".join(source[node.start : node.end].split())


def guards(source: str, ruleset: Ruleset) -> set[Span]:
    """Return conditions that check for something that another condition of their chain uses, and fails without."""
    functions = [item for item in ruleset.statements() if isinstance(item, Function)]
    counts = Counter(function.name for function in functions)
    returned = {
        function.name: function.value.bare
        for function in functions
        if counts[function.name] == 1 and not function.parameters and not function.bindings
    }
    conditions = [item.condition for item in ruleset.statements() if isinstance(item, Allow) and item.condition]
    values = [
        function.value for function in _denying(ruleset, [f for f in functions if counts[f.name] == 1], conditions)
    ]
    chains = [chain for whole in (*conditions, *values) for chain in _chains(whole)]
    return {span for chain in chains for span in _guards(source, chain, returned)}


def unreachable(source: str, condition: Expression | None) -> frozenset[str]:
    """Return the methods for which a condition is never true."""
    if condition is None:
        return frozenset()
    inner = condition.bare
    if (inner.kind, inner.text) == ("constant", "false"):
        return _METHODS
    if inner.kind == "binary" and inner.text == "||":
        return frozenset.intersection(*(unreachable(source, operand) for operand in inner.operands("||")))
    possible = _METHODS
    for operand in inner.operands("&&"):
        for node in _certain(operand):
            if node.kind in {"member", "method"}:
                possible &= _ONLY.get(text_of(source, node.children[0]), _METHODS)
    return _METHODS - possible


def _chains(condition: Expression) -> Iterator[tuple[Expression, ...]]:
    """Yield the operands of each chain of ``&&``; each alternative of an ``||`` has its own chain."""
    inner = condition.bare
    if inner.kind == "choice":
        return
    if inner.kind == "binary" and inner.text == "||":
        for alternative in inner.operands("||"):
            yield from _chains(alternative)
        return
    chain = inner.operands("&&")
    yield chain
    for operand in chain:
        if operand.kind == "binary" and operand.text == "||":
            yield from _chains(operand)


def _denying(ruleset: Ruleset, functions: Iterable[Function], conditions: list[Expression]) -> list[Function]:
    """Return the functions that are called only in chains of && and ||, where an error has the effect of false."""
    calls: dict[str, set[Span]] = {}
    for expression in ruleset.expressions():
        for node in expression.walk():
            if node.kind == "call":
                calls.setdefault(node.text, set()).add(node.place)
    candidates = list(functions)
    while True:
        wholes = [*conditions, *(function.value for function in candidates)]
        chained = {operand.place for whole in wholes for chain in _chains(whole) for operand in chain}
        remaining = [function for function in candidates if calls.get(function.name, set()) <= chained]
        if len(remaining) == len(candidates):
            return remaining
        candidates = remaining


def _guards(source: str, chain: tuple[Expression, ...], returned: Mapping[str, Expression]) -> Iterator[Span]:
    for operand in chain:
        called = operand.kind == "call" and not operand.children
        uses = _uses_of(source, returned.get(operand.text, operand) if called else operand)
        if uses and any(uses(node) for other in chain if other is not operand for node in _certain(other)):
            yield operand.place


def _uses_of(source: str, check: Expression) -> _Uses | None:
    """Return what tells of an expression if it uses what ``check`` checks for, or None if it is no such check."""
    if check.kind != "binary":
        return None
    left, right = (child.bare for child in check.children)
    if check.text == "!=":
        null = [side for side in (left, right) if (side.kind, side.text) == ("constant", "null")]
        if len(null) != 1:
            return None
        checked = text_of(source, right if null[0] is left else left)
        return lambda node: node.kind in {"member", "method", "index"} and text_of(source, node.children[0]) == checked
    if check.text == "in" and left.kind == "string":
        owner, key = text_of(source, right), unquoted(left.text)
        return lambda node: (
            node.kind in {"member", "index"} and text_of(source, node.children[0]) == owner and _key(node) == key
        )
    return None


def _key(node: Expression) -> str | None:
    if node.kind == "member":
        return node.text
    key = node.children[1].bare
    return unquoted(key.text) if key.kind == "string" else None


def _certain(operand: Expression) -> Iterator[Expression]:
    """Yield what is evaluated whenever its operand is.

    A function declared in the rules may not evaluate its arguments, and evaluation may stop at an operator.
    """
    yield operand
    lazy = operand.kind == "choice" or (operand.kind == "binary" and operand.text in _LAZY)
    if not lazy and operand.kind != "call":
        for child in operand.children:
            yield from _certain(child)
