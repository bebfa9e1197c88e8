"""Which documents a match can reach, and whether two matches can reach the same one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

__all__ = ["KEPT", "Pattern", "overlap", "pattern", "shown"]

Pattern = tuple[str, ...]
"""Segments of a path: a name; ``*``, any one segment; ``**``, any number of them, none included."""

KEPT: tuple[Pattern, ...] = tuple(
    tuple(path.split("/"))
    for path in (
        "apps/*",
        "apps/*/members/**",
        "apps/*/invites/**",
        "apps/*/library/**",
        "apps/*/index/**",
        "apps/*/sources/**",
        "apps/*/gates/**",
        "apps/*/jobs/**",
        "apps/*/requests/**",
        "apps/*/billing_events/**",
        "apps/*/users/*",
        "apps/*/users/*/chats/**",
        "apps/*/users/*/batches/**",
        "apps/*/users/*/documents/**",
        "apps/*/users/*/gates/**",
        "apps/*/users/*/usage/**",
        "apps/*/users/*/devices/**",
        "apps/*/users/*/memory/**",
        "apps/*/rollups/**",
        "apps/*/device_owners/**",
    )
)
"""What firelaunch itself keeps in every app. Most of it no client may touch, so the base rules do not name it."""


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
