"""What happens in one answer, as a short list of events; and their encoding as server-sent events of our own.

:mod:`.ui_stream` has the encoding that the AI SDK's ``useChat`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .errors import FirelaunchError
from .llm.base import Source

__all__ = [
    "HEARTBEAT",
    "Delta",
    "Done",
    "Event",
    "Failed",
    "Heartbeat",
    "Source",
    "Start",
    "ToolCalled",
    "ToolReturned",
    "closing",
    "sse",
]

HEARTBEAT = b": still here\n\n"
"""A comment, which every reader of server-sent events skips."""


@dataclass(frozen=True, slots=True)
class Start:
    """The user's message is stored and the model is about to be called. The answer will be ``message_id``."""

    request_id: str
    chat_id: str
    user_message: dict[str, Any]
    message_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asks for a tool. ``input`` is what it passes, as JSON; None where the app does not show it."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool that was called has ended: with ``output``, as JSON, or with ``error``, a constant such as "timeout"."""

    id: str
    name: str
    output: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is stored and its use is settled."""

    message: dict[str, Any]
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer broke off. What was said so far is kept; nothing follows."""

    error: FirelaunchError
    request_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing was said for a while; whatever lies between client and service is shown that the stream lives."""


Event = Start | Delta | Source | ToolCalled | ToolReturned | Heartbeat | Done | Failed


def sse(events: Iterable[Event]) -> Iterator[bytes]:
    """Server-sent events: ``start``; ``delta``, ``source``, ``tool_call``, ``tool_result``; ``done`` or ``error``.

    Each has JSON ``data``. Closing the iterator closes ``events``.
    """
    return closing(events, map(_frame, events))


def closing(events: Iterable[Event], frames: Iterable[bytes]) -> Iterator[bytes]:
    """``frames``, made of ``events``, which are closed when this iterator is."""
    try:
        yield from frames
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()


def _frame(event: Event) -> bytes:
    name: str
    data: dict[str, Any]
    match event:
        case Delta(text):
            name, data = "delta", {"text": text}
        case ToolCalled(call_id, tool, given):
            name, data = "tool_call", {"id": call_id, "name": tool, "input": given}
        case ToolReturned(call_id, tool, output, failure):
            name, data = "tool_result", {"id": call_id, "name": tool, "output": output, "error": failure}
        case Heartbeat():
            return HEARTBEAT
        case Source():
            name, data = "source", event.view()
        case Start():
            name, data = "start", asdict(event)
        case Done(message, usage):
            name, data = "done", {"message": message, "usage": usage}
        case Failed(error, request_id):
            code, said = error.told
            name, data = "error", {"error": {"code": code, "message": said, "request_id": request_id}}
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")
