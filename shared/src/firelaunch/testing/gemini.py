"""Gemini on Vertex AI as a server on a real socket: it streams as Google does, and refuses what Google refuses.

Each request is parsed into Google's own message, which refuses what it does not know; the rest is checked here. Needs
google-cloud-aiplatform.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .http import Answer, JsonServer, Refused, parsed

__all__ = ["GeminiReply", "GeminiServer"]

_PATH = re.compile(
    r"v1/projects/[^/]+/locations/[^/]+/publishers/google/models/([a-z0-9.-]+):"
    r"(generateContent|streamGenerateContent\?alt=sse)"
)
_SIGNATURE = base64.b64encode(b"why I called").decode()


@dataclass(frozen=True, slots=True)
class GeminiReply:
    """An answer.

    Args:
        words: the text, in the pieces that a stream sends.
        thoughts: what it thinks aloud before.
        usage: (prompt, cached, candidates, thoughts) tokens.
        calls: (name, arguments) of the functions that it calls after the text.
        finish: Google's word for why it ended; blocked: for why it did not begin.
        cut: whether the connection ends before the last event.
        error: an error's code that comes in place of the last event.
    """

    words: Sequence[str] = ("Hello", " from", " Gemini.")
    thoughts: str = ""
    usage: tuple[int, int, int, int] = (10, 0, 4, 0)
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    finish: str = "STOP"
    blocked: str | None = None
    cut: bool = False
    error: int | None = None


class GeminiServer(JsonServer):
    """Answers with ``replies``, first come first served, and then with ``default``."""

    def __init__(self, default: GeminiReply = GeminiReply()) -> None:
        super().__init__()
        self.default = default
        self.replies: list[GeminiReply] = []

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`.http.JsonServer`."""
        from google.cloud.aiplatform_v1.types import GenerateContentRequest

        found = _PATH.fullmatch(path)
        if found is None:
            raise Refused(404, f"{path} is not found.", "NOT_FOUND")
        if not self.headers[-1].get("authorization", "").startswith("Bearer "):
            raise Refused(401, "Request is missing required authentication credential.", "UNAUTHENTICATED")
        _check(parsed(GenerateContentRequest, body), body, found[1])
        reply = self.replies.pop(0) if self.replies else self.default
        events = list(_events(reply, found[1]))
        if found[2] == "generateContent":
            return _joined(events)
        return _stream(reply, events)


def _check(request: Any, body: Mapping[str, Any], model: str) -> None:
    if not request.contents:
        raise Refused(400, "at least one contents field is required")
    called: list[str] = []
    for content in request.contents:
        if not content.parts or any(part.WhichOneof("data") == "text" and not part.text for part in content.parts):
            raise Refused(400, "Unable to submit request because it must have a text parameter.")
        answered = [part.function_response.name for part in content.parts if part.function_response.name]
        if len(answered) != len(called):
            raise Refused(400, "the number of function response parts must equal that of function call parts")
        called = [part.function_call.name for part in content.parts if part.function_call.name]
        signed = [bool(part.thought_signature) for part in content.parts if part.function_call.name]
        if called and model.startswith("gemini-3") and not signed[0]:
            raise Refused(400, "Function call is missing a thought_signature in functionCall parts.")
    if called:
        raise Refused(400, "function call turns come before a function response turn")
    config = body.get("generationConfig", {})
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        raise Refused(400, "response_mime_type must be application/json with a response schema")
    if not 1 <= config.get("maxOutputTokens", 1) <= 65_536:
        raise Refused(400, "max_output_tokens must be from 1 to 65536")


def _events(reply: GeminiReply, model: str) -> Iterator[dict[str, Any]]:
    asked, cached, said, thought = reply.usage
    if reply.blocked:
        yield {"promptFeedback": {"blockReason": reply.blocked}, "usageMetadata": {"promptTokenCount": asked}}
        return
    parts: list[dict[str, Any]] = [{"text": reply.thoughts, "thought": True}] if reply.thoughts else []
    parts += [{"text": word} for word in reply.words]
    for number, (name, arguments) in enumerate(reply.calls):
        part: dict[str, Any] = {"functionCall": {"name": name, "args": arguments}}
        # Of calls side by side the first alone is signed.
        parts.append(part | ({"thoughtSignature": _SIGNATURE} if number == 0 and model.startswith("gemini-3") else {}))
    for part in parts:
        content = {"role": "model", "parts": [part]}
        yield {"candidates": [{"content": content}], "usageMetadata": {"trafficType": "ON_DEMAND"}}
    usage = {"promptTokenCount": asked, "candidatesTokenCount": said, "totalTokenCount": asked + said + thought}
    usage |= {"cachedContentTokenCount": cached} if cached else {}
    usage |= {"thoughtsTokenCount": thought} if thought else {}
    yield {"candidates": [{"finishReason": reply.finish}], "usageMetadata": usage, "modelVersion": model}


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    whole = dict(events[-1])
    if "candidates" in whole:
        parts = [part for event in events[:-1] for part in event["candidates"][0]["content"]["parts"]]
        whole["candidates"] = [whole["candidates"][0] | {"content": {"role": "model", "parts": parts}}]
    return whole


def _stream(reply: GeminiReply, events: list[dict[str, Any]]) -> Answer:
    if reply.cut:
        events.pop()
    if reply.error is not None:
        events[-1] = {"error": {"code": reply.error, "message": "scripted", "status": "UNAVAILABLE"}}
    sent = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n" for event in events)
    return Answer(200, sent, {"Content-Type": "text/event-stream"})
