"""Any server that offers OpenAI's chat completions: OpenAI, Ollama and the like, Gemini on Vertex AI.

Streams and answers in one piece both use the relay, so both end when their client leaves, and both fail the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from ...errors import ModelUnavailable
from ..fields import figure, items, json_text, table, text, word
from ..finish import finish_of
from ..parameters import Body, RefusedParameters
from ..thinking import is_openai_reasoning
from ..types import CallPart, Chunk, Message, ModelCall, TokenCounts, ToolCall, ToolChunk, ToolSpec
from ..wire.http import Transport
from ..wire.relay import relay, whole_chunk
from .openai_parameters import refused_parameter, without

__all__ = ["OpenAICompatibleProvider"]

_OPENAI = "https://api.openai.com/v1"


class OpenAICompatibleProvider:
    """The models of a server with ``<base_url>/chat/completions``.

    Args:
        name: the provider's name in records.
        api_key: the key, or a function that returns a fresh one for each call (Google's access tokens last an hour).
        base_url: OpenAI's own by default.
        model_prefix: what the server expects before a model's name ("google/" on Vertex AI).
    """

    def __init__(
        self, name: str, api_key: str | Callable[[], str], base_url: str | None = None, model_prefix: str = ""
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._base_url = base_url
        self._prefix = model_prefix
        self._refused = RefusedParameters(without, refused_parameter)
        self._is_openai = urlsplit(base_url or _OPENAI).hostname == urlsplit(_OPENAI).hostname

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._base_url or _OPENAI)

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return whole_chunk(call, self._send(call, self._body(call)))

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._send(call, self._body(call) | {"stream": True, "stream_options": {"include_usage": True}})

    def _send(self, call: ModelCall, body: Mapping[str, Any]) -> Iterator[Chunk]:
        key = self._api_key() if callable(self._api_key) else self._api_key
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "User-Agent": "firelaunch"}

        def send(adapted: Body) -> Iterator[Chunk]:
            encoded = json.dumps(adapted).encode()
            return relay(
                self._transport, "/chat/completions", headers, encoded, call.deadline, _parse_event, _parse_answer
            )

        return self._refused.send(call.model, body, send)

    def _limit(self, model: str) -> str:
        """Return the name of the output limit.

        OpenAI's reasoning models accept only the newer name, wherever they are served; older servers only the older
        one.
        """
        return "max_completion_tokens" if self._is_openai or is_openai_reasoning(model) else "max_tokens"

    def _body(self, call: ModelCall) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._prefix + call.model.removeprefix(self._prefix),
            "messages": [_message(message) for message in call.messages],
            self._limit(call.model): call.most_tokens,
        }
        if call.effort is not None:
            body["reasoning_effort"] = call.effort
        if call.temperature is not None:
            body["temperature"] = call.temperature
        if call.shape is not None:
            schema = {"name": call.shape.name, "schema": call.shape.strict, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if call.tools:
            body["tools"] = [_tool(tool) for tool in call.tools]
            body["tool_choice"] = "auto" if call.may_call else "none"
        return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": True}
    return {"type": "function", "function": function}


def _message(message: Message) -> dict[str, Any]:
    payload: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if "calls" in message:
        payload["tool_calls"] = [_tool_call(call) for call in message["calls"]]
    if "call_id" in message:
        payload["tool_call_id"] = message["call_id"]
    return payload


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    payload: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        # The place that Gemini's compatible endpoint expects (https://ai.google.dev/gemini-api/docs/thought-signatures).
        payload["extra_content"] = {"google": {"thought_signature": call.signature}}
    return payload


def _parse_event(event: dict[str, Any]) -> Chunk:
    """Return the chunk of one event of a stream."""
    usage = event.get("usage")
    tokens = None if usage is None else _tokens(table(usage))
    choices = event.get("choices")
    if not choices:
        return Chunk(tokens=tokens)
    choice = choices[0]
    delta = choice.get("delta") or {}
    content = delta.get("content")
    words = content if type(content) is str and content else text(content) or text(delta.get("refusal"))
    finish = finish_of(word(choice.get("finish_reason")))
    parts = _parts(delta) if "tool_calls" in delta else ()
    thought = _thought(delta)
    if parts or thought:
        return ToolChunk(words, tokens, finish, parts=parts, thought=thought)
    return Chunk(words, tokens, finish)


def _thought(message: Mapping[str, Any]) -> str:
    """Return what the model thinks aloud.

    The field is ``reasoning_content`` (DeepSeek, vLLM) or ``reasoning`` (OpenRouter, Ollama).
    """
    thought = message.get("reasoning_content") or message.get("reasoning")
    return thought if isinstance(thought, str) else ""


def _parts(message: Mapping[str, Any]) -> tuple[CallPart, ...]:
    """Return the pieces of tool calls in a delta, or the calls in a message."""
    return tuple(map(_part, items(message.get("tool_calls"))))


def _part(call: Mapping[str, Any]) -> CallPart:
    function = table(call.get("function"))
    google = table(table(call.get("extra_content")).get("google"))
    return CallPart(
        figure(call.get("index")),
        word(call.get("id")),
        word(function.get("name")),
        json_text(function.get("arguments")),
        text(google.get("thought_signature")) or None,
    )


def _parse_answer(answer: dict[str, Any]) -> Chunk:
    """Return the chunk of an answer in one piece."""
    choices = items(answer.get("choices"))
    if not choices:
        raise ModelUnavailable(reason="the provider's answer is no chat completion")
    message = table(choices[0].get("message"))
    finish = "content_filter" if message.get("refusal") else finish_of(word(choices[0].get("finish_reason"))) or "other"
    words = text(message.get("content")) or text(message.get("refusal"))
    tokens = _tokens(table(answer.get("usage")))
    return ToolChunk(words, tokens, finish, parts=_parts(message), thought=_thought(message))


def _tokens(usage: Mapping[str, Any]) -> TokenCounts | None:
    """Return the counts of a usage object; None if it has no figure.

    Servers count differently. Invalid figures are ignored. Tokens in the total beyond prompt and answer count as
    output, because they were charged for, too.
    """
    counts = {name: figure(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    if not any(counts.values()):
        return None
    prompt_tokens, answer_tokens = counts["prompt_tokens"] or 0, counts["completion_tokens"] or 0
    details = table(usage.get("prompt_tokens_details"))
    cached = figure(details.get("cached_tokens")) or 0
    thinking = figure(table(usage.get("completion_tokens_details")).get("reasoning_tokens")) or 0
    extra = max(0, (counts["total_tokens"] or 0) - prompt_tokens - answer_tokens) if prompt_tokens else 0
    if thinking > answer_tokens:
        extra = max(extra, thinking)  # this server does not count them in the answer's, unlike OpenAI
    # Cached tokens are part of the prompt's. A server that counts them separately must not cause a negative price.
    cached = min(cached, prompt_tokens)
    written = min(figure(details.get("cache_write_tokens")) or 0, prompt_tokens - cached)
    output = answer_tokens + extra
    return TokenCounts(prompt_tokens, cached, output, cache_write=written, reasoning=min(thinking, output))
