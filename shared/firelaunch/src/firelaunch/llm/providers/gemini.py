"""Gemini's own API: ``streamGenerateContent?alt=sse`` and ``generateContent``, both through the relay.

The fields are from https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference; docs/adr/0014
explains why firelaunch does not use the OpenAI-compatible endpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from pydantic_core import from_json

from ...settings.app import SafetyCategory, SafetyThreshold
from ..failures import garbled
from ..fields import figure, items, json_text, table, text, word
from ..finish import Finish, finish_of
from ..parameters import Body, ParameterRefusal, RefusedParameters
from ..thinking import Effort, is_gemini_with_levels, thinks
from ..types import MADE_ID, CallPart, Chunk, Message, ModelCall, Source, TokenCounts, ToolCall, ToolChunk
from ..wire.http import Transport
from ..wire.relay import relay, whole_chunk

__all__ = ["GeminiOptions", "GeminiProvider"]

_TOOL_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}

_COUNTS = (
    "promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount",
    "cachedContentTokenCount",
)  # fmt: skip

_UNSIGNED = "skip_thought_signature_validator"
"""Gemini 3 accepts it for calls that another model made (https://ai.google.dev/gemini-api/docs/thought-signatures)."""


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """The settings that all requests of an app share.

    Attributes:
        safety: the threshold of each category, in the settings' words
            (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/configure-safety-filters).
    """

    safety: Mapping[SafetyCategory, SafetyThreshold] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request's body."""
        if not self.safety:
            return {}
        settings = [
            {"category": f"HARM_CATEGORY_{category.upper()}", "threshold": threshold.upper()}
            for category, threshold in self.safety.items()
        ]
        return {"safetySettings": settings}


class GeminiProvider:
    """Gemini at ``<base_url>/publishers/google/models/<model>``.

    Args:
        name: the provider's name in records.
        token: returns an access token for each call.
        base_url: of a project and location, as in ``https://…/v1/projects/p/locations/l``.
    """

    def __init__(
        self, name: str, token: Callable[[], str], base_url: str, options: GeminiOptions | None = None
    ) -> None:
        self._options = options or GeminiOptions()
        self.name = name
        self._token = token
        self._base_url = base_url
        self._refused = RefusedParameters(_without, _refused_parameter)

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._base_url)

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return whole_chunk(call, self._send(call, "generateContent"))

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._send(call, "streamGenerateContent?alt=sse")

    def _send(self, call: ModelCall, method: str) -> Iterator[Chunk]:
        path = f"/publishers/google/models/{call.model.removeprefix('google/')}:{method}"
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        headers["User-Agent"] = "firelaunch"

        def send(body: Body) -> Iterator[Chunk]:
            return relay(
                self._transport, path, headers, json.dumps(body).encode(), call.deadline, _parse_event, _parse_answer
            )

        return self._refused.send(call.model, _body(call) | self._options.fields(), send)


def _body(call: ModelCall) -> dict[str, Any]:
    system_texts = [message["content"] for message in call.messages if message["role"] == "system"]
    config: dict[str, Any] = {"maxOutputTokens": call.most_tokens}
    thinking = _thinking(call.model, call.effort) if call.effort is not None else {}
    if call.show_thinking and thinks(call.model, call.effort):
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking
    if call.temperature is not None:
        config["temperature"] = call.temperature
    if call.shape is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": call.shape.strict}
    body: dict[str, Any] = {"contents": _contents(call), "generationConfig": config}
    if call.searches:
        body["tools"] = [{"googleSearch": {}}]
    if system_texts:
        body["systemInstruction"] = {"parts": [{"text": text} for text in system_texts if text]}
    if call.tools:
        declarations = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
            for tool in call.tools
        ]
        body["tools"] = [{"functionDeclarations": declarations}]
        body["toolConfig"] = {"functionCallingConfig": {"mode": _TOOL_MODES[call.tool_choice]}}
    return body


