"""Compute the documents that a match can reach, and whether two matches can reach the same one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from firelaunch.store.reserved_paths import Pattern

__all__ = ["overlap", "pattern", "shown"]


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
