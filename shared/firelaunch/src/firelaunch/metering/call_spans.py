"""The span of one model call. Each call that has a record has one, with the cost that the record has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..llm.types import FinishedCall, Message
from ..telemetry import names
from ..telemetry.spans import Span

__all__ = ["trace_call"]


def trace_call(call: FinishedCall, parent: Span) -> None:
    """Record a call that has ended.

    Args:
        parent: the nearest span that the call is a part of.
    """
    began = call.ended_at - round(call.seconds * 1e9)
    span = parent.child(f"{call.operation} {call.model}", _attributes(call), "client", began)
    if call.asked or call.answered:
        span.set(names.INPUT_MESSAGES, json.dumps([_shown(message) for message in call.asked], ensure_ascii=False))
        span.set(names.OUTPUT_MESSAGES, json.dumps([_answer(call)], ensure_ascii=False))
    if call.error is not None:
        span.fail(call.error)
    span.end(call.ended_at)


def _attributes(call: FinishedCall) -> dict[str, Any]:
    tokens = call.tokens
    attributes: dict[str, Any] = {
        names.OPERATION: call.operation,
        names.PROVIDER: names.PROVIDERS.get(call.provider, call.provider or "unknown"),
        names.MODEL: call.model,
        names.INPUT_TOKENS: tokens.input,
        names.COST: call.micro_usd,
        names.COST_DOLLARS: call.micro_usd / 1_000_000,
        names.PURPOSE: call.purpose,
    }
    if call.operation == names.CHAT:
        attributes |= {names.OUTPUT_TOKENS: tokens.output, names.STEP: call.step}
        attributes[names.FINISH_REASONS] = [call.finish or "error"]
    if call.first_token_seconds is not None:
        attributes |= {names.STREAM: True, names.FIRST_CHUNK: call.first_token_seconds}
    sometimes = {
        names.CACHE_READ_TOKENS: tokens.cached_input,
        names.CACHE_WRITE_TOKENS: tokens.cache_write,
        names.REASONING_TOKENS: tokens.reasoning,
        names.PROMPT: call.prompt,
    }
    return attributes | {name: value for name, value in sometimes.items() if value}


def _shown(message: Message) -> dict[str, Any]:
    parts: Sequence[dict[str, Any]] = [{"type": "text", "content": message["content"]}]
    if message["role"] == "tool":
        parts = [{"type": "tool_call_response", "id": message.get("call_id"), "response": message["content"]}]
    calls = [
        {"type": "tool_call", "id": each.id, "name": each.name, "arguments": each.arguments}
        for each in message.get("calls", ())
    ]
    return {"role": message["role"], "parts": [*parts, *calls]}


def _answer(call: FinishedCall) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "content": call.answered}]}
