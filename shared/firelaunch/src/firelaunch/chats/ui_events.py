"""Encode an answer's events as the AI SDK's UI message stream, version 1, for ``useChat`` of versions 5, 6 and 7.

Only parts that version 5 knows are sent, except for approvals of tool calls, which began with version 6. A reader
rejects a part of an unknown type, and a delta of a text that was not started.
https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol#data-stream-protocol describes the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..llm.client_connection import ClientConnection
from ..llm.types import Source
from .events import (
    STILL_HERE,
    Delta,
    Done,
    Event,
    Failed,
    Heartbeat,
    Paused,
    Start,
    Thought,
    ToolAsked,
    ToolCalled,
    ToolReturned,
    close,
    encode,
    quoted,
)

__all__ = ["UI_HEADERS", "ui_message", "ui_stream"]

UI_HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
"""The response headers that tell a reader the version of the protocol."""

_OURS = {"providerExecuted": True}
"""Marks a tool as run by the service. Without the mark, the client would be asked for the tool's result."""


def ui_stream(events: Iterable[Event | Paused], client: ClientConnection | None = None) -> Iterator[bytes | Paused]:
    """Encode the events as they come, then the end mark. Closing the iterator closes ``events``.

    Args:
        client: the client's connection, if the server knows it.
    """
    parts = _Parts()
    if client is not None:
        client.encode = parts.text
    try:
        for event in events:
            if isinstance(event, Paused):
                yield event
            elif isinstance(event, Heartbeat):
                yield STILL_HERE
            else:
                yield parts.encode(event)
        yield b"data: [DONE]\n\n"
    finally:
        close(events)


def ui_message(view: Mapping[str, Any], chat_id: str, group: str | None = None) -> dict[str, Any]:
    """Return a message as ``useChat`` keeps it, from the view of :func:`.store.message_view`.

    Args:
        group: the group whose chat it is.

    A stored answer does not say where in its text the model thought or called its tools, so these parts come first.
    """
    message: dict[str, Any] = {"id": view["id"], "role": view["role"]}
    text = [{"type": "text", "text": view["text"]}] if view["text"] else []
    if view["role"] == "user":
        files = [_file(each, chat_id, group) for each in view.get("files", ())]
        writer = {name: view[name] for name in ("written_by", "author") if name in view}
        return {**message, "parts": [*files, *text], "metadata": {"created_at": view["created_at"], **writer}}
    tools = [_stored_tool(use) for use in view.get("tools", ())]
    sources = [_source(Source(**source)) for source in view.get("sources", ())]
    thoughts = [{"type": "reasoning", "text": view["thinking"]}] if view.get("thinking") else []
    names = ("request_id", "status", "finish", "created_at", "usage", "citations")
    metadata = {name: view[name] for name in names} | _rating(view)
    parts = [{"type": "step-start"}, *thoughts, *tools, *text, *sources]
    return {**message, "parts": parts, "metadata": metadata}


def _rating(view: Mapping[str, Any]) -> dict[str, Any]:
    return {"rating": view["rating"]} if "rating" in view else {}


def _file(file: Mapping[str, Any], chat_id: str, group: str | None) -> dict[str, Any]:
    url = f"/v1/chats/{chat_id}/files/{file['id']}" + ("" if group is None else f"?group={group}")
    return {"type": "file", "mediaType": file["media_type"], "filename": file["name"], "url": url}


def _stored_tool(use: Mapping[str, Any]) -> dict[str, Any]:
    part = {"type": f"tool-{use['name']}", "toolCallId": use["id"], "input": use["input"], **_OURS}
    if use["approve_until"] is not None:
        return {**part, "state": "approval-requested", "approval": {"id": use["id"]}}
    match use["error"]:
        case None:
            return {**part, "state": "output-available", "output": use["output"]}
        case "denied":
            return {**part, "state": "output-denied", "approval": {"id": use["id"], "approved": False}}
        case error:
            return {**part, "state": "output-error", "errorText": error}


