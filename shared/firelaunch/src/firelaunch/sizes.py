"""Write sizes for people."""

from __future__ import annotations

__all__ = ["size_text"]

_UNITS = ((2**20, 1, "MiB"), (10**6, 10, "MB"), (2**10, 1, "KiB"), (10**3, 1, "KB"))
"""The bytes of a unit, into how many parts it may be divided, and its name."""


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that says it exactly, such as ``20 MiB`` or ``3.5 MB``."""
    for unit, parts, name in _UNITS:
        if size >= unit and not size * parts % unit:
            return f"{size / unit:,g} {name}"
    return f"{size:,} {'byte' if size == 1 else 'bytes'}"