def _contents(call: ModelCall) -> list[dict[str, Any]]:
    """Return all messages but the system's. Results of calls that were made together go back together."""
    contents: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for message in call.messages:
        if message["role"] == "system":
            continue
        if message["role"] != "tool":
            results = []
            role = "model" if message["role"] == "assistant" else "user"
            contents.append({"role": role, "parts": _parts(message, call.model)})
            continue
        if not results:
            contents.append({"role": "user", "parts": results})
        response = {"name": message["name"], "response": {"output": message["content"]}}
        results.append({"functionResponse": response | _own_id(message["call_id"])})
    return contents


def _own_id(call_id: str) -> dict[str, str]:
    """Return the id of a call if the model gave it one, because the model then matches results by it."""
    return {} if call_id.startswith(MADE_ID) else {"id": call_id}


def _thinking(model: str, effort: Effort) -> dict[str, Any]:
    """Return Google's setting for an effort (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thinking)."""
    if is_gemini_with_levels(model):
        level = {"none": "MINIMAL", "xhigh": "HIGH", "max": "HIGH"}.get(effort, effort.upper())
        return {"thinkingLevel": level}
    # -1 lets the model decide.
    return {"thinkingBudget": {"none": 0, "minimal": 512, "low": 1_024}.get(effort, -1)}


_NEXT_LEVEL = {"MINIMAL": "LOW", "LOW": "MEDIUM", "MEDIUM": "HIGH"}


def _without(body: Body, refused: frozenset[ParameterRefusal]) -> Body:
    """Return a request without what its model refuses; a refused thinking level is replaced by the next one."""
    config = dict(body["generationConfig"])
    if ParameterRefusal("temperature") in refused:
        config.pop("temperature", None)
    thinking = config.pop("thinkingConfig", None)
    if thinking is not None and ParameterRefusal("thinkingConfig") not in refused:
        level = thinking.get("thinkingLevel")
        while level is not None and ParameterRefusal("thinkingConfig", level) in refused:
            level = _NEXT_LEVEL.get(level)
        if level is not None:
            config["thinkingConfig"] = {**thinking, "thinkingLevel": level}
        elif "thinkingBudget" in thinking:
            config["thinkingConfig"] = thinking
    return {**body, "generationConfig": config}


def _refused_parameter(body: Body, error_text: str) -> ParameterRefusal | None:
    """Return the optional parameter that Google's error message names."""
    config = body["generationConfig"]
    words = error_text.lower()
    if "thinkingConfig" in config and re.search(r"\bthinking|\bbudget", words):
        return ParameterRefusal("thinkingConfig", config["thinkingConfig"].get("thinkingLevel"))
    return ParameterRefusal("temperature") if "temperature" in config and "temperature" in words else None


def _parts(message: Message, model: str) -> list[dict[str, Any]]:
    calls = [_function_call(call) for call in message.get("calls", ())]
    if calls and "thoughtSignature" not in calls[0] and "gemini-3" in model:
        calls[0]["thoughtSignature"] = _UNSIGNED
    # Google refuses empty texts, and a message needs at least one part.
    files = [
        {"inlineData": {"mimeType": each.media_type, "data": each.base64}} for each in message.get("attachments", ())
    ]
    words = [{"text": message["content"] or " "}] if message["content"] or not (calls or files) else []
    return words + files + calls


def _function_call(call: ToolCall) -> dict[str, Any]:
    try:
        value = from_json(call.arguments or "{}")
    except ValueError:
        value = {}
    arguments = value if isinstance(value, dict) else {}
    part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments, **_own_id(call.id)}}
    signature = call.signature or ""
    # Gemini's own is base64. Claude's, from a turn in which Gemini took over, is JSON.
    return part | ({"thoughtSignature": signature} if signature and not signature.startswith("{") else {})


