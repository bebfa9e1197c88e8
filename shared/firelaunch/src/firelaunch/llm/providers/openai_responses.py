"""OpenAI's Responses API, for what its chat completions refuse: models that think and call tools in one answer.

The fields are from https://developers.openai.com/api/docs/api-reference/responses. OpenAI stores nothing of a request:
what a model thought comes back encrypted, and goes along with its tool calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from ...errors import ModelUnavailable
from ...settings.openai_server import OPENAI, OPENAI_URL
from ..attachments import Attachment
from ..failures import of_stream
from ..fields import figure, items, json_text, table, text, word
from ..finish import Finish, finish_of
from ..parameters import Body, ParameterRefusal, RefusedParameters
from ..thinking import is_openai_reasoning, nearest_effort
from ..types import CallPart, Chunk, Message, ModelCall, Provider, TokenCounts, ToolCall, ToolChunk, ToolSpec
from ..wire.http import Transport
from ..wire.relay import relay, whole_chunk
from .thoughts import pack_thoughts, unpack_thoughts

__all__ = ["OpenAIProvider", "OpenAIResponsesProvider"]

_RESPONSES_ALONE = re.compile(r".*-pro\b|.*-codex\b|.*-deep-research\b")
"""Models that chat completions don't serve (https://developers.openai.com/api/docs/models)."""

_LEAST_OUTPUT = 16
"""The smallest limit of output tokens that the API accepts."""


class OpenAIProvider:
    """OpenAI's own models: by chat completions, and by Responses where a model needs it."""

    def __init__(self, chat: Provider, responses: Provider) -> None:
        self.name = chat.name
        self._chat, self._responses = chat, responses

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._of(call).complete(call)

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._of(call).stream(call)

    def _of(self, call: ModelCall) -> Provider:
        thinks_with_tools = call.tools and call.effort not in {None, "none"} and is_openai_reasoning(call.model)
        return self._responses if thinks_with_tools or _RESPONSES_ALONE.match(call.model) else self._chat


class OpenAIResponsesProvider:
    """The models of a server with ``<base_url>/responses``.

    Args:
        name: the provider's name in records.
        service_tier: as in the settings; the server decides if it is empty.
    """

    def __init__(self, name: str, api_key: str, base_url: str = OPENAI_URL, service_tier: str = "") -> None:
        self.name = name
        self._headers = OPENAI.headers(api_key)
        self._base_url = base_url
        self._tier = {"service_tier": service_tier} if service_tier else {}
        self._refused = RefusedParameters(_without, _refused_parameter)

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._base_url)

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return whole_chunk(call, self._send(call, streamed=False))

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._send(call, streamed=True)

    def _send(self, call: ModelCall, *, streamed: bool) -> Iterator[Chunk]:
        def send(body: Body) -> Iterator[Chunk]:
            reader = _Reader(call.model)
            encoded = json.dumps({**body, **self._tier, "stream": streamed}).encode()
            return relay(
                self._transport, "/responses", self._headers, encoded, call.deadline, reader.event, reader.answer
            )

        return self._refused.send(call.model, _body(call), send)


