"""The model of a laptop with no key: deterministic, free, and honest about what it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

from ..base import Call, Chunk, Shape, Tokens, estimate_tokens

__all__ = ["OfflineProvider"]

_QUOTE = 200
_PASSAGE_QUOTE = 400


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


# As firelaunch shows passages to any model; the mark is in no passage, so none can end before its end.
_PASSAGE = re.compile(r"<passage-([0-9a-f]{16}) number=(\d+) [^\n]*>\n(.*?)\n</passage-\1>", re.DOTALL)
_NOTE = re.compile(r"^About the search: (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
_CITES = re.compile(r"[\[\]\u3010\u3011`]")
_QUESTION = "The user's message follows.\n\n"


def _answer(call: Call) -> str:
    asked = [m["content"] for m in call.messages if m["role"] == "user"]
    if asked and _QUESTION in asked[-1]:
        return _quoted(asked[-1])
    last = " ".join(asked[-1].split()) if asked else ""
    quoted = last if len(last) <= _QUOTE else last[:_QUOTE].rstrip() + "…"
    earlier = f" It is your message number {len(asked)} in this chat." if len(asked) > 1 else ""
    return (
        "I am the offline model, so no model has read this: no provider key is set. "
        f"You wrote: “{quoted}” ({len(last.split())} words).{earlier} "
        "Set OPENAI_API_KEY and start again to have a model answer."
    )


def _quoted(content: str) -> str:
    """The passage that fits best by its rank, in the words that share most with the question; no model has read it."""
    passages = [(number, text) for _, number, text in _PASSAGE.findall(content)]
    told, _, question = _PASSAGE.sub("", content).partition(_QUESTION)
    note = _NOTE.search(told)
    about = f" {note[1]}" if note else ""
    if not passages:
        return f"I am the offline model. No passage in the documents fits your question.{about}"
    number, text = passages[0]
    others = "".join(f"[{other}]" for other, _ in passages[1:3])
    more = f" See also {others}." if others else ""
    return (
        f"The passage that fits best says: “{_best(text, question)}” [{number}]{more}\n\n"
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
    from ..instances import instance

    return json.dumps(instance(shape.schema))


def _tokens(call: Call, text: str) -> Tokens:
    asked = sum(estimate_tokens(m["content"]) for m in call.messages)
    return Tokens(input=asked, output=estimate_tokens(text), estimated=True)
