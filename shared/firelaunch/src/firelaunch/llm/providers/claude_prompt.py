"""Write a call as the body of Anthropic's Messages API (https://platform.claude.com/docs/en/api/messages).

Claude signs what it thinks, and needs its thoughts back, unchanged and in their place, with the results of the tools
that it called. They travel with the first tool call after them: see :mod:`.thoughts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import from_json

from ..attachments import Attachment
from ..claude_models import LEAST_BUDGET, accepts_temperature, thinking_of
from ..types import Message, ModelCall, ToolCall, ToolSpec
from .thoughts import unpack_thoughts

__all__ = ["JSON_ALONE", "TEXT", "body_of"]

Block = Mapping[str, Any]

TEXT: Final[Block] = {"type": "text"}
"""Stands for the answer's text among its thoughts; the text itself is the message's content."""

JSON_ALONE: Final = "Answer with JSON alone, without a code fence around it. It has to fit this JSON schema:\n"
"""Asks for a structured answer where the API cannot be told to enforce its schema."""

_BUDGET_SHARES = {"minimal": 0.0, "low": 0.25, "medium": 0.5}
"""The part of the tokens for thinking that an effort may use, on models with a budget; all others use all of them."""

_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any"}

_NO_TOOL_ID = re.compile(r"[^a-zA-Z0-9_-]")

_UNENFORCED = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern", "maxItems", "minItems",
)  # fmt: skip
"""Keywords of strict schemas that Claude's API refuses; the description states them, and the answer is checked later.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations.
"""


def body_of(call: ModelCall) -> dict[str, Any]:
    """Return the body for a call, without the fields that depend on where Claude is called."""
    system = "\n\n".join(message["content"] for message in call.messages if message["role"] == "system")
    body: dict[str, Any] = {"max_tokens": call.most_tokens, "messages": _messages(call)}
    if system.strip():
        body["system"] = [{"type": "text", "text": system}]
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
        body["tool_choice"] = {"type": _TOOL_CHOICES[call.tool_choice]}
    thinking, effort = _thinking(call)
    if thinking is not None:
        body["thinking"] = thinking
    output: dict[str, Any] = {"effort": effort} if effort is not None else {}
    if call.shape is not None:
        output |= {"format": {"type": "json_schema", "schema": _plain(call.shape.strict)}}
    if output:
        body["output_config"] = output
    thinks = thinking is not None and thinking["type"] != "disabled"
    if call.temperature is not None and not thinks and accepts_temperature(call.model):
        body["temperature"] = min(call.temperature, 1.0)  # Claude's range ends there; others' end at 2
    return body


def _thinking(call: ModelCall) -> tuple[dict[str, Any] | None, str | None]:
    """Return how Claude should think, and the effort of all that it writes; None for the model's own default."""
    kind, effort = thinking_of(call.model), call.effort
    if kind == "budget":
        return _budget(call), None
    adaptive = {"type": "adaptive"} | ({"display": "summarized"} if call.show_thinking else {})
    if effort is None:
        # What a model does by default is asked for only to see its thoughts.
        return adaptive if call.show_thinking and kind != "optional" else None, None
    if effort != "none":
        return adaptive, "low" if effort == "minimal" else effort
    if kind == "always":
        return adaptive if call.show_thinking else None, "low"
    return {"type": "between_tools" if kind == "between_tools" else "disabled"}, None


def _budget(call: ModelCall) -> dict[str, Any] | None:
    if call.effort in {None, "none"} or call.thinking_tokens < LEAST_BUDGET or _is_interrupted(call):
        return None
    share = _BUDGET_SHARES.get(call.effort or "", 1.0)
    return {"type": "enabled", "budget_tokens": max(LEAST_BUDGET, int(share * call.thinking_tokens))}


def _is_interrupted(call: ModelCall) -> bool:
    """Return whether the call goes on from tool calls that this model did not think about.

    Such a turn is another model's, which gave up. Models with a budget refuse to begin to think in the middle of it.
    """
    latest = next((message for message in reversed(call.messages) if message["role"] == "assistant"), None)
    calls = latest.get("calls", ()) if latest is not None else ()
    return bool(calls) and not list(unpack_thoughts(calls[0].signature, call.model))


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = _plain(tool.parameters)
    return {"name": tool.name, "description": tool.description, "input_schema": schema, "strict": tool.strict}


def _plain(node: Any) -> Any:
    """Return a strict schema whose unenforced keywords are moved to the descriptions."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    names = {"properties", "$defs"}
    plain = {
        key: {name: _plain(child) for name, child in value.items()} if key in names else _plain(value)
        for key, value in node.items()
        if key not in {"enum", "const", "default", "examples"}
    }
    plain |= {key: node[key] for key in ("enum", "const") if key in node}
    limits = {key: plain.pop(key) for key in _UNENFORCED if key in plain}
    if limits:
        note = ", ".join(f"{key}: {json.dumps(value)}" for key, value in limits.items())
        plain["description"] = f"{plain.get('description') or ''} ({note})".lstrip()
    return plain


def _messages(call: ModelCall) -> list[dict[str, Any]]:
    """Return all messages but the system's. Results of calls that were made together go back in one message."""
    messages: list[dict[str, Any]] = []
    for message in call.messages:
        if message["role"] == "system":
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = _blocks(message, call.model)
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})
    return messages


def _blocks(message: Message, model: str) -> list[dict[str, Any]]:
    words = [{"type": "text", "text": message["content"]}] if message["content"].strip() else []
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": _tool_id(message["call_id"]), "content": message["content"]}]
    files = [_file(each) for each in message.get("attachments", ())]
    return [*files, *_call_blocks(message.get("calls", ()), model, words), *words]


def _file(attachment: Attachment) -> dict[str, Any]:
    source = {"type": "base64", "media_type": attachment.media_type, "data": attachment.base64}
    if attachment.kind == "pdf":
        title = {"title": attachment.name} if attachment.name else {}
        return {"type": "document", "source": source, **title}
    return {"type": "image", "source": source}


def _call_blocks(calls: Sequence[ToolCall], model: str, words: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the blocks of tool calls and the thoughts before them, and move ``words`` to their place among them."""
    for call in calls:
        for block in unpack_thoughts(call.signature, model):
            if block != TEXT:
                yield dict(block)
            elif words:
                yield words.pop()
        if words:
            yield words.pop()
        yield {"type": "tool_use", "id": _tool_id(call.id), "name": call.name, "input": _input(call.arguments)}


def _tool_id(call_id: str) -> str:
    """Return an id of a call in Claude's alphabet, since another model may have made it."""
    return _NO_TOOL_ID.sub("_", call_id)


def _input(arguments: str) -> dict[str, Any]:
    try:
        value = from_json(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
