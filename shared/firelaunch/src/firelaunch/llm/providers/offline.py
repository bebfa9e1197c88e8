"""The model of a laptop with no key: deterministic, free, and honest about what it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from ..types import CallPart, Chunk, ModelCall, Shape, TokenCounts, ToolChunk, ToolSpec, token_bound

__all__ = ["OfflineProvider"]

_QUOTE = 200
_PASSAGE_QUOTE = 400

_BYTES_A_TOKEN = 4
"""This model has no tokenizer; so many letters of English are a token of other models, about."""


class OfflineProvider:
    """Answers from a fixed form and the message alone.

    Args:
        pace: seconds between two words of a stream, so that a page shows a stream as it would come from a model.
    """

    name = "offline"

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace

    def complete(self, call: ModelCall) -> Chunk:
        """The whole answer at once."""
        part = _tool_call(call)
        text = "" if part else _answer(call) if call.shape is None else _instance(call.shape)
        return ToolChunk(
            text, _tokens(call, text, part), "tool_calls" if part else "stop", parts=(part,) if part else ()
        )

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """The same answer, word by word."""
        whole = self.complete(call)
        for word in re.findall(r"\S+\s*", whole.text):
            yield Chunk(word)
            if self._pace:
                time.sleep(self._pace)
        yield replace(whole, text="")


def _tool_call(call: ModelCall) -> CallPart | None:
    """A call of the first tool whose name is in the message, as it is or in words ("get weather"); once a message."""
    if not call.may_call or not call.messages or call.messages[-1]["role"] != "user":
        return None
    said = " ".join(re.findall(r"\w+", call.messages[-1]["content"].lower()))
    for tool in call.tools:
        if tool.name.lower() in said or tool.name.lower().replace("_", " ") in said:
            return CallPart(0, "call_offline", tool.name, _arguments(tool))
    return None


def _arguments(tool: ToolSpec) -> str:
    from .offline_values import instance

    return json.dumps(instance(tool.parameters))


# As firelaunch shows passages to any model; the mark is in no passage, so none can end before its end.
_PASSAGE = re.compile(r"<passage-([0-9a-f]{16}) number=(\d+) [^\n]*>\n(.*?)\n</passage-\1>", re.DOTALL)
_NOTE = re.compile(r"^About the search: (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
_CITES = re.compile(r"[\[\]\u3010\u3011`]")
_QUESTION = "The user's message follows.\n\n"


def _answer(call: ModelCall) -> str:
    if call.messages and call.messages[-1]["role"] == "tool":
        result = _quoted(call.messages[-1]["content"])
        return f"I am the offline model, so no model has read this. The tool {call.messages[-1]['name']} said: {result}"
    asked = [m["content"] for m in call.messages if m["role"] == "user"]
    if asked and _QUESTION in asked[-1]:
        return _of_passages(asked[-1])
    last = " ".join(asked[-1].split()) if asked else ""
    words = len(last.split())
    earlier = f" It is your message number {len(asked)} in this chat." if len(asked) > 1 else ""
    return (
        "I am the offline model, so no model has read this: no provider key is set. "
        f"You wrote: {_quoted(last)} ({words} {'word' if words == 1 else 'words'}).{earlier} "
        "Set OPENAI_API_KEY and start again to have a model answer."
    )


def _quoted(text: str) -> str:
    return f"“{text if len(text) <= _QUOTE else text[:_QUOTE].rstrip() + '…'}”"


def _of_passages(content: str) -> str:
    """The passage that fits best by its rank, in the words that share most with the question; no model has read it."""
    passages = [(number, text) for _, number, text in _PASSAGE.findall(content)]
    told, _, question = _PASSAGE.sub("", content).partition(_QUESTION)
    note = _NOTE.search(told)
    about = f" {note[1]}" if note else ""
    if not passages:
        return f"I am the offline model. No passage in the documents fits your question.{about}"
    number, text = passages[0]
    return (
        f"The passage that fits best says: “{_best(text, question)}” [{number}]\n\n"
        f"I am the offline model: I quote, and have read nothing, since no provider key is set.{about}"
    )


def _best(text: str, question: str) -> str:
    """The stretch of a passage, of whole sentences where they are short, that has most words of the question."""
    wanted = set(re.findall(r"\w{3,}", question.lower()))
    sentences = [found.strip() for found in _SENTENCE.findall(_CITES.sub("", " ".join(text.split()))) if found.strip()]
    if not sentences:
        return ""

    def hits(first: int) -> int:
        return len(wanted & set(re.findall(r"\w{3,}", " ".join(sentences[first : first + 2]).lower())))

    first = max(range(len(sentences)), key=lambda at: (hits(at), -at))
    said = " ".join(sentences[first : first + 3])
    return said if len(said) <= _PASSAGE_QUOTE else said[:_PASSAGE_QUOTE].rsplit(" ", 1)[0] + " …"


def _instance(shape: Shape) -> str:
    from .offline_values import instance

    return json.dumps(instance(shape.schema))


def _tokens(call: ModelCall, text: str, part: CallPart | None) -> TokenCounts:
    written = text + (part.name + part.arguments if part else "")
    sent = token_bound(call.messages, call.shape, call.tools)
    return TokenCounts(
        input=-(-sent // _BYTES_A_TOKEN), output=-(-len(written.encode()) // _BYTES_A_TOKEN), estimated=True
    )
