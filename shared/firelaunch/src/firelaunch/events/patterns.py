"""Patterns of resources' paths: ``apps/{app}/users/{uid}/meals/{meal}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ScopeViolation
from ..scope import split

__all__ = ["PathPattern"]

_VARIABLE = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A resource's path whose segments in braces are variables."""

    segments: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> PathPattern:
        """Parse a pattern.

        Raises:
            ValueError: a segment is empty, holds half a variable, or two variables have one name.
        """
        segments = tuple(text.split("/"))
        for segment in segments:
            if not segment or (set(segment) & set("{}") and not _VARIABLE.fullmatch(segment)):
                raise ValueError(
                    f"{text!r} is no pattern: {segment!r} is neither a name nor a variable such as {{name}}"
                )
        pattern = cls(segments)
        if len(set(pattern.variables)) < len(pattern.variables):
            raise ValueError(f"{text!r} is no pattern: its variables have different names")
        return pattern

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables, in order."""
        return tuple(match[1] for segment in self.segments if (match := _VARIABLE.fullmatch(segment)))

    def match(self, path: str) -> dict[str, str] | None:
        """Return the variables of ``path``, or None if the path does not match."""
        try:
            path_segments = split(path)
        except ScopeViolation:
            return None
        if len(path_segments) != len(self.segments):
            return None
        names = {}
        for expected, segment in zip(self.segments, path_segments, strict=True):
            variable = _VARIABLE.fullmatch(expected)
            if variable:
                names[variable[1]] = segment
            elif expected != segment:
                return None
        return names
