"""Hold the conversation that the OpenAPI document's examples show."""

from __future__ import annotations

from ..chats.events import Delta, Done, Event, Start, sse
from ..chats.ui_events import ui_stream

__all__ = [
    "CHAT",
    "ORDER",
    "ORDERED",
    "ORDER_SCHEMA",
    "QUESTION",
    "REPLY",
    "REQUEST",
    "STREAM",
    "UI_QUESTION",
    "UI_STREAM",
    "USED",
]

CHAT = {
    "id": "0123456789abcdef0123",
    "title": "Rivers of Europe",
    "archived": False,
    "message_count": 2,
    "created_at": "2026-03-01T09:30:00.000000Z",
    "updated_at": "2026-03-01T09:30:04.000000Z",
}
REQUEST = "r0123456789abcdef0123456789abcdef"
QUESTION = {
    "id": f"{REQUEST}-u",
    "role": "user",
    "text": "Which river is longest?",
    "status": "complete",
    "created_at": "2026-03-01T09:30:00.000000Z",
}
USED = {
    "model": "gpt-5.4-mini",
    "input_tokens": 42,
    "cached_input_tokens": 0,
    "output_tokens": 4,
    "estimated": False,
    "cost_micro_usd": 50,
    "cheaper_model": False,
    "cached": False,
}
REPLY = {
    "id": f"{REQUEST}-a",
    "role": "assistant",
    "text": "The Volga.",
    "status": "complete",
    "finish": "stop",
    "created_at": "2026-03-01T09:30:04.000000Z",
    "model": "gpt-5.4-mini",
    "request_id": REQUEST,
    "citations": [],
    "usage": USED,
}
ORDER = "Please send 12 boxes of tea to Ada by Friday."
ORDERED = {"item": "box of tea", "count": 12}
ORDER_SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["item", "count"],
}
_EVENTS: list[Event] = [
    Start(REQUEST, str(CHAT["id"]), QUESTION, str(REPLY["id"])),
    Delta("The "),
    Delta("Volga."),
    Done(REPLY, USED),
]
STREAM = b"".join(item for item in sse(_EVENTS) if isinstance(item, bytes)).decode()
"""A whole answer as server-sent events."""

UI_STREAM = b"".join(item for item in ui_stream(_EVENTS) if isinstance(item, bytes)).decode()
"""The whole answer as the AI SDK reads it."""

UI_QUESTION = {"id": "msg-1", "role": "user", "parts": [{"type": "text", "text": QUESTION["text"]}]}
