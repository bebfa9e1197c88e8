"""Compare the live rules with the new ones, by app, to show what a deploy would change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firelaunch.store.reserved_paths import Pattern
from rules_tester.comparison import compared
from rules_tester.difference import RulesDifference
from rules_tester.parser import parse
from rules_tester.syntax import Match, ServiceBlock, Statement
from rules_tester.tokens import RulesSyntaxError

from .fragment import MARKER
from .paths import pattern

__all__ = ["Comparison", "blocks", "compare"]

_ROOT = ("databases", "*", "documents")
_MENTIONED = re.compile(r"/apps/([a-z0-9][a-z0-9_-]*)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two rules files.

    Attributes:
        added, changed, removed: the apps whose blocks the new rules add, change or remove.
        base_changed: whether anything outside the apps' blocks differs.
        lines: the lines of a unified diff; empty if the texts are equal.
        opens, closes: a sentence for each right that the new rules give, or no longer give. Empty if either text does
            not compile.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    base_changed: bool
    lines: tuple[str, ...]
    opens: tuple[str, ...]
    closes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """ "opens" if anything is opened; otherwise "closes" or "none"."""
        return "opens" if self.opens else "closes" if self.closes else "none"


def compare(live: str | None, new: str) -> Comparison:
    """Compare the live rules (None if there are none) with the new ones.

    The live rules have an app if a block is marked as its own or if a match names it. The new rules have an app only if
    a match names it, so that a block of which only the marks are left counts as removed.
    """
    old = (live or "").replace("\r\n", "\n")
    new = new.replace("\r\n", "\n")
    before, after = blocks(old), blocks(new)
    new_apps = set(_apps_in_matches(new))
    live_apps = set(before) | set(_apps_in_matches(old))
    changed = sorted(app for app in live_apps & new_apps if before.get(app) != after.get(app))
    decisions = _decisions(old, new)
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "live", "new", lineterm="")
    return Comparison(
        added=tuple(sorted(new_apps - live_apps)),
        changed=tuple(changed),
        removed=tuple(sorted(live_apps - new_apps)),
        base_changed=_outside(old) != _outside(new),
        lines=tuple(lines),
        opens=tuple(decisions.opened()) if decisions else (),
        closes=tuple(decisions.closed()) if decisions else (),
    )


def _decisions(old: str, new: str) -> RulesDifference | None:
    try:
        return compared(parse(old) if old.strip() else None, parse(new))
    except RulesSyntaxError:
        return None


def blocks(text: str) -> dict[str, str]:
    """Return the marked blocks by app. A block that is not closed reaches to the end."""
    texts: dict[str, str] = {}
    for app, begin, end in _spans(text):
        texts[app] = texts.get(app, "") + text[begin:end]
    return texts


def _outside(text: str) -> list[str]:
    """Return the lines outside of marked blocks, without blank ones."""
    for _, begin, end in reversed(list(_spans(text))):
        text = text[:begin] + text[end:]
    return [line for line in text.splitlines() if line.strip()]


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    marks: Sequence[re.Match[str]] = list(MARKER.finditer(text))
    at = 0
    for number, mark in enumerate(marks):
        if mark[1] != "begin" or mark.start() < at:
            continue
        ends = [later.end() for later in marks[number:] if later[1] == "end" and later[2] == mark[2]]
        at = ends[0] if ends else len(text)
        yield mark[2], mark.start(), at


def _apps_in_matches(text: str) -> Iterator[str]:
    """Yield the apps that matches name in their paths; a nested match's path includes the outer ones.

    Rules that the compiler refuses are never in force, but a file may hold such. It has every app that it mentions.
    """
    try:
        ruleset = parse(text)
    except RulesSyntaxError:
        yield from _MENTIONED.findall(text)
        return
    for service in ruleset.services:
        for path in _paths(service.body):
            if path[:3] == _ROOT and len(path) > 4 and path[3] == "apps" and path[4] not in {"*", "**"}:
                yield path[4]


def _paths(statements: Sequence[Statement | ServiceBlock], above: Pattern = ()) -> Iterator[Pattern]:
    for statement in statements:
        if isinstance(statement, Match):
            path = above + pattern(statement.path)
            yield path
            yield from _paths(statement.body, path)
