"""Serve Gemini of Vertex AI on a real socket: stream as Google does, and refuse what Google refuses.

Each request is parsed into Google's own message, which refuses unknown fields; this module checks the rest. It needs
google-cloud-aiplatform.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .file_rules import file_problem
from .http import HttpAnswer, JsonServer, RequestRefused, parsed

__all__ = ["GeminiReply", "GeminiServer"]

_PATH = re.compile(
    r"v1/projects/[^/]+/locations/(?P<location>[^/]+)/publishers/google/models/(?P<model>[a-z0-9.-]+):"
    r"(?P<method>generateContent|streamGenerateContent\?alt=sse)"
)
_FILES = {
    "image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain", "audio/wav", "audio/mpeg", "audio/mp3",
    "audio/aac", "audio/flac", "audio/ogg",
}  # fmt: skip
"""Types of files (https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/document-understanding, and beside
it image-understanding and audio-understanding)."""

_SIGNATURE = base64.b64encode(b"why I called").decode()


@dataclass(frozen=True, slots=True)
class GeminiReply:
    """An answer.

    Args:
        words: the text, in the pieces that a stream sends.
        thoughts: the thoughts before the text.
        usage: (prompt, cached, candidates, thoughts) tokens.
        calls: (name, arguments) of the functions that the model calls after the text.
        ids: whether the calls have ids, which their results then need too.
        finish: Google's reason why the answer ended; blocked: the reason why it did not begin.
        sources: (title, address) of the pages that the model found on the web, and queries: what it searched for; only
            where the request allows a search.
        audio: how many of the prompt's tokens are recordings, and cached_audio: how many of the cached ones.
        cut: whether the connection ends before the last event.
        error: the code of an error that replaces the last event.
        pause: seconds between two events of a stream.
    """

    words: Sequence[str] = ("Hello", " from", " Gemini.")
    thoughts: str = ""
    usage: tuple[int, int, int, int] = (10, 0, 4, 0)
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    ids: bool = False
    finish: str = "STOP"
    blocked: str | None = None
    cut: bool = False
    error: int | None = None
    pause: float = 0.0
    sources: Sequence[tuple[str, str]] = ()
    queries: Sequence[str] = ()
    audio: int = 0
    cached_audio: int = 0


class GeminiServer(JsonServer):
    """A server that answers with ``replies`` in order, and then with ``default``."""

    def __init__(self, default: GeminiReply = GeminiReply()) -> None:
        super().__init__()
        self.default = default
        self.replies: list[GeminiReply] = []

    def answer(self, path: str, body: Any) -> Any:
        """Return the next reply, after the checks that Google makes."""
        from google.cloud.aiplatform_v1.types import GenerateContentRequest

        target = _PATH.fullmatch(path)
        if target is None:
            raise RequestRefused(404, f"{path} is not found.", "NOT_FOUND")
        model, location = target["model"], target["location"]
        if not _is_there(model, location):
            full_name = f"projects/p/locations/{location}/publishers/google/models/{model}"
            raise RequestRefused(
                404, f"Publisher Model `{full_name}` was not found or your project does not have access.", "NOT_FOUND"
            )
        if not self.headers[-1].get("authorization", "").startswith("Bearer "):
            raise RequestRefused(401, "Request is missing required authentication credential.", "UNAUTHENTICATED")
        _check(parsed(GenerateContentRequest, _known(body)), body, model)
        reply = self.replies.pop(0) if self.replies else self.default
        if not any("googleSearch" in tool for tool in body.get("tools", ())):
            reply = replace(reply, sources=(), queries=())
        events = list(_events(reply, model))
        if target["method"] == "generateContent":
            return _joined(events)
        return _stream(reply, events)


def _check(request: Any, body: Mapping[str, Any], model: str) -> None:
    if not request.contents:
        raise RequestRefused(400, "at least one contents field is required")
    called: list[str] = []
    for content in request.contents:
        if not content.parts or any(part.WhichOneof("data") == "text" and not part.text for part in content.parts):
            raise RequestRefused(400, "Unable to submit request because it must have a text parameter.")
        answered = [part.function_response.name for part in content.parts if part.function_response.name]
        if len(answered) != len(called):
            raise RequestRefused(400, "the number of function response parts must equal that of function call parts")
        called = [part.function_call.name for part in content.parts if part.function_call.name]
        signed = [bool(part.thought_signature) for part in content.parts if part.function_call.name]
        if called and model.startswith("gemini-3") and not signed[0]:
            raise RequestRefused(400, "Function call is missing a thought_signature in functionCall parts.")
    if called:
        raise RequestRefused(400, "function call turns come before a function response turn")
    if _call_ids(body, "functionCall") != _call_ids(body, "functionResponse"):
        raise RequestRefused(400, "the ids of function responses must be those of their function calls")
    if len({kind for tool in body.get("tools", ()) for kind in tool}) > 1:
        raise RequestRefused(400, "Multiple tools are supported only when they are all search tools.")
    _check_files(body)
    _check_config(body.get("generationConfig", {}), model)


def _check_files(body: Mapping[str, Any]) -> None:
    files = [part["inlineData"] for content in body["contents"] for part in content["parts"] if "inlineData" in part]
    for file in files:
        problem = file_problem(file.get("mimeType", ""), file.get("data", ""), _FILES, 50_000_000)
        if problem is not None:
            raise RequestRefused(400, f"Unable to process the inline data: {problem}.")
    if sum(file["mimeType"].startswith("audio/") for file in files) > 1:
        raise RequestRefused(400, "The number of audio files exceeds the limit of 1.")


def _check_config(config: Mapping[str, Any], model: str) -> None:
    _check_thinking(config.get("thinkingConfig", {}), model)
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        raise RequestRefused(400, "response_mime_type must be application/json with a response schema")
    if not 1 <= config.get("maxOutputTokens", 1) <= 65_536:
        raise RequestRefused(400, "max_output_tokens must be from 1 to 65536")


def _is_there(model: str, location: str) -> bool:
    """Return whether a location has the model. "us" and "eu" have Gemini 3 and later only, "global" has all models."""
    newer = re.match(r"gemini-(?:[3-9]|\d\d)", model) is not None
    return location == "global" or (location in {"us", "eu"}) is newer


def _known(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``body`` without the fields that are newer than Google's published message."""
    text = json.dumps(body)
    known_fields: dict[str, Any] = json.loads(text)
    known_fields.get("generationConfig", {}).pop("thinkingConfig", None)
    for content in known_fields.get("contents", []):
        for part in content["parts"]:
            for kind in ("functionCall", "functionResponse"):
                part.get(kind, {}).pop("id", None)
    return known_fields


