"""How much of an answer was told: the pieces of its text, and between them what is no text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..llm.types import Source
from .events import Delta, Event, ToolCalled, ToolReturned

__all__ = ["Replayer", "Transcript"]

_Other = Source | ToolCalled | ToolReturned
_KINDS: dict[str, type[_Other]] = {
    "source": Source,
    "tool_call": ToolCalled,
    "tool_result": ToolReturned,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PLACE = 50
"""Bytes of what is stored of such an event beside its JSON, about."""


@dataclass(slots=True)
class Transcript:
    """What was told of a running answer, in order."""

    size: int = 0
    """Bytes that all of it takes in a document, about."""

    _texts: list[str] = field(default_factory=list)
    _others: list[tuple[int, _Other, str]] = field(default_factory=list)
    _characters: int = 0

    def text(self, piece: str) -> str:
        """A piece of the text was told."""
        self._texts.append(piece)
        self._characters += len(piece)
        self.size += len(piece) if piece.isascii() else len(piece.encode("utf-8", "replace"))
        return piece

    def other(self, event: _Other) -> _Other:
        """Something else was told, at this place in the text."""
        # What is no text goes in as JSON, since Firestore has no lists within lists.
        told = json.dumps(asdict(event))
        self._others.append((self._characters, event, told))
        self.size += len(told) + _PLACE
        return event

    def __len__(self) -> int:
        return len(self._texts) + len(self._others)

    @property
    def whole(self) -> str:
        """All of the text."""
        return "".join(self._texts)

    def sources(self) -> list[Source]:
        """What the answer rests on."""
        return [event for _, event, _ in self._others if isinstance(event, Source)]

    def partial(self) -> tuple[dict[str, Any], int]:
        """The same as a document has it, and how many pieces it is; from any thread, while more is said."""
        # In this order, so that no place lies behind the end of the text.
        others = list(self._others)
        texts = list(self._texts)
        told = [{"at": at, "kind": _NAMES[type(event)], "json": said} for at, event, said in others]
        return {"text": "".join(texts), "others": told}, len(others) + len(texts)


@dataclass(slots=True)
class Replayer:
    """What a follower was told of somebody else's answer."""

    _characters: int = 0
    _told: list[_Other] = field(default_factory=list)

    def more(self, partial: Mapping[str, Any]) -> Iterator[Event]:
        """The events that lead from what was told before to ``partial``, as :class:`Transcript` has made it."""
        text: str = partial.get("text", "")
        for other in partial.get("others", [])[len(self._told) :]:
            yield from self._up_to(text[: other["at"]])
            yield from self._other(_KINDS[other["kind"]](**json.loads(other["json"])))
        yield from self._up_to(text)

    def rest(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """The events that lead on to a stored ``answer``, which no longer says where in its text the others were."""
        found: list[_Other] = [Source(**source) for source in answer.get("sources", [])]
        for use in answer.get("tools", []):
            found.append(ToolCalled(use["id"], use["name"], use["input"]))
            found.append(ToolReturned(use["id"], use["name"], use["output"], use["error"]))
        for event in found:
            if event not in self._told:
                yield from self._other(event)
        yield from self._up_to(answer.get("text", ""))

    def _other(self, event: _Other) -> Iterator[Event]:
        self._told.append(event)
        yield event

    def _up_to(self, text: str) -> Iterator[Event]:
        piece = text[self._characters :]
        if piece:
            self._characters += len(piece)
            yield Delta(piece)