class _Parts:
    """Encodes events as parts. It keeps track of the text, or the thinking, that is open."""

    def __init__(self) -> None:
        self._begun = {"text": 0, "reasoning": 0}
        self._kind = self._id = ""

    def text(self, text: str) -> bytes:
        """Return the bytes of a piece of text."""
        if self._kind != "text":
            return self.encode(Delta(text))
        return b'data: {"type": "text-delta", "id": "%b", "delta": %b}\n\n' % (self._id.encode(), quoted(text))

    def encode(self, event: Event) -> bytes:
        """Return the bytes of an event's parts."""
        return b"".join([b"data: %b\n\n" % encode(part) for part in self.of(event)])

    def of(self, event: Event) -> list[dict[str, Any]]:
        """Return an event's parts."""
        match event:
            case Delta(text):
                return [*self._begin("text"), {"type": "text-delta", "id": self._id, "delta": text}]
            case Thought(text):
                return [*self._begin("reasoning"), {"type": "reasoning-delta", "id": self._id, "delta": text}]
            case Start(request_id, chat_id, user_message, message_id):
                metadata = {"request_id": request_id, "chat_id": chat_id, "user_message_id": user_message["id"]}
                start = {"type": "start", "messageId": message_id, "messageMetadata": metadata}
                return [start, {"type": "start-step"}]
            case Source():
                return [*self._end(), _source(event)]
            case ToolCalled() | ToolAsked() | ToolReturned():
                return [*self._end(), *_tool(event)]
            case Done(message, usage):
                return [*self._end(), {"type": "finish-step"}, *_finish(message, usage)]
            case Failed(error, request_id):
                code, text = error.for_client
                details: dict[str, Any] = {"code": code, "message": text, "request_id": request_id}
                if error.retry_after is not None:
                    details["retry_after"] = error.retry_after
                return [
                    *self._end(),
                    {
                        "type": "message-metadata",
                        "messageMetadata": {"status": "incomplete", "finish": "error", "error": details},
                    },
                    {"type": "error", "errorText": text},
                ]
        return []

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        if self._kind == kind:
            return []
        ended = self._end()
        self._begun[kind] += 1
        self._kind, self._id = kind, f"{kind}-{self._begun[kind]}"
        return [*ended, {"type": f"{kind}-start", "id": self._id}]

    def _end(self) -> list[dict[str, Any]]:
        kind, self._kind = self._kind, ""
        return [{"type": f"{kind}-end", "id": self._id}] if kind else []


def _tool(event: ToolCalled | ToolAsked | ToolReturned) -> list[dict[str, Any]]:
    match event:
        case ToolCalled(call_id, name, arguments):
            call = {"toolCallId": call_id, "toolName": name, **_OURS}
            return [{"type": "tool-input-start", **call}, {"type": "tool-input-available", **call, "input": arguments}]
        case ToolAsked(call_id, _):
            # A call waits once at most, so its id serves as the approval's.
            return [{"type": "tool-approval-request", "approvalId": call_id, "toolCallId": call_id}]
        case ToolReturned(call_id, _, output, None):
            return [{"type": "tool-output-available", "toolCallId": call_id, "output": output, **_OURS}]
        case ToolReturned(call_id, _, _, "denied"):
            return [{"type": "tool-output-denied", "toolCallId": call_id}]
        case ToolReturned(call_id, _, _, failure):
            return [{"type": "tool-output-error", "toolCallId": call_id, "errorText": failure, **_OURS}]


def _source(source: Source) -> dict[str, Any]:
    part = {"sourceId": source.id, "title": source.title}
    if source.url is not None:
        return {"type": "source-url", "url": source.url, **part}
    document = {"type": "source-document", "mediaType": source.media_type, **part}
    return document if source.filename is None else {**document, "filename": source.filename}


def _finish(message: dict[str, Any], usage: dict[str, Any]) -> list[dict[str, Any]]:
    finish = message["finish"]
    metadata = {"status": message["status"], "finish": finish, "created_at": message["created_at"], "usage": usage}
    metadata |= {"citations": message["citations"]} | _rating(message)
    if finish is not None:
        return [{"type": "finish", "finishReason": finish.replace("_", "-"), "messageMetadata": metadata}]
    return [{"type": "message-metadata", "messageMetadata": metadata}, {"type": "abort"}]
