"""Serve Claude's Messages API on a real socket, by key and on Vertex AI's paths, and refuse what Anthropic refuses.

The rules are those of https://platform.claude.com/docs/en/api/messages and of the pages on thinking, tool use, prompt
caching and structured outputs, as of 2026-11; :mod:`.claude_rules` has them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .claude_rules import ClaudeRefusal, check_request, signed
from .http import HttpAnswer, JsonServer

__all__ = ["ClaudeReply", "ClaudeServer", "encoded_events"]

_VERTEX = re.compile(
    r"v1/projects/[^/]+/locations/[^/]+/publishers/anthropic/models/(?P<model>claude-[a-z0-9@-]+):"
    r"(?P<method>rawPredict|streamRawPredict)"
)


@dataclass(frozen=True, slots=True)
class ClaudeReply:
    """An answer.

    Args:
        words: the text, in the pieces that a stream sends.
        thoughts: the thoughts before the text, which are signed.
        redacted: thoughts that nobody may read, before the text.
        usage: (input, cache read, cache written, output, thinking) tokens. Input is without the next two, output with
            the last.
        calls: (name, arguments) of the tools that the model calls after the text.
        finish: the reason why the answer ended; with calls it is "tool_use".
        cut: whether the connection ends before the last events.
        error: the type of an error that comes in place of the last events, such as "overloaded_error".
        pause: seconds between two events of a stream.
        padded: whether events have filler of spaces, as Anthropic's have.
    """

    words: Sequence[str] = ("Hello", " from", " Claude.")
    thoughts: str = ""
    redacted: str = ""
    usage: tuple[int, int, int, int, int] = (10, 0, 0, 4, 0)
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    finish: str = "end_turn"
    cut: bool = False
    error: str | None = None
    pause: float = 0.0
    padded: bool = True


class ClaudeServer(JsonServer):
    """A server that answers with ``replies`` in order, and then with ``default``.

    Attributes:
        structured: whether schemas may be enforced; an organization's policy forbids it on Vertex AI by default.
    """

    def __init__(self, default: ClaudeReply = ClaudeReply()) -> None:
        super().__init__()
        self.default = default
        self.replies: list[ClaudeReply] = []
        self.structured = True

    def answer(self, path: str, body: Any) -> Any:
        """Return the next reply, after the checks that Anthropic makes."""
        body = dict(body)
        try:
            model = self._model(path, body)
            check_request(model, body, structured=self.structured)
        except ClaudeRefusal as refusal:
            return _error(refusal.status, refusal.kind, str(refusal))
        reply = self.replies.pop(0) if self.replies else self.default
        if not body.get("stream"):
            return _whole(model, reply)
        return _stream(model, reply)

    def _model(self, path: str, body: Any) -> str:
        headers = self.headers[-1]
        if path == "v1/messages":
            if not headers.get("x-api-key"):
                raise ClaudeRefusal("x-api-key header is required", 401, "authentication_error")
            if headers.get("anthropic-version") != "2023-06-01":
                raise ClaudeRefusal("anthropic-version: header is required")
            return str(body.pop("model", "")) or _fail("model: Field required")
        vertex = _VERTEX.fullmatch(path)
        if vertex is None:
            raise ClaudeRefusal("Not found", 404, "not_found_error")
        if not headers.get("authorization", "").startswith("Bearer "):
            raise ClaudeRefusal("Request is missing required authentication credential.", 401, "authentication_error")
        if body.pop("anthropic_version", None) != "vertex-2023-10-16":
            raise ClaudeRefusal("anthropic_version: Field required")
        if (vertex["method"] == "streamRawPredict") != bool(body.get("stream")):
            raise ClaudeRefusal("stream: the method and the body do not agree")
        return vertex["model"]


def _fail(message: str) -> str:
    raise ClaudeRefusal(message)


def _error(status: int, kind: str, message: str) -> HttpAnswer:
    return HttpAnswer(status, _error_object(kind, message))


def _error_object(kind: str, message: str = "scripted") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _blocks(model: str, reply: ClaudeReply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.thoughts:
        blocks.append({"type": "thinking", "thinking": reply.thoughts, "signature": signed(model, reply.thoughts)})
    if reply.redacted:
        blocks.append({"type": "redacted_thinking", "data": signed(model, reply.redacted)})
    if reply.words:
        blocks.append({"type": "text", "text": "".join(reply.words)})
    for number, (name, arguments) in enumerate(reply.calls):
        blocks.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": dict(arguments)})
    return blocks


def _usage(reply: ClaudeReply) -> dict[str, Any]:
    asked, read, written, said, thought = reply.usage
    usage: dict[str, Any] = {
        "input_tokens": asked,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": said,
        "service_tier": "standard",
    }
    return usage | ({"output_tokens_details": {"thinking_tokens": thought}} if thought else {})


def _message(model: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _finish(reply: ClaudeReply) -> str:
    return "tool_use" if reply.calls and reply.finish == "end_turn" else reply.finish


def _whole(model: str, reply: ClaudeReply) -> HttpAnswer:
    if reply.error is not None:
        return _error(529 if reply.error == "overloaded_error" else 500, reply.error, "scripted")
    if reply.cut:
        return HttpAnswer(0, None)
    whole = {"content": _blocks(model, reply), "stop_reason": _finish(reply), "usage": _usage(reply)}
    time.sleep(reply.pause)
    return HttpAnswer(200, _message(model) | whole)


def encoded_events(model: str, reply: ClaudeReply) -> list[bytes]:
    """Return the events of a stream as they are sent, ``message_delta`` and ``message_stop`` last."""
    events = list(_events(model, reply))
    if reply.cut or reply.error is not None:
        del events[-2:]
    if reply.error is not None:
        events.append(_error_object(reply.error))
    return [_encoded(event, number, padded=reply.padded) for number, event in enumerate(events)]


def _stream(model: str, reply: ClaudeReply) -> HttpAnswer:
    sent = encoded_events(model, reply)
    body = _paced(sent, reply.pause) if reply.pause else b"".join(sent)
    return HttpAnswer(200, body, {"Content-Type": "text/event-stream; charset=utf-8"})


def _events(model: str, reply: ClaudeReply) -> Iterator[dict[str, Any]]:
    start = _message(model) | {"content": [], "stop_reason": None, "usage": _usage(reply) | {"output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(_blocks(model, reply)):
        begun, deltas = _pieces(block, reply)
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    # Nothing about the prompt is repeated at the end on some platforms.
    usage = {key: value for key, value in _usage(reply).items() if key.startswith("output")}
    yield {"type": "message_delta", "delta": {"stop_reason": _finish(reply), "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def _pieces(block: Mapping[str, Any], reply: ClaudeReply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block as it begins in a stream, and the deltas that complete it."""
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in reply.words]
    if block["type"] == "thinking":
        words = re.findall(r"\S*\s*", block["thinking"])
        deltas = [{"type": "thinking_delta", "thinking": word} for word in words if word]
        return {"type": "thinking", "thinking": "", "signature": ""}, [
            *deltas,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if block["type"] == "tool_use":
        arguments = json.dumps(block["input"]) if block["input"] else ""
        pieces = ["", *(arguments[start : start + 5] for start in range(0, len(arguments), 5))]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return dict(block), []


def _encoded(event: Mapping[str, Any], number: int, *, padded: bool) -> bytes:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    filler = " " * (number * 7 % 15) if padded else ""
    return f"event: {event['type']}\ndata: {data[:-1]}{filler}}}\n\n".encode()


def _paced(pieces: list[bytes], pause: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(pause)
