"""Any server that offers OpenAI's chat completions: OpenAI, Ollama and the like, Gemini on Vertex AI.

Streams and answers in one piece both use the relay, so both end when their client leaves, and both fail the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from ...settings.openai_server import AUTHORIZATION, OPENAI_URL, OpenAIServer
from ..attachments import Attachment
from ..failures import garbled, of_stream
from ..fields import figure, items, json_text, table, text, texts_in, word
from ..finish import finish_of
from ..parameters import Body, RefusedParameters
from ..thinking import is_openai_reasoning
from ..types import CallPart, Chunk, Message, ModelCall, TokenCounts, ToolCall, ToolChunk, ToolSpec, WholeChunk
from ..wire.http import Transport
from ..wire.relay import relay, whole_chunk
from .openai_parameters import refused_parameter, without

__all__ = ["OpenAICompatibleProvider"]


class OpenAICompatibleProvider:
    """The models of a server with ``<base_url>/chat/completions``.

    Args:
        name: the provider's name in records.
        api_key: the key, or a function that returns a fresh one for each call (Google's access tokens last an hour).
        base_url: OpenAI's own by default.
        key_header: the header that the key goes into, as in Azure's "api-key". In "Authorization" it is a bearer's.
    """

    def __init__(
        self,
        name: str,
        api_key: str | Callable[[], str],
        base_url: str | None = None,
        key_header: str = AUTHORIZATION,
        service_tier: str = "",
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._server = OpenAIServer(base_url, key_header)
        # It has a price of its own, so it is not among what a request can do without.
        self._tier = {"service_tier": service_tier} if service_tier else {}
        self._refused = RefusedParameters(without, refused_parameter)
        self._is_openai = urlsplit(base_url or OPENAI_URL).hostname == urlsplit(OPENAI_URL).hostname

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._server.base_url or OPENAI_URL)

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return whole_chunk(call, self._send(call, self._body(call)))

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._send(call, self._body(call) | {"stream": True, "stream_options": {"include_usage": True}})

    def _send(self, call: ModelCall, body: Mapping[str, Any]) -> Iterator[Chunk]:
        key = self._api_key() if callable(self._api_key) else self._api_key
        headers = self._server.headers(key)

        def send(adapted: Body) -> Iterator[Chunk]:
            encoded = json.dumps(adapted).encode()
            path, parsers = "/chat/completions", (_parse_event, _parse_answer)
            return relay(self._transport, path, headers, encoded, call.deadline, *parsers, plain_thoughts=True)

        return self._refused.send(call.model, body, send)

    def _limit(self, model: str) -> str:
        """Return the name of the output limit.

        OpenAI's reasoning models accept only the newer name, wherever they are served; older servers only the older
        one.
        """
        return "max_completion_tokens" if self._is_openai or is_openai_reasoning(model) else "max_tokens"

    def _body(self, call: ModelCall) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [_message(message) for message in call.messages],
            self._limit(call.model): call.most_tokens,
            **self._tier,
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
            body["tool_choice"] = call.tool_choice
        return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _message(message: Message) -> dict[str, Any]:
    payload: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if message.get("attachments"):
        text = [{"type": "text", "text": message["content"]}] if message["content"] else []
        payload["content"] = [*text, *map(_file, message["attachments"])]
    if "calls" in message:
        payload["tool_calls"] = [_tool_call(call) for call in message["calls"]]
    if "call_id" in message:
        payload["tool_call_id"] = message["call_id"]
    return payload


def _file(attachment: Attachment) -> dict[str, Any]:
    match attachment.kind:
        case "pdf":
            file = {"filename": attachment.pdf_name, "file_data": attachment.data_url}
            return {"type": "file", "file": file}
        case "audio":
            form = "wav" if attachment.media_type == "audio/wav" else "mp3"
            return {"type": "input_audio", "input_audio": {"data": attachment.base64, "format": form}}
        case _:
            # With "auto", some models count more tokens than are reserved for an image.
            return {"type": "image_url", "image_url": {"url": attachment.data_url, "detail": "high"}}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    payload: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        # The place that Gemini's compatible endpoint expects (https://ai.google.dev/gemini-api/docs/thought-signatures).
        payload["extra_content"] = {"google": {"thought_signature": call.signature}}
    return payload


def _parse_event(event: dict[str, Any]) -> Chunk:
    """Return the chunk of one event of a stream."""
    choice = _choice(event)
    usage = event.get("usage")
    if usage is None:
        # Groq and Moonshot have it in places of their own.
        usage = choice.get("usage") or table(event.get("x_groq")).get("usage")
    tokens = None if usage is None else _tokens(table(usage))
    if not choice:
        return Chunk(tokens=tokens)
    finish = finish_of(word(choice.get("finish_reason")))
    delta = choice.get("delta")
    if not delta or not isinstance(delta, dict):
        message = table(choice.get("message"))
        if not message:
            return Chunk(text(choice.get("text")), tokens, finish)  # the older completions' name
        words, thought, parts = _contents(message)
        return WholeChunk(words, tokens, finish, parts=parts, thought=thought)
    words, thought, parts = _contents(delta)
    if parts or thought:
        return ToolChunk(words, tokens, finish, parts=parts, thought=thought)
    return Chunk(words, tokens, finish)


def _choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice; an empty one if there is none, as at Azure's beginning and at the usage.

    Raises:
        ModelError: the choice itself has failed, as at OpenRouter.
    """
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return {}
    if choice.get("error"):
        raise of_stream(choice["error"])
    return choice


def _contents(message: Mapping[str, Any]) -> tuple[str, str, tuple[CallPart, ...]]:
    """Return the text, the thoughts and the pieces of tool calls in a message, or in a piece of one."""
    content = message.get("content")
    thought = _thought(message)
    if type(content) is not str or not content:
        more_thought, content = texts_in(content)
        thought = thought or more_thought
    return content or text(message.get("refusal")), thought, _parts(message)


def _thought(message: Mapping[str, Any]) -> str:
    """Return what the model thinks aloud.

    The field is ``reasoning_content`` (DeepSeek, vLLM), ``reasoning`` or ``reasoning_details`` (OpenRouter, Ollama).
    """
    for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking"):
        thought = message.get(name)
        if thought:
            return thought if isinstance(thought, str) else "".join(texts_in(thought))
    return ""


def _parts(message: Mapping[str, Any]) -> tuple[CallPart, ...]:
    """Return the pieces of tool calls in a delta, or the calls in a message."""
    calls = message.get("tool_calls")
    if isinstance(calls, dict):
        calls = [calls]  # some servers send a single call without its list
    if not calls and isinstance(message.get("function_call"), dict):
        return (_part({"index": 0, "function": message["function_call"]}),)  # from before calls were many
    return tuple(map(_part, items(calls)))


def _part(call: Mapping[str, Any]) -> CallPart:
    function = table(call.get("function"))
    google = table(table(call.get("extra_content")).get("google"))
    index = call.get("index")
    return CallPart(
        figure(int(index) if isinstance(index, str) and re.fullmatch(r"\d{1,4}", index) else index),
        word(call.get("id")),
        word(function.get("name")),
        json_text(function.get("arguments")),
        text(google.get("thought_signature")) or None,
    )


def _parse_answer(answer: dict[str, Any]) -> Chunk:
    """Return the chunk of an answer in one piece."""
    choice = _choice(answer)
    if not choice:
        raise garbled("the provider's answer is no chat completion")
    message = table(choice.get("message") or choice.get("delta"))
    finish = "content_filter" if message.get("refusal") else finish_of(word(choice.get("finish_reason"))) or "other"
    words, thought, parts = _contents(message)
    tokens = _tokens(table(answer.get("usage") or choice.get("usage")))
    return ToolChunk(words, tokens, finish, parts=parts, thought=thought)


def _tokens(usage: Mapping[str, Any]) -> TokenCounts | None:
    """Return the counts of a usage object; None if it has no figure.

    Servers count differently. Invalid figures are ignored. Tokens in the total beyond prompt and answer count as
    output, because they were charged for, too.
    """
    prompt_tokens, answer_tokens, total_tokens = (
        _first(usage, *names)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), ("total_tokens",))
    )
    if not (prompt_tokens or answer_tokens or total_tokens):
        return None
    details = table(usage.get("prompt_tokens_details"))
    # DeepSeek and Moonshot have names of their own for what was cached.
    cached = _first(details, "cached_tokens") or _first(usage, "prompt_cache_hit_tokens", "cached_tokens")
    thinking = _first(table(usage.get("completion_tokens_details")), "reasoning_tokens")
    extra = max(0, total_tokens - prompt_tokens - answer_tokens) if prompt_tokens else 0
    if thinking > answer_tokens:
        extra = max(extra, thinking)  # this server does not count them in the answer's, unlike OpenAI
    # Cached tokens are part of the prompt's. A server that counts them separately must not cause a negative price.
    cached = min(cached, prompt_tokens)
    written = min(_first(details, "cache_write_tokens"), prompt_tokens - cached)
    output = answer_tokens + extra
    audio = min(_first(details, "audio_tokens"), prompt_tokens - written)
    return TokenCounts(
        prompt_tokens,
        cached,
        output,
        cache_write=written,
        reasoning=min(thinking, output),
        audio=audio,
        # What was cached is text first, since no provider tells how much of it was not.
        cached_audio=max(0, cached + written + audio - prompt_tokens),
    )


def _first(counts: Mapping[str, Any], *names: str) -> int:
    """Return the first count that is there under one of ``names``; 0 without any."""
    return next(filter(None, (figure(counts.get(name)) for name in names)), 0)
