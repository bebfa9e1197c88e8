"""Check an app's own rules, and bind them to the app.

A fragment's matches are relative to ``apps/<app>``. Each of its conditions is combined with membership in the app
(below ``users/{uid}``, with being that user), so that a fragment can't let in anyone else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firelaunch.store.kept import Pattern, kept
from rules_tester.source import line_of
from rules_tester.syntax import Allow, Function, Match, NotRead, Reader, Token

from .paths import overlap, pattern, shown

__all__ = ["MARKER", "Fragment", "Problem", "bound", "functions", "reached"]

MARKER = re.compile(r"^[ \t]*// (begin|end) app (\S+)[ \t]*$", re.MULTILINE)
"""The comment lines around an app's block in the built file."""

_LOOK_UPS = {"get", "exists", "getAfter", "existsAfter", "firestore"}
_BUILT_IN_FUNCTIONS = {"bool", "bytes", "debug", "float", "int", "path", "string"}
_BUILT_IN_NAMES = {"database", "duration", "hashing", "latlng", "math", "request", "resource", "timestamp"}
_Statements = Sequence[Match | Allow | Function]


@dataclass(frozen=True, slots=True)
class Fragment:
    """The rules of one app.

    Args:
        app: a valid app id.
        file: the text's file name, for messages.
    """

    app: str
    file: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A problem in a file: its place, and a message with the remedy."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Reached:
    """An allow with the path of its match from the top of the fragment or file; wildcards keep their names."""

    allow: Allow
    path: tuple[str, ...]


def reached(statements: _Statements, above: tuple[str, ...] = ()) -> Iterator[_Reached]:
    """Yield every allow with the full path of its match."""
    for statement in statements:
        if isinstance(statement, Match):
            yield from reached(statement.body, above + statement.path)
        elif isinstance(statement, Allow):
            yield _Reached(statement, above)


def functions(statements: _Statements) -> Iterator[Function]:
    """Yield every function, at any level."""
    for statement in statements:
        if isinstance(statement, Match):
            yield from functions(statement.body)
        elif isinstance(statement, Function):
            yield statement


def bound(fragment: Fragment, helpers: frozenset[str], base: Sequence[Pattern]) -> tuple[str, list[Problem]]:
    """Bind every allow of a fragment to the app, without changing its lines, and return the text and the problems.

    Args:
        helpers: names of the base's functions, which a fragment may call but not declare.
        base: patterns of the full paths on which the base's rules allow something.

    Returns:
        The text and the problems. The text is empty if the fragment is empty or has problems.
    """
    checks = _Checks(fragment, helpers, (*kept(), *base))
    try:
        reader = Reader(fragment.text)
        statements = reader.statements()
        if not reader.done:
            raise NotRead(reader.offset(), "this } closes nothing that was opened here; take it out")
    except NotRead as problem:
        return "", [checks.problem(problem.offset, str(problem))]
    problems = sorted({*checks.of_statements(statements), *checks.of_tokens(reader.tokens, statements)})
    if problems or not statements:
        return "", problems
    return _guarded(fragment, statements), []