def _parse_event(event: dict[str, Any]) -> Chunk:
    """Return the chunk of one event of a stream."""
    tokens = _tokens(table(event.get("usageMetadata")))
    candidates = items(event.get("candidates"))
    if not candidates:
        blocked = table(event.get("promptFeedback")).get("blockReason")
        return Chunk(tokens=tokens, finish="content_filter" if blocked else None)
    candidate = candidates[0]
    words, thought, calls = "", "", []
    for part in items(table(candidate.get("content")).get("parts")):
        if "functionCall" in part:
            calls.append(_call_part(part))
        elif part.get("thought"):
            thought += text(part.get("text"))
        else:
            words += text(part.get("text"))
    reason = word(candidate.get("finishReason"))
    finish = _finish(reason, calls)
    sources, searches = _grounding(table(candidate.get("groundingMetadata")))
    if searches:
        tokens = replace(tokens or TokenCounts(), searches=searches)
    if calls or thought or sources:
        return ToolChunk(words, tokens, finish, parts=tuple(calls), thought=thought, sources=sources)
    return Chunk(words, tokens, finish)


def _grounding(metadata: Mapping[str, Any]) -> tuple[tuple[Source, ...], int]:
    """Return what the model found on the web, and the number of its searches."""
    queries = metadata.get("webSearchQueries")
    pages = [table(chunk.get("web")) for chunk in items(metadata.get("groundingChunks"))]
    found = [(word(page.get("uri")), word(page.get("title"))) for page in pages]
    sources = tuple(_web_source(url, title) for url, title in found if url.startswith("https://"))
    return sources, len(queries) if isinstance(queries, list) else int(bool(sources))


def _web_source(url: str, title: str) -> Source:
    return Source("web-" + sha256(url.encode("utf-8", "replace")).hexdigest()[:12], title or url, url)


def _parse_answer(answer: dict[str, Any]) -> Chunk:
    """Return the chunk of an answer in one piece."""
    chunk = _parse_event(answer)
    if chunk.finish is None:
        raise garbled("the provider's answer is no answer of Gemini's")
    return chunk


def _finish(reason: str, calls: list[CallPart]) -> Finish | None:
    return "tool_calls" if calls and reason == "STOP" else finish_of(reason)


def _call_part(part: Mapping[str, Any]) -> CallPart:
    call = table(part["functionCall"])
    arguments = json_text(call.get("args") or {})
    # Gemini sends each call whole, and few models number them.
    return CallPart(
        None, word(call.get("id")), word(call.get("name")), arguments, text(part.get("thoughtSignature")) or None
    )


def _tokens(usage: Mapping[str, Any]) -> TokenCounts | None:
    """Return the counts of a usage object; None if it has no figure.

    Tokens that tools add belong to the prompt. Thoughts belong to the answer, because they are billed as output.

    Each event of a stream counts everything so far. Invalid figures are ignored.
    """
    counts = {name: figure(usage.get(name)) or 0 for name in _COUNTS}
    if not any(counts.values()):
        return None
    prompt_tokens = counts["promptTokenCount"] + counts["toolUsePromptTokenCount"]
    answer, thought, total = (
        counts[name] for name in ("candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")
    )
    # Some models count the thoughts among the candidates' tokens; the total has them once either way.
    thoughts_included = total > 0 and prompt_tokens > 0 and thought <= answer
    output_tokens = (
        max(answer, total - prompt_tokens)
        if thoughts_included
        else max(answer + thought, total - prompt_tokens if prompt_tokens else 0)
    )
    cached = min(counts["cachedContentTokenCount"], prompt_tokens)
    audio = min(_audio(usage.get("promptTokensDetails")), prompt_tokens)
    cached_audio = min(_audio(usage.get("cacheTokensDetails")), audio, cached)
    return TokenCounts(
        prompt_tokens,
        cached,
        output_tokens,
        reasoning=min(thought, output_tokens),
        audio=audio,
        # What is left of the prompt is text, so at least the rest of what was cached is a recording.
        cached_audio=max(cached_audio, cached + audio - prompt_tokens),
    )


def _audio(details: Any) -> int:
    """Return the tokens of recordings among the counts by modality."""
    return sum(figure(each.get("tokenCount")) or 0 for each in items(details) if each.get("modality") == "AUDIO")
