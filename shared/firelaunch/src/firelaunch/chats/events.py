"""The events of one answer, and their encoding as firelaunch's own server-sent events.

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
    "Thought",
    "ToolAsked",
    "ToolCalled",
    "ToolReturned",
    "close",
    "encode",
    "quoted",
    "sse",
]


@dataclass(frozen=True, slots=True)
class Start:
    """The user's message is stored, and the model is about to be called. The answer's id will be ``message_id``."""

    request_id: str
    chat_id: str
    user_message: dict[str, Any]
    message_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks, which is no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model calls a tool. ``input`` holds the arguments as JSON; None if the app does not show them."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, slots=True)
class ToolAsked:
    """A tool's call waits for the user's approval, and the answer ends. :class:`ToolCalled` came before."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool's call has ended with ``output`` as JSON, or with ``error``, a constant such as "timeout"."""

    id: str
    name: str
    output: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is stored, and its usage is settled."""

    message: dict[str, Any]
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer broke off. Its text so far is stored, and no event follows."""

    error: FirelaunchError
    request_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign that the stream lives, after a silence, for the client and for proxies on the way."""


class Paused(Enum):
    """A signal to the server, which is no event.

    WAITING: the stream waits for its model. LEAVING: the stream is about to do work other than waiting.
    """

    WAITING = 1
    LEAVING = 2


_ENCODER = json.JSONEncoder(ensure_ascii=False)
"""A shared encoder, because ``json.dumps`` with an option makes a new one for each call."""

Event = Start | Delta | Thought | Source | ToolCalled | ToolAsked | ToolReturned | Heartbeat | Done | Failed

STILL_HERE = b": still here\n\n"
"""A comment, which readers of server-sent events skip."""


def sse(events: Iterable[Event | Paused], client: ClientConnection | None = None) -> Iterator[bytes | Paused]:
    """Encode an answer's events as server-sent events with JSON ``data``.

    They are ``start``, then ``delta``, ``thinking``, ``source``, ``tool_call``, ``tool_approval`` and ``tool_result``,
    then ``done`` or ``error``. Closing the iterator closes ``events``.

    Args:
        client: the client's connection, if the server knows it.
    """
    if client is not None:
        client.encode = _delta
    try:
        for event in events:
            yield event if isinstance(event, Paused) else _frame(event)
    finally:
        close(events)


def close(events: object) -> None:
    """Close ``events`` if it can be closed, as generators can."""
    close_events = getattr(events, "close", None)
    if close_events is not None:
        close_events()


def _frame(event: Event) -> bytes:
    name: str
    data: dict[str, Any]
    match event:
        case Delta(text):
            return _delta(text)
        case Thought(text):
            name, data = "thinking", {"text": text}
        case ToolCalled() | ToolAsked() | ToolReturned():
            name, data = _tool(event)
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
            code, text = error.for_client
            name, data = "error", {"error": {"code": code, "message": text, "request_id": request_id}}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


def _tool(event: ToolCalled | ToolAsked | ToolReturned) -> tuple[str, dict[str, Any]]:
    data: dict[str, Any] = {"id": event.id, "name": event.name}
    match event:
        case ToolCalled():
            return "tool_call", data | {"input": event.input}
        case ToolAsked():
            return "tool_approval", data
        case ToolReturned():
            return "tool_result", data | {"output": event.output, "error": event.error}


def _delta(text: str) -> bytes:
    return b'event: delta\ndata: {"text": %b}\n\n' % quoted(text)


def quoted(text: str) -> bytes:
    """Return a string as JSON in UTF-8."""
    return encode_basestring(text).encode("utf-8", "replace")


def encode(data: Any) -> bytes:
    """Return data as JSON in UTF-8."""
    return _ENCODER.encode(data).encode("utf-8", "replace")
