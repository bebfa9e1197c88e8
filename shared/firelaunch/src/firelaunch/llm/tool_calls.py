"""Assemble tool calls from the pieces of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from .types import MADE_ID, CallPart, ToolCall

__all__ = ["CallAssembler"]


class CallAssembler:
    """The tool calls of one answer, assembled from their pieces.

    OpenAI numbers the calls and names each in its first piece only. Gemini's compatible endpoint sends each call whole
    and may number all of them 0. So a piece begins a new call if its id differs from that of the call with its number.
    """

    def __init__(self) -> None:
        self._calls: list[list[CallPart]] = []
        self._at: dict[int, list[CallPart]] = {}

    def add(self, parts: Iterable[CallPart]) -> None:
        """Add the pieces of a chunk."""
        for part in parts:
            latest = self._calls[-1] if self._calls else None
            pieces = latest if part.index is None else self._at.get(part.index)
            if pieces is None or (part.id and part.id != pieces[0].id) or (part.index is None and part.name):
                pieces = []
                self._calls.append(pieces)
                if part.index is not None:
                    self._at[part.index] = pieces
            pieces.append(part)

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls in the order in which they began; a call without an id gets one."""
        return tuple(_join(parts) for parts in self._calls)

    def text(self) -> str:
        """Return what the model has written of the calls."""
        return "".join(part.name + part.arguments for parts in self._calls for part in parts)


def _join(parts: list[CallPart]) -> ToolCall:
    signature = next((part.signature for part in parts if part.signature), None)
    return ToolCall(
        parts[0].id or MADE_ID + secrets.token_hex(8),
        "".join(part.name for part in parts),
        "".join(part.arguments for part in parts),
        signature,
    )
