"""Clients of the ``openai`` package whose calls are this session's: metered, retried, and with the app's fallbacks.

Code that was written for an OpenAI client (pydantic-ai, LangGraph, openai-agents) then runs inside a workflow. The
client talks to no server: its transport turns each chat completion into a call of the session and the answer into
OpenAI's JSON (https://platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import anyio.to_thread
import httpx2
import openai

from ..errors import BadRequest
from .attachments import Attachment
from .shapes import of_schema
from .types import Chunk, Message, Shape, TokenCounts, ToolCall, ToolSpec

__all__ = ["RawCall", "async_client", "sync_client"]

_ADDRESS: Final = "http://firelaunch.invalid/v1"
"""The clients' base URL. Nothing is sent there; ".invalid" is no host (https://www.rfc-editor.org/rfc/rfc2606)."""

_NAMES_OF_LIMIT = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call in the form of OpenAI's chat completions, read.

    Attributes:
        model: as the code names it; the session knows "chat", "cheap" and the settings'.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    may_call: bool = True
    must_call: bool = False
    shape: Shape | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    stream: bool = False


class RawSession(Protocol):
    """A session that takes such calls: :class:`.gateway.ModelSession`."""

    def raw_stream(self, call: RawCall) -> Iterator[Chunk]:
        """Yield the model's answer; its tool calls are the caller's to run."""


def sync_client(session: RawSession) -> openai.OpenAI:
    """Return an OpenAI client whose chat completions are calls of ``session``."""
    return openai.OpenAI(
        api_key="unused", base_url=_ADDRESS, max_retries=0, http_client=httpx2.Client(transport=_Transport(session))
    )


def async_client(session: RawSession) -> openai.AsyncOpenAI:
    """Return the same for asynchronous code. The calls run on threads."""
    return openai.AsyncOpenAI(
        api_key="unused",
        base_url=_ADDRESS,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=_AsyncTransport(session)),
    )


class _Transport(httpx2.BaseTransport):
    def __init__(self, session: RawSession) -> None:
        self._session = session

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the client."""
        return _answer(self._session, request.url.path, request.read())


class _AsyncTransport(httpx2.AsyncBaseTransport):
    def __init__(self, session: RawSession) -> None:
        self._session = session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the client on a thread."""
        body = await request.aread()
        return await anyio.to_thread.run_sync(_answer, self._session, request.url.path, body)


