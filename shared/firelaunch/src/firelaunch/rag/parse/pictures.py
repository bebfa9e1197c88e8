"""Pictures, and pages that are pictures: shown to a model that reads them, as JPEG files of a bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import Draft, ParseLimits, Unreadable

__all__ = ["parse"]


def parse(_file: BinaryIO, _limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft]:
    """Raise Unreadable: a picture has no text that a program can read."""
    raise Unreadable("picture")
