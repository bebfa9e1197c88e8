"""Gemini in its own words: ``streamGenerateContent?alt=sse`` and ``generateContent``, both through the relay.

The fields are those of https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference; docs/adr/0014
says why not the OpenAI-compatible endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from ...errors import ModelUnavailable
from ..base import Call, CallPart, Chunk, Message, Tokens, ToolCall, ToolChunk
from ..relay import relay
from ..transport import Transport

__all__ = ["GeminiProvider"]

_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
"""Google's words for why an answer ended, as OpenAI has them; others go on in lower case."""

_UNSIGNED = "skip_thought_signature_validator"
"""What Gemini 3 takes for a call that another model made (https://ai.google.dev/gemini-api/docs/thought-signatures)."""


class GeminiProvider:
    """Calls ``<base_url>/publishers/google/models/<model>``.

    Args:
        name: what to call the provider in records.
        token: gives an access token for each call.
        base_url: of a project and location, as in ``https://…/v1/projects/p/locations/l``.
    """

    def __init__(self, name: str, token: Callable[[], str], base_url: str) -> None:
        self.name = name
        self._token = token
        self._base_url = base_url

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._base_url)

    def complete(self, call: Call) -> Chunk:
        """See :class:`~firelaunch.llm.base.Provider`."""
        # Of an answer in one piece nothing comes until all of it is there.
        call.patience.first_token = call.patience.left()
        chunks = [chunk for chunk in self._ask(call, "generateContent") if chunk != Chunk()]
        if len(chunks) != 1:
            raise ModelUnavailable(reason="the provider's answer is not in one piece")
        return chunks[0]

    def stream(self, call: Call) -> Iterator[Chunk]:
        """See :class:`~firelaunch.llm.base.Provider`."""
        return self._ask(call, "streamGenerateContent?alt=sse")

    def _ask(self, call: Call, method: str) -> Iterator[Chunk]:
        path = f"/publishers/google/models/{call.model.removeprefix('google/')}:{method}"
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        body = json.dumps(_body(call)).encode()
        return relay(self._transport, path, headers | {"User-Agent": "firelaunch"}, body, call.patience, _event, _whole)


def _body(call: Call) -> dict[str, Any]:
    told = [message["content"] for message in call.messages if message["role"] == "system"]
    config: dict[str, Any] = {"maxOutputTokens": call.max_output_tokens}
    if call.temperature is not None:
        config["temperature"] = call.temperature
    if call.shape is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": call.shape.strict}
    body: dict[str, Any] = {"contents": _contents(call), "generationConfig": config}
    if told:
        body["systemInstruction"] = {"parts": [{"text": text} for text in told if text]}
    if call.tools:
        offered = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
            for tool in call.tools
        ]
        body["tools"] = [{"functionDeclarations": offered}]
        body["toolConfig"] = {"functionCallingConfig": {"mode": "AUTO" if call.may_call else "NONE"}}
    return body


def _contents(call: Call) -> list[dict[str, Any]]:
    """The messages but for the system's. The results of calls that were made together go back together."""
    found: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for message in call.messages:
        if message["role"] == "system":
            continue
        if message["role"] != "tool":
            results = []
            role = "model" if message["role"] == "assistant" else "user"
            found.append({"role": role, "parts": _parts(message, call.model)})
            continue
        if not results:
            found.append({"role": "user", "parts": results})
        answer = {"name": message["name"], "response": {"output": message["content"]}}
        results.append({"functionResponse": answer})
    return found


def _parts(message: Message, model: str) -> list[dict[str, Any]]:
    calls = [_function_call(call) for call in message.get("calls", ())]
    if calls and "thoughtSignature" not in calls[0] and "gemini-3" in model:
        calls[0]["thoughtSignature"] = _UNSIGNED
    # Google takes no empty text, and something must be said.
    return ([{"text": message["content"] or " "}] if message["content"] or not calls else []) + calls


def _function_call(call: ToolCall) -> dict[str, Any]:
    try:
        found = from_json(call.arguments or "{}")
    except ValueError:
        found = {}
    part: dict[str, Any] = {"functionCall": {"name": call.name, "args": found if isinstance(found, dict) else {}}}
    return part | ({"thoughtSignature": call.signature} if call.signature is not None else {})


def _event(event: dict[str, Any]) -> Chunk:
    """A chunk of one event of a stream."""
    candidates = event.get("candidates")
    if not candidates:
        blocked = (event.get("promptFeedback") or {}).get("blockReason")
        return Chunk(tokens=_tokens(event), finish="content_filter" if blocked else None)
    candidate = candidates[0]
    finish = candidate.get("finishReason")
    text, calls = "", []
    for part in (candidate.get("content") or {}).get("parts") or ():
        if "functionCall" in part:
            calls.append(_call_part(part))
        elif not part.get("thought"):
            text += part.get("text", "")
    # Each event counts what there was until then; what counts is the last word.
    tokens = _tokens(event) if finish else None
    return ToolChunk(text, tokens, _finish(finish, calls) if finish else None, parts=tuple(calls))


def _whole(answer: dict[str, Any]) -> Chunk:
    """A chunk of an answer in one piece."""
    chunk = _event(answer)
    if chunk.finish is None:
        raise ModelUnavailable(reason="the provider's answer is no answer of Gemini's")
    return chunk


def _finish(reason: str, calls: list[CallPart]) -> str:
    return "tool_calls" if calls and reason == "STOP" else _FINISH.get(reason, reason.lower())


def _call_part(part: Mapping[str, Any]) -> CallPart:
    call = part["functionCall"]
    arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
    # Google numbers no calls, and each comes whole.
    return CallPart(None, call.get("id", ""), call["name"], arguments, part.get("thoughtSignature"))


def _tokens(event: Mapping[str, Any]) -> Tokens | None:
    """Prompt with what tools added to it; answer with its thoughts, which are billed as output."""
    usage = event.get("usageMetadata")
    if not usage or "promptTokenCount" not in usage:
        return None

    def count(name: str) -> int:
        value = usage.get(name) or 0
        if type(value) is not int or value < 0:
            raise ValueError("a usage's figures are whole numbers")
        return value

    asked = count("promptTokenCount") + count("toolUsePromptTokenCount")
    said = count("candidatesTokenCount") + count("thoughtsTokenCount")
    if count("totalTokenCount"):
        # Some models count the thoughts among the candidates' tokens; the total has them once either way.
        said = max(count("candidatesTokenCount"), count("totalTokenCount") - asked)
    return Tokens(asked, min(count("cachedContentTokenCount"), asked), said)
