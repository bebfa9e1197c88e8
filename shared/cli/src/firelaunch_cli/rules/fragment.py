"""Check an app's own rules, and bind them to the app.

A fragment's matches are relative to ``apps/<app>``. Each of its conditions is combined with membership in the app
(below ``users/{uid}``, with being that user; below ``groups/{group}``, with the role in that group), so that a fragment
can't let in anyone else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firelaunch.store.reserved_paths import Pattern, kept
from rules_tester.parser import parse_statements
from rules_tester.syntax import Allow, Expression, Function, Match, PathSegment, Statement
from rules_tester.tokens import RulesSyntaxError, line_of

from .paths import overlap, pattern, shown

__all__ = ["MARKER", "Fragment", "Problem", "bound", "functions", "reached"]

MARKER = re.compile(r"^[ \t]*// (begin|end) app (\S+)[ \t]*$", re.MULTILINE)
"""The comment lines around an app's block in the built file."""

_LOOK_UPS = {"get", "exists", "getAfter", "existsAfter"}
_OF_GROUPS = frozenset({"groupRole", "isGroupEditor", "isGroupMember"})
"""Functions of the base that look up the membership of the group that their arguments name."""

_READS = frozenset({"read", "get", "list"})
_BUILT_IN_FUNCTIONS = {"bool", "bytes", "debug", "float", "int", "path", "string"}
_BUILT_IN_NAMES = {
    "database", "duration", "firestore", "hashing", "latlng", "math", "request", "resource", "timestamp"
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_Statements = Sequence[Statement]


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
    control = _CONTROL.search(fragment.text)
    if control:
        message = f"the character U+{ord(control.group()):04X} may not stand here; take it out"
        return "", [checks.problem(control.start(), message)]
    try:
        statements = parse_statements(fragment.text)
    except RulesSyntaxError as problem:
        return "", [checks.problem(problem.offset, str(problem))]
    problems = sorted({*checks.of_statements(statements), *checks.of_expressions(statements)})
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
            message = self._of_path(item.path) or self._of_group(item)
            if message:
                yield self.problem(item.allow.start, message)
        for match in _matches(statements):
            yield from self._of_names(match)
            yield from self._of_segments(match.segments)
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

    def of_expressions(self, statements: _Statements) -> Iterator[Problem]:
        callables = self._helpers | _BUILT_IN_FUNCTIONS | {function.name for function in functions(statements)}
        for function in functions(statements):
            names = [(item.start, item.name) for item in function.bindings]
            names += [(item.start, item.text) for item in function.parameters]
            for start, name in names:
                if name in self._reserved:
                    yield self.problem(start, f"{name} has a meaning already; give it another name")
        for node in _nodes(statements):
            message = self._of_call(node, callables) if node.kind == "call" else ""
            if node.kind == "name" and node.text == "firestore":
                message = "write a look-up as in exists(/databases/...), without firestore"
            if message:
                yield self.problem(node.start, message)
            for segment in node.segments:
                if segment.name:
                    yield self.problem(segment.start, f"write $({segment.name}) to insert what a wildcard matched")

    def _of_group(self, item: _Reached) -> str:
        if item.path[0] != "groups":
            return ""
        if not self._helpers >= _OF_GROUPS:
            return f"the base rules have no groups; declare {' and '.join(sorted(_OF_GROUPS))} there"
        if len({method.text in _READS for method in item.allow.methods}) > 1:
            return "this allows reads and writes of a group at once, which ask for different roles; write two allows"
        return ""

    def _of_call(self, call: Expression, callables: frozenset[str]) -> str:
        if call.text in _LOOK_UPS:
            own = f"/databases/$(database)/documents/apps/{self._fragment.app}/notes/$(note)"
            return (
                ""
                if self._is_own(call.children)
                else f"{call.text} looks documents up, which may be another app's; write a whole path of your own "
                f"in place, as in {call.text}({own})"
            )
        if call.text in _OF_GROUPS:
            return f"{call.text} is put before each condition below groups/{{group}} by itself; take it out"
        return "" if call.text in callables else f"there is no function {call.text}; declare it, or mend its name"

    def _is_own(self, arguments: Sequence[Expression]) -> bool:
        """Return whether a look-up's only argument is a path that names, by its first five segments, this app.

        What ``$(...)`` inserts behind them may hold slashes or be a path itself. It only adds segments: there is none
        that leads upwards.
        """
        if len(arguments) != 1 or arguments[0].bare.kind != "path":
            return False
        segments = arguments[0].bare.segments
        database = segments[1].value.bare if len(segments) > 6 and segments[1].value else None
        return (
            database is not None
            and (database.kind, database.text) == ("name", "database")
            and segments[0].text == "databases"
            and [segment.text for segment in segments[2:5]] == ["documents", "apps", self._fragment.app]
            and not segments[5].value
        )

    def _of_segments(self, segments: Sequence[PathSegment]) -> Iterator[Problem]:
        for segment in segments:
            if not segment.name and not _NAME.fullmatch(segment.text):
                yield self.problem(
                    segment.start, f"{segment.text!r} names no collection here; use letters, digits, _ and -"
                )

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
        if path[0] == "groups" and not path[1].startswith("{"):
            return f"/{written} names one group; write /groups/{{group}}/... and compare group in the condition"
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
    segments: tuple[PathSegment, ...]
    names: tuple[str, ...]
    all_names: tuple[str, ...]


def _matches(statements: _Statements, above: tuple[str, ...] = ()) -> Iterator[_Names]:
    for statement in statements:
        if isinstance(statement, Match):
            names = tuple(segment.name for segment in statement.segments if segment.name)
            yield _Names(statement.start, statement.segments, names, above + names)
            yield from _matches(statement.body, above + names)


def _nodes(statements: _Statements) -> Iterator[Expression]:
    """Yield every expression with all below it."""
    for statement in statements:
        if isinstance(statement, Match):
            yield from _nodes(statement.body)
        elif isinstance(statement, Function):
            for expression in statement.expressions:
                yield from expression.walk()
        elif statement.condition:
            yield from statement.condition.walk()


def _group_guard(allow: Allow, group: str) -> str:
    """Return the guard of a group's data. Any member reads it, and editors and owners write it."""
    if allow.methods[0].text in _READS:
        return f"isGroupMember({group})"
    return f"isGroupEditor({group})"


def _guarded(fragment: Fragment, statements: _Statements) -> str:
    text = fragment.text
    for item in sorted(reached(statements), key=lambda item: item.allow.start, reverse=True):
        allow, guard = item.allow, f"isMember('{fragment.app}')"
        if item.path[0] == "users":
            guard = f"isSelf('{fragment.app}', {item.path[1].strip('{}')})"
        elif item.path[0] == "groups":
            guard = _group_guard(allow, f"'{fragment.app}', {item.path[1].strip('{}')}")
        if allow.condition is None:
            end = allow.methods[-1].end
            text = f"{text[:end]}: if {guard}{text[end:]}"
        else:
            start, end = allow.condition.place
            text = f"{text[:start]}{guard} && ({text[start:end]}){text[end:]}"
    return text
