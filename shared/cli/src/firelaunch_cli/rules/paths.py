"""Which documents a match can reach, and whether two matches can reach the same one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from functools import cache
from itertools import product

from firelaunch.errors import FirelaunchError
from firelaunch.scope import Scope

__all__ = ["SAMPLE", "Pattern", "built", "kept", "overlap", "pattern", "shown"]

Pattern = tuple[str, ...]
"""Segments of a path: a name; ``*``, any one segment; ``**``, any number of them, none included."""

SAMPLE = Scope("kept-app", "kept-uid")
"""The app and the user whose paths :func:`built` asks for."""

_ARGUMENTS = ("kept-id", "1999-12-31", 4711, date(1999, 12, 31), True, False, ("kept-id",))
"""What a method of ``Scope`` is tried with. Every one takes ids, days, numbers or switches."""


def kept(scope: type[Scope] = Scope) -> tuple[Pattern, ...]:
    """What firelaunch keeps in every app: everything below each collection that a ``Scope`` can lead to.

    An app's own rules may open none of it, and the base rules name only what clients may read.

    Raises:
        TypeError: a method of ``scope`` cannot be tried, or it names a collection by its argument, so that what it
            leads to cannot be known.
    """
    found = {("apps", "*"): None, ("apps", "*", "users", "*"): None}
    for name, path in built(scope):
        segments = path.split("/")
        if segments[:2] != ["apps", SAMPLE.app_id]:
            continue  # rules of an app are below apps/<app>, and reach nothing else
        own = 4 if segments[2:3] == ["users"] else 2
        if len(segments) <= own:
            continue  # the app's or the user's document, or the collection of users, which an app's rules pass through
        collection = segments[own]
        if any(str(argument) in collection for argument in (*_ARGUMENTS, SAMPLE.app_id, SAMPLE.uid)):
            raise TypeError(f"Scope.{name} names a collection by its argument: put the argument into a document's id")
        found["apps", "*", *(("users", "*") if own == 4 else ()), collection, "**"] = None
    return tuple(found)


def built(scope: type[Scope] = Scope) -> Iterator[tuple[str, str]]:
    """Every public method and property of ``scope`` with the paths it builds, for the app and for a user of it.

    Raises:
        TypeError: a method takes none of the arguments it is tried with, so what it builds cannot be known.
    """
    for name in sorted(name for name in dir(scope) if not name.startswith("_")):
        tried = [
            value for own in (scope(SAMPLE.app_id), scope(SAMPLE.app_id, SAMPLE.uid)) for value in _tried(own, name)
        ]
        if not tried:
            raise TypeError(f"Scope.{name} takes none of {_ARGUMENTS}: add what it takes to rules/paths.py")
        for value in tried:
            for path in (value,) if isinstance(value, str) else value if isinstance(value, Sequence) else ():
                if isinstance(path, str) and "/" in path:
                    yield name, path


def _tried(own: Scope, name: str) -> list[object]:
    try:
        member = getattr(own, name)
    except FirelaunchError:
        return []
    if not callable(member):
        return [member]
    returns = str(inspect.signature(member).return_annotation)
    if "Scope" in returns or "Self" in returns:
        return [None]  # leads to another scope, whose own paths are tried
    values, names = [], inspect.signature(member).parameters
    for arguments in product(_ARGUMENTS, repeat=len(names)):
        with suppress(FirelaunchError, TypeError, ValueError, AttributeError):
            values.append(member(**dict(zip(names, arguments, strict=True))))
    return values


def pattern(segments: Sequence[str]) -> Pattern:
    """The pattern of a match's segments, such as "notes", "{note}" and "{rest=**}"."""
    return tuple("**" if part.endswith("=**}") else "*" if part.startswith("{") else part for part in segments)


def overlap(one: Pattern, other: Pattern) -> bool:
    """Whether there is a path that both patterns match."""

    @cache
    def rest(i: int, j: int) -> bool:
        if i < len(one) and one[i] == "**":
            return rest(i + 1, j) or (j < len(other) and rest(i, j + 1))
        if j < len(other) and other[j] == "**":
            return rest(i, j + 1) or (i < len(one) and rest(i + 1, j))
        if i == len(one) or j == len(other):
            return i == len(one) and j == len(other)
        return (one[i] == other[j] or "*" in {one[i], other[j]}) and rest(i + 1, j + 1)

    return rest(0, 0)


def shown(path: Pattern) -> str:
    """A pattern for people: ``users/*/chats/**`` is "users/{}/chats"."""
    return "/".join("{}" if part == "*" else part for part in path if part != "**")
