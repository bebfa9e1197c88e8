"""Derive the paths and names that firelaunch keeps for its own data from what a ``Scope`` can build.

An app's own rules may open none of these paths, and an app's own collections may have none of these names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from functools import cache
from itertools import product
from typing import Final

from ..errors import FirelaunchError
from ..scope import GROUP, Scope

__all__ = ["SAMPLE", "SAMPLE_GROUP", "Pattern", "built", "kept", "kept_names"]

Pattern = tuple[str, ...]
"""Segments of a path: a name; ``*`` for any one segment; ``**`` for any number of segments, also none."""

SAMPLE: Final = Scope("kept-app", "kept-uid")
"""The app and the user with whose scopes :func:`built` builds paths."""

SAMPLE_GROUP: Final = "kept-group"
"""The group with whose scope :func:`built` builds paths."""

_OWNERS = ("users", "groups")
"""The collections of the app's owners of data, each of whom an app's own collections may lie below."""

_ARGUMENTS = ("kept-id", "1999-12-31", "1999-12-31T23", 4711, date(1999, 12, 31), True, False, ("kept-id",))
"""Arguments to try the methods of ``Scope`` with. All of them take ids, days, numbers or switches."""

_OWN = frozenset({"record", "records"})
"""The methods of ``Scope`` that build the paths of an app's own data, whose collections have names of the app's choice.
"""


@cache
def kept_names() -> frozenset[str]:
    """Return the names that an app's own collections may not have: those of all collections a ``Scope`` can build.

    Firestore's policies (indexes, expiry) hold for all collections of a name, at whatever depth. So a name is kept at
    every depth.
    """
    names = {name for _, path in built() for name in path.split("/")[::2]}
    return frozenset(names)


@cache
def kept(scope: type[Scope] = Scope) -> tuple[Pattern, ...]:
    """Return the patterns of firelaunch's own documents: everything below each collection that a ``Scope`` can build.

    An app's own rules may open none of them, and the base rules open only what clients may read.

    Raises:
        TypeError: a method of ``scope`` cannot be tried, or its argument names a collection, so that its paths are not
            known.
    """
    patterns: dict[Pattern, None] = dict.fromkeys([("apps", "*"), *(("apps", "*", owners, "*") for owners in _OWNERS)])
    for name, path in built(scope):
        segments = path.split("/")
        if segments[:2] != ["apps", SAMPLE.app_id]:
            continue  # an app's rules are below apps/<app> and reach nothing else
        depth = 4 if segments[2:3] and segments[2] in _OWNERS else 2
        if len(segments) <= depth:
            continue  # the app's or an owner's document, or a collection of owners, which an app's rules pass through
        collection = segments[depth]
        if any(str(argument) in collection for argument in (*_ARGUMENTS, SAMPLE.app_id, SAMPLE.uid, SAMPLE_GROUP)):
            raise TypeError(f"Scope.{name} names a collection by its argument: put the argument into a document's id")
        patterns["apps", "*", *((segments[2], "*") if depth == 4 else ()), collection, "**"] = None
    return tuple(patterns)


def built(scope: type[Scope] = Scope) -> Iterator[tuple[str, str]]:
    """Yield every public method and property of ``scope`` with the paths it builds, for the app, a user and a group.

    The paths of an app's own data are left out.

    Raises:
        TypeError: a method accepts none of the arguments, so its paths are not known.
    """
    for name in sorted(name for name in dir(scope) if not name.startswith("_") and name not in _OWN):
        owners = (None, SAMPLE.uid, GROUP + SAMPLE_GROUP)
        values = [value for owner in owners for value in _results(scope(SAMPLE.app_id, owner), name)]
        if not values:
            raise TypeError(f"Scope.{name} takes none of {_ARGUMENTS}: add what it takes to store/reserved_paths.py")
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
