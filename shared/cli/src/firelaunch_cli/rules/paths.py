"""Compute the documents that a match can reach, and whether two matches can reach the same one."""

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
"""Segments of a path: a name; ``*`` for any one segment; ``**`` for any number of segments, also none."""

SAMPLE = Scope("kept-app", "kept-uid")
"""The app and the user with whose scopes :func:`built` builds paths."""

_ARGUMENTS = ("kept-id", "1999-12-31", 4711, date(1999, 12, 31), True, False, ("kept-id",))
"""Arguments to try the methods of ``Scope`` with. All of them take ids, days, numbers or switches."""


def kept(scope: type[Scope] = Scope) -> tuple[Pattern, ...]:
    """Return the patterns of firelaunch's own documents: everything below each collection that a ``Scope`` can build.

    An app's own rules may open none of them, and the base rules open only what clients may read.

    Raises:
        TypeError: a method of ``scope`` cannot be tried, or its argument names a collection, so that its paths are not
            known.
    """
    patterns = {("apps", "*"): None, ("apps", "*", "users", "*"): None}
    for name, path in built(scope):
        segments = path.split("/")
        if segments[:2] != ["apps", SAMPLE.app_id]:
            continue  # an app's rules are below apps/<app> and reach nothing else
        depth = 4 if segments[2:3] == ["users"] else 2
        if len(segments) <= depth:
            continue  # the app's or the user's document, or the collection of users, which an app's rules pass through
        collection = segments[depth]
        if any(str(argument) in collection for argument in (*_ARGUMENTS, SAMPLE.app_id, SAMPLE.uid)):
            raise TypeError(f"Scope.{name} names a collection by its argument: put the argument into a document's id")
        patterns["apps", "*", *(("users", "*") if depth == 4 else ()), collection, "**"] = None
    return tuple(patterns)


def built(scope: type[Scope] = Scope) -> Iterator[tuple[str, str]]:
    """Yield every public method and property of ``scope`` with the paths it builds, for the app and for a user.

    Raises:
        TypeError: a method accepts none of the arguments, so its paths are not known.
    """
    for name in sorted(name for name in dir(scope) if not name.startswith("_")):
        values = [
            value
            for sample in (scope(SAMPLE.app_id), scope(SAMPLE.app_id, SAMPLE.uid))
            for value in _results(sample, name)
        ]
        if not values:
            raise TypeError(f"Scope.{name} takes none of {_ARGUMENTS}: add what it takes to rules/paths.py")
        for value in values:
            for path in (value,) if isinstance(value, str) else value if isinstance(value, Sequence) else ():
                if isinstance(path, str) and "/" in path:
                    yield name, path


def _results(sample: Scope, name: str) -> list[object]:
    try:
        member = getattr(sample, name)
    except FirelaunchError:
        return []
    if not callable(member):
        return [member]
    returns = str(inspect.signature(member).return_annotation)
    if "Scope" in returns or "Self" in returns:
        return [None]  # it returns another scope, whose paths are tried on their own
    values, names = [], inspect.signature(member).parameters
    for arguments in product(_ARGUMENTS, repeat=len(names)):
        with suppress(FirelaunchError, TypeError, ValueError, AttributeError):
            values.append(member(**dict(zip(names, arguments, strict=True))))
    return values


def pattern(segments: Sequence[str]) -> Pattern:
    """Return the pattern of a match's segments, such as "notes", "{note}" and "{rest=**}"."""
    return tuple("**" if part.endswith("=**}") else "*" if part.startswith("{") else part for part in segments)


def overlap(one: Pattern, other: Pattern) -> bool:
    """Return whether there is a path that both patterns match."""

    @cache
    def tails_overlap(i: int, j: int) -> bool:
        if i < len(one) and one[i] == "**":
            return tails_overlap(i + 1, j) or (j < len(other) and tails_overlap(i, j + 1))
        if j < len(other) and other[j] == "**":
            return tails_overlap(i, j + 1) or (i < len(one) and tails_overlap(i + 1, j))
        if i == len(one) or j == len(other):
            return i == len(one) and j == len(other)
        return (one[i] == other[j] or "*" in {one[i], other[j]}) and tails_overlap(i + 1, j + 1)

    return tails_overlap(0, 0)


def shown(path: Pattern) -> str:
    """Format a pattern for people: ``users/*/chats/**`` as "users/{}/chats"."""
    return "/".join("{}" if part == "*" else part for part in path if part != "**")
