"""What happens in one answer, as a short list of events; and their encodings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import FirelaunchError

__all__ = ["Delta", "Done", "Event", "Failed", "Heartbeat", "Start", "sse"]


@dataclass(frozen=True, slots=True)
class Start:
    """The user's message is stored and the model is about to be called."""

    request_id: str
    chat_id: str
    user_message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text."""

    text: str


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


Event = Start | Delta | Heartbeat | Done | Failed


def sse(events: Iterable[Event]) -> Iterator[bytes]:
    """Server-sent events: ``start``, any number of ``delta``, then ``done`` or ``error``; each with JSON ``data``.

    Closing the iterator closes ``events``.
    """
    try:
        for event in events:
            yield _frame(event)
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
        case Heartbeat():
            return b": still here\n\n"
        case Start(request_id, chat_id, user_message):
            name, data = "start", {"request_id": request_id, "chat_id": chat_id, "user_message": user_message}
        case Done(message, usage):
            name, data = "done", {"message": message, "usage": usage}
        case Failed(error, request_id):
            code, said = error.told
            name, data = "error", {"error": {"code": code, "message": said, "request_id": request_id}}
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")