def _body(call: ModelCall) -> dict[str, Any]:
    system = "\n\n".join(message["content"] for message in call.messages if message["role"] == "system")
    body: dict[str, Any] = {
        "model": call.model,
        "input": [item for message in call.messages for item in _items(message, call.model)],
        "max_output_tokens": max(call.most_tokens, _LEAST_OUTPUT),
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    if system:
        body["instructions"] = system
    reasoning: dict[str, Any] = {"effort": call.effort} if call.effort is not None else {}
    reasoning |= {"summary": "auto"} if call.show_thinking else {}
    if reasoning:
        body["reasoning"] = reasoning
    if call.temperature is not None and not is_openai_reasoning(call.model):
        body["temperature"] = call.temperature
    if call.shape is not None:
        schema = {"name": call.shape.name, "schema": call.shape.strict, "strict": True}
        body["text"] = {"format": {"type": "json_schema", **schema}}
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
    return {"type": "function", **function}


def _items(message: Message, model: str) -> Iterator[dict[str, Any]]:
    if message["role"] == "tool":
        yield {"type": "function_call_output", "call_id": message["call_id"], "output": message["content"]}
    elif message.get("attachments"):
        words = [{"type": "input_text", "text": message["content"]}] if message["content"] else []
        yield {"role": message["role"], "content": [*words, *map(_file, message["attachments"])]}
    elif message["role"] != "system" and message["content"]:
        yield {"role": message["role"], "content": message["content"]}
    for call in message.get("calls", ()):
        yield from map(dict, unpack_thoughts(call.signature, model))
        yield _function_call(call)


def _file(attachment: Attachment) -> dict[str, Any]:
    if attachment.kind == "pdf":
        return {
            "type": "input_file",
            "filename": attachment.pdf_name,
            "file_data": attachment.data_url,
        }
    # With "auto", some models count more tokens than are reserved for an image.
    return {"type": "input_image", "image_url": attachment.data_url, "detail": "high"}


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _without(body: Body, refused: frozenset[ParameterRefusal]) -> Body:
    """Return a request without what its model refuses; a refused effort gives way to the nearest one."""
    adapted, reasoning = dict(body), dict(body.get("reasoning", {}))
    if ParameterRefusal("temperature") in refused:
        adapted.pop("temperature", None)
    if ParameterRefusal("summary") in refused:
        reasoning.pop("summary", None)
    effort = reasoning.pop("effort", None)
    while effort is not None and ParameterRefusal("effort", effort) in refused:
        effort = nearest_effort(effort)
    reasoning |= {"effort": effort} if effort is not None else {}
    adapted.pop("reasoning", None)
    return adapted | ({"reasoning": reasoning} if reasoning else {})


def _refused_parameter(body: Body, error_text: str) -> ParameterRefusal | None:
    """Return the part of ``body`` that an error message names; None if it names nothing that can be left out."""
    if "temperature" in body and "temperature" in error_text:
        return ParameterRefusal("temperature")
    reasoning = body.get("reasoning", {})
    if "summary" in reasoning and "summary" in error_text:
        return ParameterRefusal("summary")
    return ParameterRefusal("effort", reasoning["effort"]) if "effort" in reasoning and "effort" in error_text else None


class _Reader:
    """Reads the answer to one call, and keeps what the model thinks until it calls a tool."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._thoughts: list[Mapping[str, Any]] = []
        self._calls = self._refuses = False

    def event(self, event: dict[str, Any]) -> Chunk:
        """Return the chunk of one event of a stream; an event of an unknown type is an empty one."""
        delta, index = event.get("delta"), figure(event.get("output_index"))
        match event.get("type"):
            case "response.output_text.delta":
                return Chunk(text(delta))
            case "response.refusal.delta":
                self._refuses = True
                return Chunk(text(delta))
            case "response.reasoning_summary_text.delta":
                return ToolChunk(thought=text(delta))
            case "response.function_call_arguments.delta":
                return ToolChunk(parts=(CallPart(index, arguments=text(delta)),))
            case "response.output_item.added":
                return self._begun(table(event.get("item")), index)
            case "response.output_item.done":
                self._keep(table(event.get("item")))
            case "response.completed" | "response.incomplete" | "response.failed":
                return self._end(table(event.get("response")))
        return Chunk()

    def answer(self, answer: dict[str, Any]) -> Chunk:
        """Return the chunk of an answer in one piece.

        Raises:
            ModelUnavailable: it is not a response of OpenAI's.
        """
        if not isinstance(answer.get("output"), list):
            raise ModelUnavailable(reason="the provider's answer is no response of OpenAI's")
        words, thought, parts = "", "", []
        for item in items(answer["output"]):
            self._keep(item)
            words += "".join(map(self._words, items(item.get("content")))) if item.get("type") == "message" else ""
            thought += "".join(text(part.get("text")) for part in items(item.get("summary")))
            if item.get("type") == "function_call":
                parts.append(self._part(item, None, json_text(item.get("arguments"))))
        end = self._end(answer)
        return ToolChunk(words, end.tokens, end.finish, parts=tuple(parts), thought=thought)

    def _words(self, part: Mapping[str, Any]) -> str:
        self._refuses = self._refuses or bool(part.get("refusal"))
        return text(part.get("text")) or text(part.get("refusal"))

    def _begun(self, item: Mapping[str, Any], index: int | None) -> Chunk:
        return ToolChunk(parts=(self._part(item, index, ""),)) if item.get("type") == "function_call" else Chunk()

    def _part(self, item: Mapping[str, Any], index: int | None, arguments: str) -> CallPart:
        self._calls = True
        signature, self._thoughts = pack_thoughts(self._model, self._thoughts), []
        return CallPart(index, word(item.get("call_id")), word(item.get("name")), arguments, signature)

    def _keep(self, item: Mapping[str, Any]) -> None:
        if item.get("type") == "reasoning" and item.get("encrypted_content"):
            names = ("type", "id", "summary", "encrypted_content")
            self._thoughts.append({name: item[name] for name in names if name in item})

    def _end(self, response: Mapping[str, Any]) -> Chunk:
        """Return the chunk of a response that has ended.

        Raises:
            ModelError: it has failed.
        """
        if response.get("status") == "failed":
            raise of_stream(response.get("error"))
        return Chunk(tokens=_tokens(table(response.get("usage"))), finish=self._finish(response))

    def _finish(self, response: Mapping[str, Any]) -> Finish:
        reason = word(table(response.get("incomplete_details")).get("reason"))
        if reason:
            return finish_of(reason) or "other"
        if self._refuses:
            return "content_filter"
        return "tool_calls" if self._calls else "stop" if response.get("status") == "completed" else "other"


def _tokens(usage: Mapping[str, Any]) -> TokenCounts | None:
    asked, said = (figure(usage.get(f"{kind}_tokens")) or 0 for kind in ("input", "output"))
    if not (asked or said):
        return None
    details = table(usage.get("input_tokens_details"))
    cached = min(figure(details.get("cached_tokens")) or 0, asked)
    written = min(figure(details.get("cache_write_tokens")) or 0, asked - cached)
    thought = figure(table(usage.get("output_tokens_details")).get("reasoning_tokens")) or 0
    return TokenCounts(asked, cached, said, cache_write=written, reasoning=min(thought, said))
