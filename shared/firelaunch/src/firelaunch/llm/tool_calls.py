"""Tool calls put together from the pieces of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from .types import MADE_ID, CallPart, ToolCall

__all__ = ["CallAssembler"]


class CallAssembler:
    """Collects the pieces of one answer's calls.

    OpenAI numbers the calls and names each in its first piece alone. Gemini's compatible endpoint sends each call whole
    and may number all of them 0, so a piece with another id than the call of its number begins a new one.
    """

    def __init__(self) -> None:
        self._calls: list[list[CallPart]] = []
        self._at: dict[int, list[CallPart]] = {}

    def add(self, parts: Iterable[CallPart]) -> None:
        """Take up what a chunk brought."""
        for part in parts:
            latest = self._calls[-1] if self._calls else None
            known = latest if part.index is None else self._at.get(part.index)
            if known is None or (part.id and part.id != known[0].id) or (part.index is None and part.name):
                known = []
                self._calls.append(known)
                if part.index is not None:
                    self._at[part.index] = known
            known.append(part)

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls, in the order in which they began; one that came without an id is given one."""
        return tuple(_joined(parts) for parts in self._calls)

    def text(self) -> str:
        """What the model has written of them."""
        return "".join(part.name + part.arguments for parts in self._calls for part in parts)


def _joined(parts: list[CallPart]) -> ToolCall:
    signature = next((part.signature for part in parts if part.signature), None)
    return ToolCall(
        parts[0].id or MADE_ID + secrets.token_hex(8),
        "".join(part.name for part in parts),
        "".join(part.arguments for part in parts),
        signature,
    )
