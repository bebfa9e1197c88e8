"""What happens in one answer, as a short list of events; and their encodings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .errors import FirelaunchError

__all__ = ["STILL_HERE", "Delta", "Done", "Event", "Failed", "Heartbeat", "Paused", "Start", "sse"]


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


class Paused(Enum):
    """No event, but a word to the server: that the stream waits for its model, or that it is about to do more."""

    WAITING = 1
    LEAVING = 2


_ENCODER = json.JSONEncoder(ensure_ascii=False)
"""Made once: ``json.dumps`` with an option makes one for each call."""

Event = Start | Delta | Heartbeat | Done | Failed

STILL_HERE = b": still here\n\n"
"""A comment, which readers of server-sent events pass over."""


def sse(events: Iterable[Event | Paused]) -> Iterator[bytes | Paused]:
    """Server-sent events: ``start``, any number of ``delta``, then ``done`` or ``error``; each with JSON ``data``.

    Closing the iterator closes ``events``.
    """
    try:
        for event in events:
            yield event if isinstance(event, Paused) else _frame(event)
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()


def _frame(event: Event) -> bytes:
    name: str
    data: dict[str, Any]
    match event:
        case Delta(text):
            return b'event: delta\ndata: {"text": %b}\n\n' % _encode(text)
        case Heartbeat():
            return STILL_HERE
        case Start(request_id, chat_id, user_message):
            name, data = "start", {"request_id": request_id, "chat_id": chat_id, "user_message": user_message}
        case Done(message, usage):
            name, data = "done", {"message": message, "usage": usage}
        case Failed(error, request_id):
            code, said = error.told
            name, data = "error", {"error": {"code": code, "message": said, "request_id": request_id}}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))


def _encode(data: Any) -> bytes:
    return _ENCODER.encode(data).encode("utf-8", "replace")
