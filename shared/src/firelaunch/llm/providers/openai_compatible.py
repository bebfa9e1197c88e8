"""Any server that speaks OpenAI's chat completions: OpenAI, Ollama and the like, Gemini on Vertex AI.

Streams come through the relay, answers in one piece through the openai package, which takes most of a second to import
and so waits for the first of them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, ModelTimeout, ModelUnavailable
from ...telemetry import CONTENT
from ..base import Call, CallPart, Chunk, Message, Tokens, ToolCall, ToolChunk, ToolSpec
from ..failures import of_status
from ..relay import read, relay
from ..transport import Transport

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAICompatibleProvider", "translate"]

_OPENAI = "https://api.openai.com/v1"

_CONNECT_SECONDS = 5.0
"""A provider that does not even accept a connection in this time is taken as out of reach."""


class OpenAICompatibleProvider:
    """Calls ``<base_url>/chat/completions``.

    Args:
        name: what to call the provider in records.
        api_key: the key, or a function that returns a fresh one for each call (Google's access tokens last an hour).
        base_url: without it, OpenAI's own.
        model_prefix: what the server wants before a model's name ("google/" on Vertex AI).
    """

    def __init__(
        self, name: str, api_key: str | Callable[[], str], base_url: str | None = None, model_prefix: str = ""
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._base_url = base_url
        self._prefix = model_prefix
        # Older compatible servers know the limit by its first name alone; OpenAI's newer models refuse that one.
        self._limit = "max_completion_tokens" if base_url is None else "max_tokens"
        self._lock = threading.Lock()

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._base_url or _OPENAI)

    @cached_property
    def _client(self) -> openai.OpenAI:
        with self._lock:
            import openai

            # The gateway does all retries, so that they share the request's time.
            return openai.OpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0)

    def complete(self, call: Call) -> Chunk:
        """See :class:`~firelaunch.llm.base.Provider`."""
        import openai

        try:
            answer = self._client.chat.completions.create(**self._arguments(call))
        except openai.OpenAIError as error:
            # Of what timed out before there was a connection the provider knows nothing.
            call.patience.sent = type(error.__cause__).__name__ not in {"ConnectTimeout", "PoolTimeout"}
            raise translate(error) from error
        except ValueError as error:
            raise ModelUnavailable(reason=f"the provider's answer is no JSON: {type(error).__name__}") from error
        if not isinstance(answer, openai.types.chat.ChatCompletion):
            raise ModelUnavailable(reason="the provider's answer is no chat completion")
        return read(_whole, answer.model_dump())

    def stream(self, call: Call) -> Iterator[Chunk]:
        """See :class:`~firelaunch.llm.base.Provider`."""
        body = self._body(call) | {"stream": True, "stream_options": {"include_usage": True}}
        key = self._api_key() if callable(self._api_key) else self._api_key
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "User-Agent": "firelaunch"}
        encoded = json.dumps(body).encode()
        return relay(self._transport, "/chat/completions", headers, encoded, call.patience, _event, _whole)

    def _arguments(self, call: Call) -> dict[str, Any]:
        import openai

        seconds = call.patience.left()
        return {**self._body(call), "timeout": openai.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))}

    def _body(self, call: Call) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._prefix + call.model.removeprefix(self._prefix),
            "messages": [_message(message) for message in call.messages],
            self._limit: call.max_output_tokens,
        }
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
    found: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if "calls" in message:
        found["tool_calls"] = [_tool_call(call) for call in message["calls"]]
    if "call_id" in message:
        found["tool_call_id"] = message["call_id"]
    return found


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    found: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        # Where Gemini's compatible endpoint has it (https://ai.google.dev/gemini-api/docs/thought-signatures).
        found["extra_content"] = {"google": {"thought_signature": call.signature}}
    return found


def _event(event: dict[str, Any]) -> Chunk:
    """A chunk of one event of a stream."""
    usage = event.get("usage")
    tokens = None if usage is None else _tokens(usage)
    choices = event.get("choices")
    if not choices:
        return Chunk(tokens=tokens)
    choice = choices[0]
    delta = choice.get("delta") or {}
    text, finish = delta.get("content") or delta.get("refusal") or "", choice.get("finish_reason")
    if type(text) is not str:
        raise TypeError("an answer's content is text")
    parts = _parts(delta) if "tool_calls" in delta else ()
    return ToolChunk(text, tokens, finish, parts=parts) if parts else Chunk(text, tokens, finish)


def _parts(said: dict[str, Any]) -> tuple[CallPart, ...]:
    """The pieces of tool calls in a delta, or the calls in a message."""
    calls = said.get("tool_calls")
    return tuple(_part(call) for call in calls) if calls else ()


def _part(call: dict[str, Any]) -> CallPart:
    function = call.get("function") or {}
    google = (call.get("extra_content") or {}).get("google") or {}
    return CallPart(
        call.get("index"),
        call.get("id") or "",
        function.get("name") or "",
        function.get("arguments") or "",
        google.get("thought_signature"),
    )


def _whole(answer: dict[str, Any]) -> Chunk:
    """A chunk of an answer in one piece."""
    choices = answer.get("choices")
    if not choices:
        raise ModelUnavailable(reason="the provider's answer is no chat completion")
    message = choices[0].get("message") or {}
    finish = "refusal" if message.get("refusal") else choices[0].get("finish_reason") or "stop"
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError("an answer's content is text")
    return ToolChunk(text, _tokens(answer.get("usage") or {}), finish, parts=_parts(message))


def _tokens(usage: dict[str, Any]) -> Tokens | None:
    asked = usage.get("prompt_tokens")
    if asked is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    # Cached tokens are a part of the prompt's; a server that counts them beside it must not make a negative price.
    counts = (asked, min(cached, asked), usage.get("completion_tokens") or 0)
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("a usage's figures are whole numbers")
    return Tokens(*counts)


def translate(error: openai.OpenAIError) -> ModelError:
    """The error of our own tree that one of the openai package is."""
    import openai

    # A provider's own words may quote the prompt; what it codes does not.
    CONTENT.info("the provider said: %s", error)
    said = (getattr(error, name, None) for name in ("status_code", "code", "param"))
    reason = " ".join([type(error).__name__, *(str(word)[:100] for word in said if word is not None)])
    if isinstance(error, openai.APITimeoutError):
        return ModelTimeout(reason=reason)
    if isinstance(error, openai.APIStatusError):
        return of_status(error.status_code, error.code, error.response.headers, reason)
    if isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError):
        return ModelUnavailable(reason=reason)
    return ModelError(reason=reason)
