"""Claude by Anthropic's Messages API, with a key of Anthropic's or on Vertex AI, both through the relay.

:mod:`.claude_prompt` writes the requests, :mod:`.claude_cache` marks what to cache, this module sends them and reads
the answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from ..failures import garbled
from ..fields import figure, items, json_text, table, text, word
from ..finish import finish_of
from ..parameters import Body, ParameterRefusal, RefusedParameters
from ..thinking import nearest_effort
from ..types import CallPart, Chunk, ModelCall, TokenCounts, ToolChunk
from ..wire.http import Transport
from ..wire.relay import relay, whole_chunk
from .claude_cache import RecentPrompts
from .claude_prompt import JSON_ALONE, TEXT, body_of
from .thoughts import pack_thoughts

__all__ = ["ClaudeEndpoint", "ClaudeOnVertex", "ClaudeProvider", "ClaudeWithKey"]

ANTHROPIC = "https://api.anthropic.com"


class ClaudeRequest(NamedTuple):
    """The parts of a request that depend on where Claude is served: ``fields`` are of the body."""

    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, Any]


class ClaudeEndpoint(Protocol):
    """A place where Claude is served."""

    @property
    def base_url(self) -> str:
        """The address before the path."""

    def request(self, model: str, *, streamed: bool) -> ClaudeRequest:
        """Return where a call goes. Made anew for each call, because tokens expire."""


@dataclass(frozen=True, slots=True)
class ClaudeWithKey:
    """Anthropic's own API."""

    key: str
    base_url: str = ANTHROPIC

    def request(self, model: str, *, streamed: bool) -> ClaudeRequest:
        """Return a request with the key."""
        headers = {"x-api-key": self.key, "anthropic-version": "2023-06-01"}
        return ClaudeRequest("/v1/messages", headers, {"model": model, "stream": streamed})


@dataclass(frozen=True, slots=True)
class ClaudeOnVertex:
    """Vertex AI (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude).

    Args:
        token: returns an access token.
        base_url: of a project and location, as in ``https://…/v1/projects/p/locations/l``.
    """

    token: Callable[[], str]
    base_url: str

    def request(self, model: str, *, streamed: bool) -> ClaudeRequest:
        """Return a request with an access token."""
        path = f"/publishers/anthropic/models/{model}:{'streamRawPredict' if streamed else 'rawPredict'}"
        fields = {"anthropic_version": "vertex-2023-10-16", "stream": streamed}
        return ClaudeRequest(path, {"Authorization": f"Bearer {self.token()}"}, fields)


class ClaudeProvider:
    """Claude's models at one endpoint.

    Args:
        name: the provider's name in records.
    """

    def __init__(self, name: str, endpoint: ClaudeEndpoint, recent: RecentPrompts | None = None) -> None:
        self.name = name
        self._endpoint = endpoint
        self._recent = recent or RecentPrompts()
        self._refused = RefusedParameters(_without, _refused_parameter)

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._endpoint.base_url)

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return whole_chunk(call, self._send(call, streamed=False))

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._send(call, streamed=True)

    def _send(self, call: ModelCall, *, streamed: bool) -> Iterator[Chunk]:
        model = call.model.removeprefix("anthropic/")
        path, headers, fields = self._endpoint.request(model, streamed=streamed)
        headers = {**headers, "Content-Type": "application/json", "User-Agent": "firelaunch"}

        def send(adapted: Body) -> Iterator[Chunk]:
            reader = _Reader(call.model)
            encoded = json.dumps({**fields, **adapted}).encode()
            return relay(self._transport, path, headers, encoded, call.deadline, reader.event, reader.answer)

        return self._refused.send(call.model, self._recent.marked(model, body_of(call)), send)


def _without(body: Body, refused: frozenset[ParameterRefusal]) -> Body:
    """Return a request without what its model or its project refuses."""
    adapted = dict(body)
    names = {refusal.name for refusal in refused if refusal.value is None}
    if "temperature" in names:
        adapted.pop("temperature", None)
    if "strict" in names and "tools" in adapted:
        adapted["tools"] = [{key: value for key, value in tool.items() if key != "strict"} for tool in body["tools"]]
    output = dict(body.get("output_config", {}))
    kind = adapted.get("thinking", {}).get("type")
    if kind is not None and ParameterRefusal("thinking", kind) in refused:
        del adapted["thinking"]
        if kind == "disabled":
            output["effort"] = "low"  # the least that a model thinks which cannot stop thinking
    _set_effort(output, refused)
    if "format" in names and "format" in output:
        rules = {"type": "text", "text": JSON_ALONE + json.dumps(output.pop("format")["schema"])}
        adapted["system"] = [*adapted.get("system", ()), rules]
    adapted.pop("output_config", None)
    return adapted | ({"output_config": output} if output else {})


def _set_effort(output: dict[str, Any], refused: frozenset[ParameterRefusal]) -> None:
    effort = output.pop("effort", None)
    if ParameterRefusal("effort") in refused:
        return
    while effort is not None and ParameterRefusal("effort", effort) in refused:
        effort = nearest_effort(effort)
    if effort is not None:
        output["effort"] = effort


