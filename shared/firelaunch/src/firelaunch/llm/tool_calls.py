"""Assemble tool calls from the pieces of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic_core import from_json

from .types import MADE_ID, CallPart, ToolCall

__all__ = ["CallAssembler"]


@dataclass(slots=True)
class _Call:
    """A call that is being assembled."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    signature: str | None = None

    def add(self, part: CallPart) -> None:
        self.id = self.id or part.id
        # A name comes once, in pieces (some Geminis), or again with every piece (MiniMax at NVIDIA, older LM Studio).
        if part.name.startswith(self.name):
            self.name = part.name
        elif part.name != self.name:
            self.name += part.name
        self.arguments.append(part.arguments)
        self.signature = self.signature or part.signature

    def ends_before(self, part: CallPart) -> bool:
        """Return whether ``part`` begins another call, though it has this one's number, or none."""
        other_id = bool(part.id and self.id and part.id != self.id)
        if not part.name:
            return other_id and part.index is None
        written = "".join(self.arguments)
        if part.name == self.name or not self.name:
            # The name is only said again, unless arguments begin once more after complete ones.
            return bool(part.arguments) and bool(written) and _is_object(written)
        return other_id or (part.index is None or bool(written))

    def repeats(self, part: CallPart) -> bool:
        """Return whether ``part`` is this whole call once more, as some servers send it at the end."""
        call = (self.id, self.name, "".join(self.arguments))
        return all(call[:2]) and (part.id, part.name, part.arguments) == call and _is_object(part.arguments)


class CallAssembler:
    """The tool calls of one answer, assembled from their pieces.

    OpenAI numbers the calls and names each in its first piece only. Other servers number all of them 0 or none, send
    each call whole, repeat names or ids in each piece, or give all calls the same id or none.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}

    def add(self, parts: Iterable[CallPart]) -> None:
        """Add the pieces of a chunk."""
        for part in parts:
            call = self._call_of(part)
            if call is not None and call.repeats(part):
                continue
            if call is None or call.ends_before(part):
                call = _Call()
                self._calls.append(call)
                if part.index is not None:
                    self._at[part.index] = call
            call.add(part)

    def _call_of(self, part: CallPart) -> _Call | None:
        """Return the call that ``part`` probably continues."""
        if part.index is not None:
            return self._at.get(part.index)
        latest = self._calls[-1] if self._calls else None
        if latest is None or not part.id or part.name:
            return latest
        return next((call for call in self._calls if call.id == part.id), latest)

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls in the order in which they began. A call without an id of its own gets one."""
        seen: set[str] = set()
        calls = []
        for call in self._calls:
            call_id = call.id if call.id and call.id not in seen else MADE_ID + secrets.token_hex(8)
            seen.add(call_id)
            calls.append(ToolCall(call_id, call.name, _plain("".join(call.arguments)), call.signature))
        return tuple(calls)

    def text(self) -> str:
        """Return what the model has written of the calls."""
        return "".join(call.name + "".join(call.arguments) for call in self._calls)


def _is_object(arguments: str) -> bool:
    return isinstance(_value(arguments), dict)


def _value(text: str) -> object:
    try:
        return from_json(text)
    except ValueError:
        return None


def _plain(arguments: str) -> str:
    """Return arguments without what servers add to them: a second encoding, or an empty object before them."""
    value = _value(arguments)
    if isinstance(value, str) and _is_object(value):
        return value
    rest = arguments.removeprefix("{}")
    return rest if value is None and rest != arguments and _is_object(rest) else arguments
