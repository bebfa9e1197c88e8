"""The model of a laptop with no key: deterministic, free, and honest about what it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

from ..base import Call, Chunk, Shape, Tokens, estimate_tokens

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
        text = _answer(call) if call.shape is None else _instance(call.shape)
        return Chunk(text, _tokens(call, text), "stop")

    def stream(self, call: Call) -> Iterator[Chunk]:
        """The same answer, word by word."""
        text = _answer(call)
        for word in re.findall(r"\S+\s*", text):
            yield Chunk(word)
            if self._pace:
                time.sleep(self._pace)
        yield Chunk(tokens=_tokens(call, text), finish="stop")


def _answer(call: Call) -> str:
    asked = [m["content"] for m in call.messages if m["role"] == "user"]
    last = " ".join(asked[-1].split()) if asked else ""
    quoted = last if len(last) <= _QUOTE else last[:_QUOTE].rstrip() + "…"
    earlier = f" It is your message number {len(asked)} in this chat." if len(asked) > 1 else ""
    return (
        "I am the offline model, so no model has read this: no provider key is set. "
        f"You wrote: “{quoted}” ({len(last.split())} words).{earlier} "
        "Set OPENAI_API_KEY and start again to have a model answer."
    )


def _instance(shape: Shape) -> str:
    from ..instances import instance

    return json.dumps(instance(shape.schema))


def _tokens(call: Call, text: str) -> Tokens:
    asked = sum(estimate_tokens(m["content"]) for m in call.messages)
    return Tokens(input=asked, output=estimate_tokens(text), estimated=True)
