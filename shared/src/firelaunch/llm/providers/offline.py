"""The model of a laptop with no key: deterministic, free, and honest about what it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from ..base import Call, CallPart, Chunk, Shape, Tokens, ToolSpec, asked_tokens, estimate_tokens

__all__ = ["OfflineProvider"]

_QUOTE = 200


class OfflineProvider:
    """Answers from a fixed form and the message alone.

    Args:
        pace: seconds between two words of a stream, so that a page shows a stream as it would come from a model.
    """

    name = "offline"

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace

    def complete(self, call: Call) -> Chunk:
        """The whole answer at once."""
        part = _tool_call(call)
        text = "" if part else _answer(call) if call.shape is None else _instance(call.shape)
        return Chunk(text, _tokens(call, text, part), "tool_calls" if part else "stop", (part,) if part else ())

    def stream(self, call: Call) -> Iterator[Chunk]:
        """The same answer, word by word."""
        whole = self.complete(call)
        for word in re.findall(r"\S+\s*", whole.text):
            yield Chunk(word)
            if self._pace:
                time.sleep(self._pace)
        yield replace(whole, text="")


def _tool_call(call: Call) -> CallPart | None:
    """A call of the first tool whose name is in the message, as it is or in words ("get weather"); once a message."""
    if not call.may_call or not call.messages or call.messages[-1]["role"] != "user":
        return None
    said = " ".join(re.findall(r"\w+", call.messages[-1]["content"].lower()))
    for tool in call.tools:
        if tool.name.lower() in said or tool.name.lower().replace("_", " ") in said:
            return CallPart(0, "call_offline", tool.name, _arguments(tool))
    return None


def _arguments(tool: ToolSpec) -> str:
    from ..instances import instance

    return json.dumps(instance(tool.parameters))


def _answer(call: Call) -> str:
    if call.messages and call.messages[-1]["role"] == "tool":
        result = _quoted(call.messages[-1]["content"])
        return f"I am the offline model, so no model has read this. The tool {call.messages[-1]['name']} said: {result}"
    asked = [m["content"] for m in call.messages if m["role"] == "user"]
    last = " ".join(asked[-1].split()) if asked else ""
    earlier = f" It is your message number {len(asked)} in this chat." if len(asked) > 1 else ""
    return (
        "I am the offline model, so no model has read this: no provider key is set. "
        f"You wrote: {_quoted(last)} ({len(last.split())} words).{earlier} "
        "Set OPENAI_API_KEY and start again to have a model answer."
    )


def _quoted(text: str) -> str:
    return f"“{text if len(text) <= _QUOTE else text[:_QUOTE].rstrip() + '…'}”"


def _instance(shape: Shape) -> str:
    from ..instances import instance

    return json.dumps(instance(shape.schema))


def _tokens(call: Call, text: str, part: CallPart | None) -> Tokens:
    written = text + (part.name + part.arguments if part else "")
    return Tokens(input=asked_tokens(call), output=estimate_tokens(written), estimated=True)
