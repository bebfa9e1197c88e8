"""What can be told of a condition without running it: changes that make no difference, whatever the cases are.

An error denies as false does. So ``request.auth != null`` beside ``request.auth.uid == owner`` decides nothing
(without a token the second is an error), and ``request.query`` lets no rule through but that of a list. Only what is
evaluated in any case is looked at; where there is doubt, nothing is said.
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
"""What is an error for all other methods (https://firebase.google.com/docs/reference/rules/rules.firestore)."""

_LAZY = ("&&", "||", "?")
"""Signs at which evaluation may stop."""

_METHOD_CALL = re.compile(r"\.\w+\s*\($")
_NOT_NULL = re.compile(r"([\w.()]+)\s*!=\s*null|null\s*!=\s*([\w.()]+)")
_HAS_KEY = re.compile(r"(['\"])(\w+)\1\s+in\s+([\w.]+)")
_FUNCTION = re.compile(r"(?<![.\w])function\s+(\w+)\s*\([^)]*\)\s*\{")
_RETURN = re.compile(r"(?<![.\w])return\b")


@dataclass(frozen=True)
class _Function:
    """A function of the rules' own: where its body lies, and its value in there."""

    name: str
    begin: int
    end: int
    value: Span


def guards(source: str) -> set[Span]:
    """Conditions that ask whether something is there which another one beside them uses, and fails without."""
    text = blanked(source)
    functions = list(_functions(text))
    asked = {function.name: source[slice(*bare(text, *function.value))] for function in functions}
    spans = [(allow.condition, allow.condition_end) for allow in allows(source)]
    spans += [function.value for function in _denying(text, functions, spans)]
    chains = [operands for whole in spans for operands in _chains(text, *whole)]
    return {span for operands in chains for span in _guards(source, text, operands, asked)}


def unreachable(text: str, start: int, end: int) -> frozenset[str]:
    """Methods for which the condition at ``text[start:end]`` is never true.

    Args:
        text: as from :func:`.source.blanked`.
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
            if any(_evaluated(text, operand, found.start()) for found in name.finditer(text, *operand)):
                possible &= only
    return _METHODS - possible


def bare(text: str, start: int, end: int) -> Span:
    """The span without spaces at its ends and without brackets around all of it."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return bare(text, start + 1, end - 1) if _enclosed(text, start, end) else (start, end)


def _chains(text: str, start: int, end: int) -> Iterator[list[Span]]:
    """The operands of each chain of ``&&``, of which there is one for each alternative of an ``||``."""
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
    """Of a chain of ``sign``s, without their brackets; the whole span where it is something else."""
    start, end = bare(text, start, end)
    parts = _split(text, start, end, sign)
    # Of the three, "&&" binds most and "?" least.
    if not parts[1:] or any(_split(text, start, end, weaker)[1:] for weaker in _LAZY[_LAZY.index(sign) + 1 :]):
        return [(start, end)]
    return [inner for part in parts for inner in operands(text, *part, sign)]


def _functions(text: str) -> Iterator[_Function]:
    for found in _FUNCTION.finditer(text):
        end = _closing(text, found.end(), len(text))
        value = _RETURN.search(text, found.end(), end)
        if value:
            last = min(end, end_of_statement(text, value.end()))
            yield _Function(found.group(1), found.end(), end, (value.end(), last))


def _denying(text: str, functions: list[_Function], conditions: list[Span]) -> list[_Function]:
    """Functions whose false and whose error come to the same: they are called nowhere but in chains of && and ||."""
    good = list(functions)
    while True:
        whole = [*conditions, *(function.value for function in good)]
        plain = {span for one in whole for chain in _chains(text, *one) for span in chain}
        kept = [function for function in good if _called_in(plain, text, function, functions)]
        if len(kept) == len(good):
            return kept
        good = kept


def _called_in(plain: set[Span], text: str, function: _Function, functions: list[_Function]) -> bool:
    if sum(other.name == function.name for other in functions) > 1:
        return False
    calls = re.finditer(rf"(?<![.\w]){function.name}\s*\(", text)
    bodies = {found.end() for found in re.finditer(rf"\bfunction\s+{function.name}\s*\(", text)}
    return all(
        (call.start(), _closing(text, call.end(), len(text)) + 1) in plain for call in calls if call.end() not in bodies
    )


def _guards(source: str, text: str, chain: list[Span], asked: Mapping[str, str]) -> Iterator[Span]:
    for span in chain:
        operand = source[span[0] : span[1]]
        used = _use_of(asked.get(operand.removesuffix("()"), operand))
        if used is None:
            continue
        for other in chain:
            found = [place.start() for place in used.finditer(source, *other)]
            if other != span and any(_evaluated(text, other, place) for place in found):
                yield span
                break


def _use_of(operand: str) -> re.Pattern[str] | None:
    """How another operand would use what ``operand`` asks for; None where it asks for nothing of the kind."""
    if found := _NOT_NULL.fullmatch(operand):
        return re.compile(rf"(?<![\w.]){re.escape(found.group(1) or found.group(2))}[.\[]")
    if found := _HAS_KEY.fullmatch(operand):
        _, key, owner = found.groups()
        return re.compile(rf"(?<![\w.]){re.escape(owner)}(?:\.{key}\b|\[(['\"]){key}\1\])")
    return None


def _evaluated(text: str, span: Span, place: int) -> bool:
    """Whether what stands at ``place`` is evaluated whenever the operand is.

    It may not be as an argument of a function of the rules' own, or behind a sign at which evaluation may stop.
    """
    opened = [span[0]]
    for offset in range(span[0], place):
        if text[offset] in "([{":
            opened.append(offset + 1)
        elif text[offset] in ")]}":
            opened.pop()
    # A bracket of another kind is a group, or a call of a function, which may leave its argument alone.
    known = all(text[begin - 1] in "[{" or _METHOD_CALL.search(text[span[0] : begin]) for begin in opened[1:])
    return known and not any(
        _split(text, begin, _closing(text, begin, span[1]), sign)[1:] for begin in opened for sign in _LAZY
    )


def _split(text: str, start: int, end: int, sign: str) -> list[Span]:
    """The parts between the ``sign``s that stand in no brackets."""
    edges, depth = [start], 0
    for offset in range(start, end):
        depth += (text[offset] in "([{") - (text[offset] in ")]}")
        if depth == 0 and text.startswith(sign, offset):
            edges += [offset, offset + len(sign)]
    edges.append(end)
    return list(zip(edges[::2], edges[1::2], strict=True))


def _closing(text: str, start: int, end: int) -> int:
    """Where the bracket closes that was opened before ``start``; ``end`` where none was."""
    depth = 0
    for offset in range(start, end):
        depth += (text[offset] in "([{") - (text[offset] in ")]}")
        if depth < 0:
            return offset
    return end


def _enclosed(text: str, start: int, end: int) -> bool:
    return end - start > 1 and text[start] == "(" and _closing(text, start + 1, end) == end - 1