def _refused_parameter(body: Body, error_text: str) -> ParameterRefusal | None:
    """Return the part of ``body`` that an error message names; None if it names nothing that can be left out."""
    words = error_text.lower()
    kind = body.get("thinking", {}).get("type")
    if "temperature" in body and "temperature" in words:
        return ParameterRefusal("temperature")
    if kind is not None and "thinking" in words:
        return ParameterRefusal("thinking", kind)
    if "effort" in words and "effort" in body.get("output_config", {}):
        effort = body["output_config"]["effort"]
        return ParameterRefusal("effort", None if effort == "low" else effort)
    return _refused_schema(body, words)


def _refused_schema(body: Body, words: str) -> ParameterRefusal | None:
    """Return whether the enforcement of a schema is refused: of this one alone, or of every one.

    Vertex AI refuses it unless an organization's policy allows it.
    """
    policy = "structured" in words
    once = not policy and "schema" in words
    if "format" in body.get("output_config", {}) and (policy or once or "output_config" in words):
        return ParameterRefusal("format", once=once)
    strict = any("strict" in tool for tool in body.get("tools", ()))
    return ParameterRefusal("strict", once=once) if strict and (policy or once or "strict" in words) else None


class _Reader:
    """Reads the answer to one call.

    It keeps what Claude thinks until Claude calls a tool, since it has to go back with the tool's result.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._before: list[dict[str, Any]] = []

    def event(self, event: dict[str, Any]) -> Chunk:
        """Return the chunk of one event of a stream; an event of an unknown type is an empty one."""
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._block(table(event.get("content_block")), figure(event.get("index")))
            case "message_start":
                return Chunk(tokens=_tokens(table(table(event.get("message")).get("usage"))))
            case "message_delta":
                finish = finish_of(word(table(event.get("delta")).get("stop_reason")))
                return Chunk(tokens=_tokens(table(event.get("usage"))), finish=finish)
        return Chunk()

    def answer(self, answer: dict[str, Any]) -> Chunk:
        """Return the chunk of an answer in one piece.

        Raises:
            ModelUnavailable: it is not a message of Claude's.
        """
        finish = finish_of(word(answer.get("stop_reason")))
        if finish is None or not isinstance(answer.get("content"), list):
            raise garbled("the provider's answer is no message of Claude's")
        chunks = [self._block(block, number) for number, block in enumerate(items(answer["content"]))]
        words = "".join(chunk.text for chunk in chunks)
        thought = "".join(chunk.thought for chunk in chunks)
        parts = tuple(part for chunk in chunks for part in chunk.parts)
        return ToolChunk(words, _tokens(table(answer.get("usage"))), finish, parts=parts, thought=thought)

    def _delta(self, event: Mapping[str, Any]) -> Chunk:
        delta = table(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                return Chunk(text(delta.get("text")))
            case "input_json_delta":
                part = CallPart(figure(event.get("index")), arguments=text(delta.get("partial_json")))
                return ToolChunk(parts=(part,))
            case "thinking_delta":
                return self._think("thinking", text(delta.get("thinking")))
            case "signature_delta":
                self._think("signature", text(delta.get("signature")))
        return Chunk()

    def _think(self, key: str, piece: str) -> Chunk:
        if self._before and self._before[-1]["type"] == "thinking":
            self._before[-1][key] = self._before[-1].get(key, "") + piece
        return ToolChunk(thought=piece) if key == "thinking" and piece else Chunk()

    def _block(self, block: Mapping[str, Any], index: int | None) -> Chunk:
        """Return the chunk of a block, which is whole in an answer in one piece and only begins in a stream."""
        match block.get("type"):
            case "text":
                self._before.append(dict(TEXT))
                return Chunk(text(block.get("text")))
            case "thinking":
                thought = text(block.get("thinking"))
                self._before.append(
                    {"type": "thinking", "thinking": thought, "signature": text(block.get("signature"))}
                )
                return ToolChunk(thought=thought) if thought else Chunk()
            case "redacted_thinking":
                self._before.append({"type": "redacted_thinking", "data": text(block.get("data"))})
            case "tool_use":
                return ToolChunk(parts=(self._call(block, index),))
        return Chunk()

    def _call(self, block: Mapping[str, Any], index: int | None) -> CallPart:
        # Without a thought, there is nothing to give back: the text is the message's content.
        blocks = [] if all(block == TEXT for block in self._before) else self._before
        signature, self._before = pack_thoughts(self._model, blocks), []
        arguments = json_text(block.get("input") or None)
        return CallPart(index, word(block.get("id")), word(block.get("name")), arguments, signature)


def _tokens(usage: Mapping[str, Any]) -> TokenCounts | None:
    """Return the counts of a usage object; None if it has no figure.

    Unlike others, Claude's API counts cached tokens apart from the prompt's.
    """
    read, written = (figure(usage.get(f"cache_{kind}_input_tokens")) or 0 for kind in ("read", "creation"))
    asked, said = (figure(usage.get(f"{kind}_tokens")) or 0 for kind in ("input", "output"))
    if not any((read, written, asked, said)):
        return None
    thought = figure(table(usage.get("output_tokens_details")).get("thinking_tokens")) or 0
    return TokenCounts(asked + read + written, read, said, cache_write=written, reasoning=min(thought, said))
