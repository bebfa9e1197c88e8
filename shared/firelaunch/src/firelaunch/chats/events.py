"""What happens in one answer, as a short list of events; and their encoding as server-sent events of our own.

:mod:`firelaunch.chats.ui_events` has the encoding that the AI SDK's ``useChat`` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from json.encoder import encode_basestring
from typing import Any

from ..errors import FirelaunchError
from ..llm.client_connection import ClientConnection
from ..llm.types import Source

__all__ = [
    "STILL_HERE",
    "Delta",
    "Done",
    "Event",
    "Failed",
    "Heartbeat",
    "Paused",
    "Source",
    "Start",
    "ToolCalled",
    "ToolReturned",
    "close",
    "encode",
    "quoted",
    "sse",
]


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


class Paused(Enum):
    """No event, but a word to the server: that the stream waits for its model, or that it is about to do more."""

    WAITING = 1
    LEAVING = 2


_ENCODER = json.JSONEncoder(ensure_ascii=False)
"""Made once: ``json.dumps`` with an option makes one for each call."""

Event = Start | Delta | Source | ToolCalled | ToolReturned | Heartbeat | Done | Failed

STILL_HERE = b": still here\n\n"
"""A comment, which readers of server-sent events pass over."""


def sse(events: Iterable[Event | Paused], client: ClientConnection | None = None) -> Iterator[bytes | Paused]:
    """Server-sent events: ``start``; ``delta``, ``source``, ``tool_call``, ``tool_result``; ``done`` or ``error``.

    Each has JSON ``data``. Closing the iterator closes ``events``.

    Args:
        client: whoever reads them, where the server knows them.
    """
    if client is not None:
        client.encode = _delta
    try:
        for event in events:
            yield event if isinstance(event, Paused) else _frame(event)
    finally:
        close(events)


def close(events: object) -> None:
    """Close what may be a generator."""
    end = getattr(events, "close", None)
    if end is not None:
        end()


def _frame(event: Event) -> bytes:
    name: str
    data: dict[str, Any]
    match event:
        case Delta(text):
            return _delta(text)
        case ToolCalled(call_id, tool, given):
            name, data = "tool_call", {"id": call_id, "name": tool, "input": given}
        case ToolReturned(call_id, tool, output, failure):
            name, data = "tool_result", {"id": call_id, "name": tool, "output": output, "error": failure}
        case Heartbeat():
            return STILL_HERE
        case Source():
            name, data = "source", event.view()
        case Start(request_id, chat_id, user_message, message_id):
            name, data = "start", {"request_id": request_id, "chat_id": chat_id, "user_message": user_message}
            data["message_id"] = message_id
        case Done(message, usage):
            name, data = "done", {"message": message, "usage": usage}
        case Failed(error, request_id):
            code, said = error.told
            name, data = "error", {"error": {"code": code, "message": said, "request_id": request_id}}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


def _delta(text: str) -> bytes:
    return b'event: delta\ndata: {"text": %b}\n\n' % quoted(text)


def quoted(text: str) -> bytes:
    """A string as JSON in UTF-8."""
    return encode_basestring(text).encode("utf-8", "replace")


def encode(data: Any) -> bytes:
    """JSON in UTF-8."""
    return _ENCODER.encode(data).encode("utf-8", "replace")
