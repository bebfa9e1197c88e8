"""The rules as a deploy puts them in force: the base with apps' own rules, as wide as the composer lets them be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firelaunch.store.reserved_paths import kept
from firelaunch_cli.rules.compose import CompositionRefused, compose
from firelaunch_cli.rules.fragment import Fragment

from .tokens import APPS

__all__ = ["composed", "reaching"]

_WIDEST = """
match /notes/{rest=**} { allow read, write; }
match /boards/{board} { allow read, write: if true; }
match /boards/{board}/{any}/{id} { allow read, write; }
match /users/{uid}/notes/{rest=**} { allow read, write: if true; }
match /users/{uid}/boards/{board}/{any}/{rest=**} { allow read, write; }
match /groups/{group}/notes/{rest=**} { allow read; allow write: if true; }
match /groups/{group}/boards/{board}/{any}/{rest=**} { allow read: if true; allow write; }
"""


def composed(base: str) -> str:
    """``base`` with rules of every app's own that open all that the composer lets an app open.

    Raises:
        AssertionError: the composer took a fragment that reaches what firelaunch keeps.
    """
    taken = next((match for match in reaching() if _taken(base, match)), None)
    if taken is not None:
        raise AssertionError(f"the composer takes a rule that opens what firelaunch keeps: {taken}")
    return compose(base, [Fragment(app, f"apps/{app}/firestore.rules", _WIDEST) for app in APPS]).text


def reaching() -> tuple[str, ...]:
    """Paths of matches, below ``apps/<app>``, each of which reaches something that firelaunch keeps."""
    return tuple(dict.fromkeys("/".join(way) for place in kept() for way in _ways(place[2:])))


def _ways(place: Sequence[str]) -> Iterator[list[str]]:
    """Matches that reach ``place``: by names and wildcards, at its own depth, above it and below it."""
    named = [f"{{w{number}}}" if part == "*" else part for number, part in enumerate(place)]
    below = named[-1:] == ["**"]
    document = [*named[:-1], "{id}"] if below else named
    yield ["{rest=**}"]
    yield [f"{{a{number}}}" for number in range(len(document))]
    for number in range(len(document)):
        before, after = document[:number], document[number + 1 :]
        yield [*before, "{rest=**}"]
        yield [*before, "{any}", "{rest=**}"]
        yield [*before, "{any}", *after]
        yield [*before, "one", *after] if document[number].startswith("{") else document
        yield ["{rest=**}", *document[number:]]
        yield [*before, "{rest=**}", *after]
    if below:
        yield [*document, "more", "{deep}"]
        yield [*document, "{sub}", "{deep}", "{rest=**}"]


def _taken(base: str, match: str) -> bool:
    """Whether the composer takes the match, whole or as one match inside another at any slash."""
    parts = match.split("/")
    for cut in range(len(parts)):
        outer, inner = "/".join(parts[:cut]), "/".join(parts[cut:])
        text = f"match /{inner} {{ allow read, write; }}"
        text = f"match /{outer} {{ {text} }}" if outer else text
        try:
            compose(base, [Fragment(APPS[0], "firestore.rules", text)])
        except CompositionRefused:
            continue
        return True
    return False
