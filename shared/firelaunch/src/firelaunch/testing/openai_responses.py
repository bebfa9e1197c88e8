"""Serve OpenAI's Responses API on a real socket: stream as OpenAI does, and refuse what OpenAI refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .chat_rules import chat_problem, file_part_problem
from .file_rules import IMAGES, data_url_problem
from .http import HttpAnswer, JsonServer

__all__ = ["ResponsesReply", "ResponsesServer"]

_FIELDS = {
    "model", "input", "instructions", "max_output_tokens", "store", "include", "reasoning", "temperature", "text",
    "tools", "tool_choice", "stream", "service_tier",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResponsesReply:
    """An answer.

    Args:
        words: the text, in the pieces that a stream sends.
        thoughts: the summary of what the model thought before.
        usage: (input, cached input, output, reasoning) tokens.
        calls: (name, arguments) of the functions that the model calls after the text.
        incomplete: the reason why the answer is not whole; refusal: whether the text is the model's refusal.
        cut: whether the connection ends before the last event; failed: whether the response fails there.
        pause: seconds between two events of a stream.
    """

    words: Sequence[str] = ("Hello", " from", " OpenAI.")
    thoughts: str = ""
    usage: tuple[int, int, int, int] = (10, 0, 4, 0)
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    incomplete: str = ""
    refusal: bool = False
    cut: bool = False
    failed: bool = False
    pause: float = 0.0


class ResponsesServer(JsonServer):
    """A server that answers with ``replies`` in order, and then with ``default``. ``base_url`` ends in ``/v1``."""

    def __init__(self, default: ResponsesReply = ResponsesReply()) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"
        self.default = default
        self.replies: list[ResponsesReply] = []

    def answer(self, path: str, body: Any) -> Any:
        """Return the next reply, after the checks that OpenAI makes."""
        problem = "no such route" if path != "v1/responses" else _problem(body)
        if problem is not None:
            error = {"message": problem, "type": "invalid_request_error", "param": None, "code": None}
            return HttpAnswer(400, {"error": error})
        reply = self.replies.pop(0) if self.replies else self.default
        if not body.get("stream"):
            return HttpAnswer(0, None) if reply.cut else _response(reply, body)
        events = list(_events(reply, body))
        if reply.cut:
            events.pop()
        sent = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        stream = _paced(sent, reply.pause) if reply.pause else b"".join(sent)
        return HttpAnswer(200, stream, {"Content-Type": "text/event-stream; charset=utf-8"})


def _problem(body: Mapping[str, Any]) -> str | None:
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        return f"Unknown parameter: '{unknown[0]}'."
    if not body.get("input"):
        return "Missing required parameter: 'input'."
    if body.get("max_output_tokens", 16) < 16:
        return "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16."
    if body.get("store") is not False or body.get("include") != ["reasoning.encrypted_content"]:
        return "encrypted content of reasoning takes store=false"
    if "temperature" in body:
        return "Unsupported parameter: 'temperature' is not supported with this model."
    return _content_problem(body["input"]) or _order_problem(body["input"]) or _schema_problem(body)


def _content_problem(given: Sequence[Mapping[str, Any]]) -> str | None:
    parts = [part for item in given if isinstance(item.get("content"), list) for part in item["content"]]
    problems = (_part_problem(part) for part in parts)
    return next(filter(None, problems), None)


def _part_problem(part: Mapping[str, Any]) -> str | None:
    match part["type"]:
        case "input_text":
            return None
        case "input_image":
            problem = data_url_problem(part["image_url"], IMAGES, 50_000_000)
            return None if problem is None else f"Invalid 'image_url': {problem}."
        case "input_file":
            return file_part_problem({name: part[name] for name in part if name != "type"})
    kinds = "'input_text', 'input_image' and 'input_file'"
    return f"Invalid value: '{part['type']}'. Supported values are: {kinds}."


def _order_problem(given: Sequence[Mapping[str, Any]]) -> str | None:
    called: set[str] = set()
    answered: set[str] = set()
    for number, item in enumerate(given):
        kind = item.get("type", "message")
        after = given[number + 1].get("type") if number + 1 < len(given) else None
        if kind == "reasoning" and (after not in {"function_call", "reasoning"} or not _signed(item)):
            return f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
        if kind == "function_call":
            called.add(item["call_id"])
        if kind == "function_call_output":
            if item["call_id"] not in called:
                return f"No tool call found for function call output with call_id {item['call_id']}."
            answered.add(item["call_id"])
    missing = sorted(called - answered)
    return f"No tool output found for function call {missing[0]}." if missing else None


def _signed(item: Mapping[str, Any]) -> bool:
    return str(item.get("encrypted_content", "")).startswith("encrypted-") and "summary" in item


def _schema_problem(body: Mapping[str, Any]) -> str | None:
    names = ("name", "description", "parameters", "strict")
    tools = [{"type": "function", "function": {n: tool[n] for n in names}} for tool in body.get("tools", ())]
    chat: dict[str, Any] = {"messages": [], **({"tools": tools} if tools else {})}
    shape = body.get("text", {}).get("format")
    if shape is not None:
        chat["response_format"] = {"type": "json_schema", "json_schema": {k: shape[k] for k in shape if k != "type"}}
    return chat_problem(chat)


def _output(reply: ResponsesReply) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = []
    if reply.thoughts:
        summary = [{"type": "summary_text", "text": reply.thoughts}]
        encrypted = "encrypted-" + reply.thoughts[::-1]
        output.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": encrypted})
    if reply.words:
        text = "".join(reply.words)
        part = {"type": "refusal", "refusal": text} if reply.refusal else {"type": "output_text", "text": text}
        output.append({"type": "message", "id": "msg_1", "role": "assistant", "content": [part]})
    for number, (name, arguments) in enumerate(reply.calls):
        call = {"call_id": f"call_{number}", "name": name, "arguments": json.dumps(arguments)}
        output.append({"type": "function_call", "id": f"fc_{number}", **call})
    return output


def _response(reply: ResponsesReply, body: Mapping[str, Any]) -> dict[str, Any]:
    asked, cached, said, thought = reply.usage
    status = "failed" if reply.failed else "incomplete" if reply.incomplete else "completed"
    return {
        "id": "resp_1",
        "object": "response",
        "model": body["model"],
        "status": status,
        "error": {"code": "server_error", "message": "scripted"} if reply.failed else None,
        "incomplete_details": {"reason": reply.incomplete} if reply.incomplete else None,
        "output": _output(reply),
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": asked + said,
        },
    }


def _events(reply: ResponsesReply, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    whole = _response(reply, body)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
    yield {"type": "response.created", "response": begun, "sequence_number": 0}
    for index, item in enumerate(whole["output"]):
        empty = {key: value for key, value in item.items() if key != "content"}
        yield {"type": "response.output_item.added", "output_index": index, "item": {**empty, **_emptied(item)}}
        for kind, delta in _deltas(item, reply):
            yield {"type": kind, "output_index": index, "delta": delta, "sequence_number": index + 1}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{whole['status']}", "response": whole}


def _emptied(item: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "reasoning": {"summary": [], "encrypted_content": "encrypted-"},
        "function_call": {"arguments": ""},
    }
    return empty.get(item["type"], {"content": []})


def _deltas(item: Mapping[str, Any], reply: ResponsesReply) -> Iterator[tuple[str, str]]:
    if item["type"] == "message":
        kind = "response.refusal.delta" if reply.refusal else "response.output_text.delta"
        yield from ((kind, piece) for piece in reply.words)
    elif item["type"] == "reasoning":
        yield "response.reasoning_summary_text.delta", reply.thoughts
    else:
        arguments = item["arguments"]
        for start in range(0, len(arguments), 4):
            yield "response.function_call_arguments.delta", arguments[start : start + 4]


def _paced(pieces: list[bytes], pause: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(pause)
