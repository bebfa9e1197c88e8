"""What a deploy would change: the live rules against the new ones, by app."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rules_tester.source import blanked, matches

from .fragment import MARKER
from .paths import pattern

__all__ = ["Comparison", "blocks", "compare"]

_ROOT = ("databases", "*", "documents")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two rules files.

    Attributes:
        added, changed, removed: apps, by what the new rules do with their blocks.
        base_changed: whether anything outside the apps' blocks differs.
        lines: of a unified diff; none where the texts are the same.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    base_changed: bool
    lines: tuple[str, ...]


def compare(live: str | None, new: str) -> Comparison:
    """The difference between the live rules (None where there are none) and the new ones.

    An app counts as there where a block is marked as its own, or where a match names it; in the new rules, only where a
    match does, so that a block whose marks alone are left counts as removed.
    """
    old = (live or "").replace("\r\n", "\n")
    new = new.replace("\r\n", "\n")
    before, after = blocks(old), blocks(new)
    named = set(_named(new))
    there, kept = set(before) | set(_named(old)), named
    changed = sorted(app for app in there & kept if before.get(app) != after.get(app))
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "live", "new", lineterm="")
    return Comparison(
        added=tuple(sorted(kept - there)),
        changed=tuple(changed),
        removed=tuple(sorted(there - kept)),
        base_changed=_outside(old) != _outside(new),
        lines=tuple(lines),
    )


def blocks(text: str) -> dict[str, str]:
    """The marked blocks by their apps; one that is not closed reaches to the end."""
    found: dict[str, str] = {}
    for app, begin, end in _spans(text):
        found[app] = found.get(app, "") + text[begin:end]
    return found


def _outside(text: str) -> list[str]:
    """The lines that lie in no marked block, blank ones left out."""
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


def _named(text: str) -> Iterator[str]:
    """The apps that a match names in its path, nested ones put together."""
    above: list[tuple[int, tuple[str, ...]]] = []
    for match in matches(blanked(text)):
        while above and above[-1][0] <= match.start:
            above.pop()
        here = pattern([segment.text for segment in match.segments])
        path = (above[-1][1] if above else ()) + here
        above.append((match.end, path))
        if path[:3] == _ROOT and len(path) > 4 and path[3] == "apps" and path[4] not in {"*", "**"}:
            yield path[4]
