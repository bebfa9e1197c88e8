"""Analyze conditions without running them, to find changes that make no difference, whatever the cases are.

An error denies like false does. So ``request.auth != null`` next to ``request.auth.uid == owner`` decides nothing
(without a token the second is an error), and a condition with ``request.query`` can only allow a list. The analysis
considers only what is always evaluated, and reports nothing in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .source import allows, blanked, end_of_statement

__all__ = ["Span", "bare", "guards", "operands", "unreachable"]

Span = tuple[int, int]

_METHODS = frozenset({"get", "list", "create", "update", "delete"})
_ONLY = (
    (re.compile(r"(?<![\w.])request\.query\."), frozenset({"list"})),
    (re.compile(r"(?<![\w.])request\.resource\."), frozenset({"create", "update"})),
    (re.compile(r"(?<![\w.])resource\."), _METHODS - {"create"}),
)
"""Names, and the methods for which they exist. For other methods they are an error
(https://firebase.google.com/docs/reference/rules/rules.firestore)."""

_LAZY = ("&&", "||", "?")
"""Operators at which evaluation may stop."""

_METHOD_CALL = re.compile(r"\.\w+\s*\($")
_NOT_NULL = re.compile(r"([\w.()]+)\s*!=\s*null|null\s*!=\s*([\w.()]+)")
_HAS_KEY = re.compile(r"(['\"])(\w+)\1\s+in\s+([\w.]+)")
_FUNCTION = re.compile(r"(?<![.\w])function\s+(\w+)\s*\([^)]*\)\s*\{")
_RETURN = re.compile(r"(?<![.\w])return\b")


@dataclass(frozen=True)
class _Function:
    """A function declared in the rules: the span of its body, and of the value that it returns."""

    name: str
    begin: int
    end: int
    value: Span


def guards(source: str) -> set[Span]:
    """Return conditions that check for something that another condition of their chain uses, and fails without."""
    text = blanked(source)
    functions = list(_functions(text))
    returned = {function.name: source[slice(*bare(text, *function.value))] for function in functions}
    spans = [(allow.condition, allow.condition_end) for allow in allows(source)]
    spans += [function.value for function in _denying(text, functions, spans)]
    chains = [operands for whole in spans for operands in _chains(text, *whole)]
    return {span for operands in chains for span in _guards(source, text, operands, returned)}


def unreachable(text: str, start: int, end: int) -> frozenset[str]:
    """Return the methods for which the condition at ``text[start:end]`` is never true.

    Args:
        text: the result of :func:`.source.blanked`.
    """
    start, end = bare(text, start, end)
    if text[start:end] == "false":
        return _METHODS
    alternatives = _split(text, start, end, "||")
    if alternatives[1:] and not _split(text, start, end, "?")[1:]:
        return frozenset.intersection(*(unreachable(text, *alternative) for alternative in alternatives))
    possible = _METHODS
    for operand in operands(text, start, end):
        for name, only in _ONLY:
            if any(_evaluated(text, operand, place.start()) for place in name.finditer(text, *operand)):
                possible &= only
    return _METHODS - possible


def bare(text: str, start: int, end: int) -> Span:
    """Return the span without spaces at its ends and without brackets around all of it."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return bare(text, start + 1, end - 1) if _enclosed(text, start, end) else (start, end)


def _chains(text: str, start: int, end: int) -> Iterator[list[Span]]:
    """Yield the operands of each chain of ``&&``; each alternative of an ``||`` has its own chain."""
    start, end = bare(text, start, end)
    if _split(text, start, end, "?")[1:]:
        return
    alternatives = _split(text, start, end, "||")
    if alternatives[1:]:
        for alternative in alternatives:
            yield from _chains(text, *alternative)
        return
    chain = operands(text, start, end)
    yield chain
    for span in chain:
        if _split(text, *span, "||")[1:]:
            yield from _chains(text, *span)


def operands(text: str, start: int, end: int, sign: str = "&&") -> list[Span]:
    """Return the operands of a chain of ``sign``s, without their brackets, or the whole span if it is no such chain."""
    start, end = bare(text, start, end)
    parts = _split(text, start, end, sign)
    # Of the three operators "&&" binds most tightly and "?" least.
    if not parts[1:] or any(_split(text, start, end, weaker)[1:] for weaker in _LAZY[_LAZY.index(sign) + 1 :]):
        return [(start, end)]
    return [inner for part in parts for inner in operands(text, *part, sign)]


def _functions(text: str) -> Iterator[_Function]:
    for declaration in _FUNCTION.finditer(text):
        end = _closing(text, declaration.end(), len(text))
        value = _RETURN.search(text, declaration.end(), end)
        if value:
            last = min(end, end_of_statement(text, value.end()))
            yield _Function(declaration.group(1), declaration.end(), end, (value.end(), last))


def _denying(text: str, functions: list[_Function], conditions: list[Span]) -> list[_Function]:
    """Return the functions that are called only in chains of && and ||, where an error has the effect of false."""
    candidates = list(functions)
    while True:
        conditions_and_values = [*conditions, *(function.value for function in candidates)]
        chained = {span for condition in conditions_and_values for chain in _chains(text, *condition) for span in chain}
        remaining = [function for function in candidates if _called_in(chained, text, function, functions)]
        if len(remaining) == len(candidates):
            return remaining
        candidates = remaining


def _called_in(spans: set[Span], text: str, function: _Function, functions: list[_Function]) -> bool:
    if sum(other.name == function.name for other in functions) > 1:
        return False
    calls = re.finditer(rf"(?<![.\w]){function.name}\s*\(", text)
    bodies = {declaration.end() for declaration in re.finditer(rf"\bfunction\s+{function.name}\s*\(", text)}
    return all(
        (call.start(), _closing(text, call.end(), len(text)) + 1) in spans for call in calls if call.end() not in bodies
    )


def _guards(source: str, text: str, chain: list[Span], returned: Mapping[str, str]) -> Iterator[Span]:
    for span in chain:
        operand = source[span[0] : span[1]]
        use = _use_of(returned.get(operand.removesuffix("()"), operand))
        if use is None:
            continue
        for other in chain:
            places = [place.start() for place in use.finditer(source, *other)]
            if other != span and any(_evaluated(text, other, place) for place in places):
                yield span
                break


def _use_of(operand: str) -> re.Pattern[str] | None:
    """Return how another operand would use what ``operand`` checks for, or None if it is no such check."""
    if match := _NOT_NULL.fullmatch(operand):
        return re.compile(rf"(?<![\w.]){re.escape(match.group(1) or match.group(2))}[.\[]")
    if match := _HAS_KEY.fullmatch(operand):
        _, key, owner = match.groups()
        return re.compile(rf"(?<![\w.]){re.escape(owner)}(?:\.{key}\b|\[(['\"]){key}\1\])")
    return None


def _evaluated(text: str, span: Span, place: int) -> bool:
    """Return whether the text at ``place`` is evaluated whenever its operand is.

    It may not be if it is an argument of a function declared in the rules, or follows an operator at which evaluation
    may stop.
    """
    opened = [span[0]]
    for offset in range(span[0], place):
        if text[offset] in "([{":
            opened.append(offset + 1)
        elif text[offset] in ")]}":
            opened.pop()
    # A bracket of another kind is a group, or a call of a function that may not evaluate its argument.
    certain = all(text[begin - 1] in "[{" or _METHOD_CALL.search(text[span[0] : begin]) for begin in opened[1:])
    return certain and not any(
        _split(text, begin, _closing(text, begin, span[1]), sign)[1:] for begin in opened for sign in _LAZY
    )


def _split(text: str, start: int, end: int, sign: str) -> list[Span]:
    """Split the span at each ``sign`` that is in no brackets."""
    edges, depth = [start], 0
    for offset in range(start, end):
        depth += (text[offset] in "([{") - (text[offset] in ")]}")
        if depth == 0 and text.startswith(sign, offset):
            edges += [offset, offset + len(sign)]
    edges.append(end)
    return list(zip(edges[::2], edges[1::2], strict=True))


def _closing(text: str, start: int, end: int) -> int:
    """Return where the bracket that was opened before ``start`` closes, or ``end`` if there is none."""
    depth = 0
    for offset in range(start, end):
        depth += (text[offset] in "([{") - (text[offset] in ")]}")
        if depth < 0:
            return offset
    return end


def _enclosed(text: str, start: int, end: int) -> bool:
    return end - start > 1 and text[start] == "(" and _closing(text, start + 1, end) == end - 1
