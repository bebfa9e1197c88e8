"""The model for laptops without a key: deterministic, free, and open about being no real model."""

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
"""Bytes of English text to a token of other models, roughly; this model has no tokenizer."""


class OfflineProvider:
    """A provider that answers in fixed sentences, from the messages alone.

    Args:
        pace: seconds between two words of a stream, so that a page shows a stream like a real model's.
    """

    name = "offline"

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer at once."""
        part = _tool_call(call)
        text = "" if part else _answer(call) if call.shape is None else _instance(call.shape)
        return ToolChunk(
            text, _tokens(call, text, part), "tool_calls" if part else "stop", parts=(part,) if part else ()
        )

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the whole answer word by word."""
        answer = self.complete(call)
        for word in re.findall(r"\S+\s*", answer.text):
            yield Chunk(word)
            if self._pace:
                time.sleep(self._pace)
        yield replace(answer, text="")


def _tool_call(call: ModelCall) -> CallPart | None:
    """Return a call of the first tool that the message names, literally or in words ("get weather"); once a message."""
    if not call.may_call or not call.messages or call.messages[-1]["role"] != "user":
        return None
    words = " ".join(re.findall(r"\w+", call.messages[-1]["content"].lower()))
    for tool in call.tools:
        if tool.name.lower() in words or tool.name.lower().replace("_", " ") in words:
            return CallPart(0, "call_offline", tool.name, _arguments(tool))
    return None


def _arguments(tool: ToolSpec) -> str:
    from .offline_values import instance

    return json.dumps(instance(tool.parameters))


# The form in which firelaunch shows passages to models. No passage contains the mark, so none can end early.
_PASSAGE = re.compile(r"<passage-([0-9a-f]{16}) number=(\d+) [^\n]*>\n(.*?)\n</passage-\1>", re.DOTALL)
_NOTE = re.compile(r"^About the search: (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
# As in :mod:`firelaunch.rag.citations`: "[1]", "[1, 2]", "[^1]". A number right after a word is an index: "items[0]".
_CITES = re.compile(r"[ \t]?[\[\u3010]\^?\d{1,4}(?:[ \t]?[,;\u2013-][ \t]?\^?\d{1,4}){0,9}[\]\u3011]|[\u3010\u3011]")
_INDEXED = re.compile(r"([\w.]{0,80}\w(?:\[\d{1,4}\]){1,9})")
_QUESTION = "The user's message follows.\n\n"


def _answer(call: ModelCall) -> str:
    if call.messages and call.messages[-1]["role"] == "tool":
        result = _quote(call.messages[-1]["content"])
        return f"I am the offline model, so no model has read this. The tool {call.messages[-1]['name']} said: {result}"
    user_messages = [m["content"] for m in call.messages if m["role"] == "user"]
    if user_messages and _QUESTION in user_messages[-1]:
        return _answer_from_passages(user_messages[-1])
    last = " ".join(user_messages[-1].split()) if user_messages else ""
    words = len(last.split())
    earlier = f" It is your message number {len(user_messages)} in this chat." if len(user_messages) > 1 else ""
    return (
        "I am the offline model, so no model has read this: no provider key is set. "
        f"You wrote: {_quote(last)} ({words} {'word' if words == 1 else 'words'}).{earlier} "
        "Set OPENAI_API_KEY and start again to have a model answer."
    )


def _quote(text: str) -> str:
    return f"“{text if len(text) <= _QUOTE else text[:_QUOTE].rstrip() + '…'}”"


def _answer_from_passages(content: str) -> str:
    """Quote the best-ranked passage, in the sentences that share most words with the question."""
    passages = [(number, text) for _, number, text in _PASSAGE.findall(content)]
    preface, _, question = _PASSAGE.sub("", content).partition(_QUESTION)
    note = _NOTE.search(preface)
    note_text = f" {note[1]}" if note else ""
    if not passages:
        return f"I am the offline model. No passage in the documents fits your question.{note_text}"
    number, text = passages[0]
    return (
        f"The passage that fits best says: “{_best(text, question)}” [{number}]\n\n"
        f"I am the offline model: I quote, and have read nothing, since no provider key is set.{note_text}"
    )


def _best(text: str, question: str) -> str:
    """Return the sentences of a passage that share most words with the question, shortened if they are long."""
    question_words = set(re.findall(r"\w{3,}", question.lower()))
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(_without_cites(text)) if sentence.strip()]
    if not sentences:
        return ""

    def hits(first: int) -> int:
        return len(question_words & set(re.findall(r"\w{3,}", " ".join(sentences[first : first + 2]).lower())))

    first = max(range(len(sentences)), key=lambda at: (hits(at), -at))
    quote = " ".join(sentences[first : first + 3])
    return quote if len(quote) <= _PASSAGE_QUOTE else quote[:_PASSAGE_QUOTE].rsplit(" ", 1)[0] + " …"


def _without_cites(text: str) -> str:
    """Return a passage's text in one line, in which nothing cites a passage and nothing is a link of Markdown."""
    line = " ".join(text.replace("`", "").split()).replace("](", "] (")
    parts = _INDEXED.split(line)  # each second one is an index; as code, it cites nothing
    return "".join(f"`{part}`" if number % 2 else _uncited(part) for number, part in enumerate(parts))


def _uncited(text: str) -> str:
    while (fewer := _CITES.sub("", text)) != text:  # what is left of "[[1]2]" is one again
        text = fewer
    return text


def _instance(shape: Shape) -> str:
    from .offline_values import instance

    return json.dumps(instance(shape.schema))


def _tokens(call: ModelCall, text: str, part: CallPart | None) -> TokenCounts:
    output_text = text + (part.name + part.arguments if part else "")
    input_tokens = token_bound(call.messages, call.shape, call.tools)
    return TokenCounts(
        input=-(-input_tokens // _BYTES_A_TOKEN), output=-(-len(output_text.encode()) // _BYTES_A_TOKEN), estimated=True
    )