class _Checks:
    def __init__(self, fragment: Fragment, helpers: frozenset[str], protected: Sequence[Pattern]) -> None:
        self._fragment, self._helpers, self._protected = fragment, helpers, protected

    def problem(self, offset: int, message: str) -> Problem:
        return Problem(self._fragment.file, line_of(self._fragment.text, offset), message)

    def of_statements(self, statements: _Statements) -> Iterator[Problem]:
        for item in reached(statements):
            message = self._of_path(item.path)
            if message:
                yield self.problem(item.allow.start, message)
        for match in _matches(statements):
            yield from self._of_names(match)
        for function in functions(statements):
            if function.name in self._reserved:
                yield self.problem(
                    function.start,
                    f"the function {function.name} would hide another of that name, which the base rules or the "
                    "rules language have; give it another name",
                )
        mark = MARKER.search(self._fragment.text)
        if mark:
            yield self.problem(mark.start(), "this comment looks like the mark around an app's block; reword it")

    def of_tokens(self, tokens: Sequence[Token], statements: _Statements) -> Iterator[Problem]:
        callables = self._helpers | _BUILT_IN_FUNCTIONS | {function.name for function in functions(statements)}
        for before, token, after in _threes(tokens):
            if token.kind != "name" or before == ".":
                continue
            if token.text in _LOOK_UPS and (after == "(" or token.text == "firestore"):
                yield self.problem(
                    token.start,
                    f"{token.text} looks documents up, which may be another app's, and each costs a read; decide from "
                    "request.auth.token, the path and resource.data",
                )
            elif before == "let" and token.text in self._reserved:
                yield self.problem(token.start, f"{token.text} has a meaning already; give it another name")
            elif after == "(" and before != "function" and token.text not in callables | {"if", "in", "is", "return"}:
                yield self.problem(token.start, f"there is no function {token.text}; declare it, or mend its name")

    def _of_path(self, path: tuple[str, ...]) -> str:
        whole = ("apps", self._fragment.app, *pattern(path))
        written = "/".join(path)
        if not path:
            return "this allow is for the app's own document, which firelaunch keeps; put it into a match"
        places = [shown(place[2:]) or "the app's own document" for place in self._protected if overlap(whole, place)]
        if places:
            more = f" and {len(places) - 1} more" if places[1:] else ""
            return (
                f"/{written} reaches {places[0]}{more}, which firelaunch keeps; name collections of the app's own, as "
                "in /notes/{note} or /users/{uid}/notes/{note}"
            )
        if "**" not in whole and len(whole) % 2:
            return f"/{written} is the path of a collection, and matches no document; add a wildcard, as in /{{id}}"
        if path[0] == "users" and not path[1].startswith("{"):
            return f"/{written} names one user; write /users/{{uid}}/... and compare uid in the condition"
        return ""

    def _of_names(self, match: _Names) -> Iterator[Problem]:
        for name in match.names:
            if match.all_names.count(name) > 1:
                yield self.problem(match.start, f"{{{name}}} stands twice in one path; give each its own name")
            elif name in self._reserved:
                yield self.problem(match.start, f"{{{name}}} has a meaning already; give it another name")

    @property
    def _reserved(self) -> frozenset[str]:
        return self._helpers | _BUILT_IN_FUNCTIONS | _BUILT_IN_NAMES | _LOOK_UPS


@dataclass(frozen=True, slots=True)
class _Names:
    start: int
    names: tuple[str, ...]
    all_names: tuple[str, ...]


def _matches(statements: _Statements, above: tuple[str, ...] = ()) -> Iterator[_Names]:
    for statement in statements:
        if isinstance(statement, Match):
            names = tuple(_name(part) for part in statement.path if part.startswith("{"))
            yield _Names(statement.start, names, above + names)
            yield from _matches(statement.body, above + names)


def _name(segment: str) -> str:
    return segment.strip("{}").partition("=")[0]


def _threes(tokens: Sequence[Token]) -> Iterator[tuple[str, Token, str]]:
    texts = ["", *(token.text for token in tokens), ""]
    return zip(texts, tokens, texts[2:], strict=False)


def _guarded(fragment: Fragment, statements: _Statements) -> str:
    text = fragment.text
    for item in sorted(reached(statements), key=lambda item: item.allow.start, reverse=True):
        allow, guard = item.allow, f"isMember('{fragment.app}')"
        if item.path[0] == "users":
            guard = f"isSelf('{fragment.app}', {_name(item.path[1])})"
        if allow.begin is None:
            text = f"{text[: allow.end]}: if {guard}{text[allow.end :]}"
        else:
            condition = text[allow.begin : allow.end]
            text = f"{text[: allow.begin]} {guard} && ({condition.removeprefix(' ')}){text[allow.end :]}"
    return text