def _call_ids(body: Mapping[str, Any], kind: str) -> list[str | None]:
    return [part[kind].get("id") for content in body["contents"] for part in content["parts"] if kind in part]


def _check_thinking(config: Mapping[str, Any], model: str) -> None:
    has_levels = re.match(r"gemini-(?:[3-9]|\d\d)", model) is not None
    if set(config) - {"thinkingLevel", "thinkingBudget", "includeThoughts"} or {
        "thinkingLevel",
        "thinkingBudget",
    } <= set(config):
        raise RequestRefused(400, "thinking_level and thinking_budget cannot be set together")
    if "thinkingLevel" in config and not has_levels:
        raise RequestRefused(400, "thinking_level is not supported by this model.")
    levels = {"LOW", "MEDIUM", "HIGH"} | (set() if model == "gemini-3.8-flash" else {"MINIMAL"})
    if config.get("thinkingLevel", "LOW") not in levels:
        raise RequestRefused(400, f"Thinking level {config['thinkingLevel']} is not supported for this model.")
    if config.get("thinkingBudget") == 0 and "pro" in model:
        raise RequestRefused(400, "Budget 0 is invalid. This model only works in thinking mode.")


def _events(reply: GeminiReply, model: str) -> Iterator[dict[str, Any]]:
    prompt_tokens, cached_tokens, answer_tokens, thought_tokens = reply.usage
    if reply.blocked:
        yield {"promptFeedback": {"blockReason": reply.blocked}, "usageMetadata": {"promptTokenCount": prompt_tokens}}
        return
    parts: list[dict[str, Any]] = [{"text": reply.thoughts, "thought": True}] if reply.thoughts else []
    parts += [{"text": word} for word in reply.words]
    for number, (name, arguments) in enumerate(reply.calls):
        call_id = {"id": f"function-call-{number}"} if reply.ids else {}
        part: dict[str, Any] = {"functionCall": {"name": name, "args": arguments, **call_id}}
        # Of parallel calls only the first is signed.
        parts.append(part | ({"thoughtSignature": _SIGNATURE} if number == 0 and model.startswith("gemini-3") else {}))
    for part in parts:
        content = {"role": "model", "parts": [part]}
        yield {"candidates": [{"content": content}], "usageMetadata": {"trafficType": "ON_DEMAND"}}
    usage: dict[str, Any] = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": answer_tokens,
        "totalTokenCount": prompt_tokens + answer_tokens + thought_tokens,
    }
    usage |= {"cachedContentTokenCount": cached_tokens} if cached_tokens else {}
    usage["promptTokensDetails"] = _by_modality(prompt_tokens, reply.audio)
    usage |= {"cacheTokensDetails": _by_modality(cached_tokens, reply.cached_audio)} if cached_tokens else {}
    usage |= {"thoughtsTokenCount": thought_tokens} if thought_tokens else {}
    last: dict[str, Any] = {"finishReason": reply.finish}
    if reply.queries:
        chunks = [{"web": {"uri": address, "title": title}} for title, address in reply.sources]
        last["groundingMetadata"] = {"webSearchQueries": list(reply.queries), "groundingChunks": chunks}
    yield {"candidates": [last], "usageMetadata": usage, "modelVersion": model}


def _by_modality(tokens: int, audio: int) -> list[dict[str, Any]]:
    counts = {"TEXT": tokens - audio, "AUDIO": audio}
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items() if count]


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    whole = dict(events[-1])
    if "candidates" in whole:
        parts = [part for event in events[:-1] for part in event["candidates"][0]["content"]["parts"]]
        whole["candidates"] = [whole["candidates"][0] | {"content": {"role": "model", "parts": parts}}]
    return whole


def _stream(reply: GeminiReply, events: list[dict[str, Any]]) -> HttpAnswer:
    if reply.cut:
        events.pop()
    if reply.error is not None:
        events[-1] = {"error": {"code": reply.error, "message": "scripted", "status": "UNAVAILABLE"}}
    sent = [b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n" for event in events]
    body = _paced(sent, reply.pause) if reply.pause else b"".join(sent)
    return HttpAnswer(200, body, {"Content-Type": "text/event-stream"})


def _paced(pieces: list[bytes], pause: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(pause)
