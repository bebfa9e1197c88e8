"""Record the events that a client got of an answer, and replay them to another client.

A transcript holds the pieces of the text, the events between them (sources and tool calls), and what the model thought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..llm.types import Source
from .events import Delta, Event, Thought, ToolAsked, ToolCalled, ToolReturned

__all__ = ["Replayer", "Transcript"]

_Other = Source | ToolCalled | ToolAsked | ToolReturned
_KINDS: dict[str, type[_Other]] = {
    "source": Source,
    "tool_call": ToolCalled,
    "tool_approval": ToolAsked,
    "tool_result": ToolReturned,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_MOST_THOUGHTS = 50_000
"""The most characters of what a model thinks that are shown and stored."""

_EVENT_OVERHEAD = 50
"""The approximate bytes that such an event takes in a document besides its JSON."""


@dataclass(slots=True)
class Transcript:
    """The events of a running answer so far, in order."""

    size: int = 0
    """The approximate bytes that the transcript takes in a document."""

    _texts: list[str] = field(default_factory=list)
    _others: list[tuple[int, _Other, str]] = field(default_factory=list)
    _characters: int = 0
    _thoughts: list[str] = field(default_factory=list)
    _thought_characters: int = 0

    def thought(self, piece: str) -> str:
        """Add a piece of what the model thinks, and return the part of it to show."""
        piece = piece[: _MOST_THOUGHTS - self._thought_characters]
        if piece:
            self._thoughts.append(piece)
            self._thought_characters += len(piece)
            self.size += len(piece.encode("utf-8", "replace"))
        return piece

    def text(self, piece: str) -> str:
        """Add a piece of the text, and return it."""
        self._texts.append(piece)
        self._characters += len(piece)
        self.size += len(piece) if piece.isascii() else len(piece.encode("utf-8", "replace"))
        return piece

    def other(self, event: _Other) -> _Other:
        """Add another event at the current end of the text, and return it."""
        # Other events are stored as JSON text, because Firestore has no lists within lists.
        encoded = json.dumps(asdict(event))
        self._others.append((self._characters, event, encoded))
        self.size += len(encoded) + _EVENT_OVERHEAD
        return event

    def __len__(self) -> int:
        return len(self._texts) + len(self._others) + len(self._thoughts)

    @property
    def whole(self) -> str:
        """The whole text."""
        return "".join(self._texts)

    @property
    def thinking(self) -> str:
        """All that the model thought."""
        return "".join(self._thoughts)

    def sources(self) -> list[Source]:
        """Return the answer's sources."""
        return [event for _, event, _ in self._others if isinstance(event, Source)]

    def partial(self) -> tuple[dict[str, Any], int]:
        """Return the transcript in the form for a document, and the number of its pieces.

        Any thread may call this while the transcript grows.
        """
        # Copy the other events first. Then no event's position lies beyond the end of the copied text.
        others = list(self._others)
        texts, thoughts = list(self._texts), list(self._thoughts)
        entries = [{"at": at, "kind": _NAMES[type(event)], "json": encoded} for at, event, encoded in others]
        partial = {"text": "".join(texts), "others": entries}
        if thoughts:
            partial["thinking"] = "".join(thoughts)
        return partial, len(others) + len(texts) + len(thoughts)


@dataclass(slots=True)
class Replayer:
    """Turns stored transcripts of an answer into the events that a follower has not got yet.

    What the model thought comes before the rest of the same checkpoint.
    """

    _characters: int = 0
    _thought_characters: int = 0
    _sent: list[_Other] = field(default_factory=list)

    def new_events(self, partial: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events that ``partial``, from :meth:`Transcript.partial`, has in addition to those sent before."""
        text: str = partial.get("text", "")
        yield from self._thought_up_to(partial.get("thinking", ""))
        for other in partial.get("others", [])[len(self._sent) :]:
            yield from self._up_to(text[: other["at"]])
            yield from self._other(_KINDS[other["kind"]](**json.loads(other["json"])))
        yield from self._up_to(text)

    def rest(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a stored ``answer`` that were not sent before.

        A stored answer does not say where in its text the other events were, so they come before the rest of the text.
        """
        yield from self._thought_up_to(answer.get("thinking", ""))
        events: list[_Other] = [Source(**source) for source in answer.get("sources", [])]
        for use in answer.get("tools", []):
            events.append(ToolCalled(use["id"], use["name"], use["input"]))
            waits = use.get("approve_until") is not None
            events.append(
                ToolAsked(use["id"], use["name"])
                if waits
                else ToolReturned(use["id"], use["name"], use["output"], use["error"])
            )
        for event in events:
            if event not in self._sent:
                yield from self._other(event)
        yield from self._up_to(answer.get("text", ""))

    def _other(self, event: _Other) -> Iterator[Event]:
        self._sent.append(event)
        yield event

    def _thought_up_to(self, thinking: str) -> Iterator[Event]:
        piece = thinking[self._thought_characters :]
        if piece:
            self._thought_characters += len(piece)
            yield Thought(piece)

    def _up_to(self, text: str) -> Iterator[Event]:
        piece = text[self._characters :]
        if piece:
            self._characters += len(piece)
            yield Delta(piece)