class _Events(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Server-sent events, one for each item."""

    def __init__(self, items: Iterator[dict[str, Any]], close: Callable[[], None]) -> None:
        self._items = (b"data: %b\n\n" % json.dumps(item).encode() for item in items)
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        yield from self._items
        yield b"data: [DONE]\n\n"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await anyio.to_thread.run_sync(next, self._items, b"")) != b"":
            yield item
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """End the model's call."""
        self._close()

    async def aclose(self) -> None:
        """End the model's call."""
        await anyio.to_thread.run_sync(self._close)


def _answer(session: RawSession, path: str, body: bytes) -> httpx2.Response:
    if not path.endswith("/chat/completions"):
        text = f"This client has chat completions alone, and no {path}. For pydantic-ai, use OpenAIChatModel."
        return httpx2.Response(404, json={"error": {"message": text, "code": "not_found"}})
    call = _read(json.loads(body))
    about = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": call.model}
    chunks = session.raw_stream(call)
    if call.stream:
        return httpx2.Response(
            200,
            headers={"Content-Type": "text/event-stream"},
            stream=_Events(_pieces(about, chunks), getattr(chunks, "close", lambda: None)),
        )
    return httpx2.Response(200, json=_whole(about, list(chunks)))


def _read(body: Mapping[str, Any]) -> RawCall:
    """Read the body of a chat completion.

    Raises:
        BadRequest: it asks for something that a session does not do.
    """
    if body.get("n", 1) != 1:
        raise BadRequest("A session's client gives one answer: leave n out.")
    choice = body.get("tool_choice", "auto")
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if isinstance(choice, dict):  # one tool by name
        tools = [tool for tool in tools if tool.name == choice.get("function", {}).get("name")]
    limit = next((body[name] for name in _NAMES_OF_LIMIT if body.get(name) is not None), None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadRequest("The limit of tokens is a whole number above zero.")
    return RawCall(
        model=str(body.get("model", "chat")),
        messages=_messages(body["messages"]),
        tools=tools,
        may_call=choice != "none",
        must_call=choice == "required" or isinstance(choice, dict),
        shape=_shape(body.get("response_format")),
        temperature=body.get("temperature"),
        max_output_tokens=limit,
        stream=bool(body.get("stream")),
    )


def _tool(tool: Mapping[str, Any]) -> ToolSpec:
    function = tool.get("function", {})
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict"):  # in the form that all providers take
        parameters = of_schema(parameters).shape.strict
    return ToolSpec(function["name"], function.get("description") or "", parameters, bool(function.get("strict")))


def _shape(response_format: Mapping[str, Any] | None) -> Shape | None:
    kind = (response_format or {}).get("type", "text")
    if response_format is None or kind == "text":
        return None
    if kind != "json_schema":
        raise BadRequest(f"A session's client knows no response_format {kind}: use json_schema.")
    given = response_format["json_schema"]
    return of_schema(given["schema"], given["name"]).shape


def _messages(given: Sequence[Mapping[str, Any]]) -> list[Message]:
    names: dict[str, str] = {}
    messages: list[Message] = []
    for message in given:
        role, calls = message["role"], [_call(call) for call in message.get("tool_calls") or ()]
        names |= {call.id: call.name for call in calls}
        text, attachments = _content(message.get("content"))
        read: Message = {"role": "system" if role == "developer" else role, "content": text}
        if attachments:
            read["attachments"] = attachments
        if calls:
            read["calls"] = calls
        if role == "tool":
            read["call_id"] = message["tool_call_id"]
            read["name"] = names.get(message["tool_call_id"], "")
        messages.append(read)
    return messages


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(call["id"], function["name"], function.get("arguments") or "{}", call.get("signature"))


def _content(content: Any) -> tuple[str, list[Attachment]]:
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[Attachment] = []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image_url" and part["image_url"]["url"].startswith("data:image/"):
            head, _, data = part["image_url"]["url"].partition(",")
            images.append(Attachment(head.removeprefix("data:").partition(";")[0], b64decode(data)))
        else:
            raise BadRequest(f"A session's client takes texts and images in data: URLs, and no {part['type']}.")
    return "\n".join(texts), images


def _whole(about: Mapping[str, Any], chunks: Sequence[Chunk]) -> dict[str, Any]:
    calls = [_as_json(call) for chunk in chunks for call in chunk.calls]
    text = "".join(chunk.text for chunk in chunks)
    message = {"role": "assistant", "content": text or None, "refusal": None}
    choice = {"index": 0, "message": message | ({"tool_calls": calls} if calls else {}), "logprobs": None}
    choice["finish_reason"] = _finish([chunk.finish for chunk in chunks], calls)
    return {**about, "object": "chat.completion", "choices": [choice], "usage": _usage(chunks)}


def _pieces(about: Mapping[str, Any], chunks: Iterator[Chunk]) -> Iterator[dict[str, Any]]:
    def piece(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**about, "object": "chat.completion.chunk", "choices": [choice]}

    seen: list[Chunk] = []
    calls: list[dict[str, Any]] = []
    for chunk in chunks:
        seen.append(chunk)
        if chunk.text:
            yield piece({"role": "assistant", "content": chunk.text})
        for call in chunk.calls:
            calls.append({"index": len(calls), **_as_json(call)})
            yield piece({"role": "assistant", "tool_calls": [calls[-1]]})
    yield piece({}, _finish([chunk.finish for chunk in seen], calls))
    yield {**about, "object": "chat.completion.chunk", "choices": [], "usage": _usage(seen)}


def _as_json(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    # Frameworks hand unknown fields back or drop them; Gemini 3 and Claude do better with their signature.
    signature = {} if call.signature is None else {"signature": call.signature}
    return {"id": call.id, "type": "function", "function": function, **signature}


def _finish(finishes: Sequence[str | None], calls: Sequence[Any]) -> str:
    finish = next((finish for finish in reversed(finishes) if finish), "stop")
    if calls:
        return "tool_calls"
    return finish if finish in {"stop", "length", "content_filter"} else "stop"


def _usage(chunks: Sequence[Chunk]) -> dict[str, Any]:
    tokens = TokenCounts()
    for chunk in chunks:
        tokens = tokens if chunk.tokens is None else chunk.tokens.at_least(tokens)
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_input},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }
