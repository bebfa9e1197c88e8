"""Findings: the results of checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Status", "note", "ok", "problem", "skipped"]

Status = Literal["ok", "note", "problem", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        status: a "note" is worth knowing, and stops nothing; "skipped" could not be looked at.
        said: how it is, or why it was skipped.
        mend: what to do about a problem or a note; a command where one helps.
    """

    name: str
    status: Status
    said: str
    mend: str = ""


def ok(name: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(name, "ok", said)


def note(name: str, said: str, mend: str) -> Finding:
    """It is worth knowing."""
    return Finding(name, "note", said, mend)


def problem(name: str, said: str, mend: str) -> Finding:
    """It is wrong."""
    return Finding(name, "problem", said, mend)


def skipped(name: str, why: str) -> Finding:
    """It could not be looked at."""
    return Finding(name, "skipped", why)
