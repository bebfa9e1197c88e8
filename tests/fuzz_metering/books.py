"""A model server that writes down what it charges, by docs/metering.md and with none of the product's own code."""

from __future__ import annotations

import json
import math
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pypdfium2
from firelaunch.testing.models import Action, Fault, ModelServer, Reply
from genai_prices import Usage, calc_price

__all__ = ["Attempt", "Books", "dense_tokens"]

_RUNS = re.compile(r"[A-Za-z]+|[^A-Za-z]+")


@dataclass(slots=True)
class Attempt:
    """One send of one message: how the server is to answer its calls, and what it charged for them.

    ``owed`` is what is to be settled by docs/metering.md: what was charged, or a bound where the server did not say.
    ``silent`` is called when a call is on its way that will be answered with silence.
    """

    script: list[Action]
    silent: Callable[[], None]
    charged: int = 0
    owed: int = 0
    calls: int = 0
    models: dict[str, int] = field(default_factory=dict)
    """The costs owed, by model."""

    def enter(self, model: str, charged: int, owed: int) -> None:
        """Enter a call."""
        self.charged += charged
        self.owed += owed
        self.models[model] = self.models.get(model, 0) + owed


@dataclass(slots=True)
class _Open:
    attempts: dict[str, Attempt] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Books(ModelServer):
    """Answers each call as the attempt that its message belongs to says; the message's first word is the key."""

    def __init__(self) -> None:
        super().__init__()
        self._open = _Open()

    def expect(self, key: str, script: list[Action], silent: Callable[[], None] = lambda: None) -> Attempt:
        """Take the calls of message ``key`` from now on as those of a new attempt."""
        attempt = Attempt(script, silent)
        with self._open.lock:
            self._open.attempts[key] = attempt
        return attempt

    def _next(self, request: dict[str, Any], authorization: str) -> Action:  # noqa: ARG002 - the server's own signature
        asked = [_text(m["content"]) for m in reversed(request["messages"]) if m["role"] == "user"]
        # A request to go on with an answer is the user's last message, and has no key. In a chat of a group, a
        # message's writer may come before it.
        keys = [word for text in asked for word in text.rpartition("\n\n")[2].split(" ")[:3]]
        with self._open.lock:
            attempt = self._open.attempts[next(key for key in keys if key in self._open.attempts)]
            action = attempt.script.pop(0) if attempt.script else Reply()
            attempt.calls += 1
            costs = [_charge(request, action, count) for count in (dense_tokens, _bytes)]
            attempt.enter(request["model"], *costs)
        if isinstance(action, Reply) and action.hang_after == 0:
            attempt.silent()
        return action


def _charge(request: Mapping[str, Any], action: Action, count: Count) -> int:
    """Micro-dollars, where ``count`` is how many tokens a text is that no usage was reported for."""
    if not isinstance(action, Reply):
        assert isinstance(action, Fault)
        return 0
    stops = [at for at in (action.cut_after, action.error_after) if at is not None]
    if not request.get("stream") and action.cut_after is not None:
        return 0
    if stops and request.get("stream"):
        said = "".join(action.words[: min(stops)])
        return _cost(request, *_asked(request, count), count(said)) if said else 0
    if action.hang_after is not None:
        # Of an answer that is not streamed nothing was sent before the silence, and nobody could say how much was made.
        said = "".join(action.words[: action.hang_after]) if request.get("stream") else ""
        return _cost(request, *_asked(request, count), count(said))
    if action.usage is not None:
        asked, cached, said_tokens = action.usage
        # The recordings of a prompt are told apart, and what was cached is text as far as it goes.
        audio = (action.audio_tokens, max(0, cached + action.audio_tokens - asked))
        return _cost(request, asked, cached, audio, said_tokens)
    said = "".join(action.words) + "".join(name + arguments for name, arguments in action.calls)
    return _cost(request, *_asked(request, count), count(said))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _parts(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    contents = [message["content"] for message in request["messages"] if isinstance(message["content"], list)]
    return [part for content in contents for part in content]


def _asked(request: Mapping[str, Any], count: Count) -> tuple[int, int, tuple[int, int]]:
    """Return the prompt's tokens, how many of them were cached, and how many are recordings (and cached ones)."""
    dense = count is dense_tokens
    texts = [_text(message["content"]) for message in request["messages"]]
    for message in request["messages"]:
        texts += [c["function"]["name"] + c["function"]["arguments"] for c in message.get("tool_calls", ())]
    for tool in request.get("tools", ()):
        function = tool["function"]
        texts.append(json.dumps([function["name"], function["description"], function["parameters"]]))
    # Each is told from the others by a few tokens of its own: OpenAI's cookbook counts 3 to 4, and we allow for 8.
    around = 4 if dense else 8
    tokens = sum(count(text) + around for text in texts)
    audio = 0
    for part in _parts(request):
        if part["type"] == "image_url":
            # docs/api.md: an image is bounded by 16,384 tokens; no provider counts as many for one of a few pixels.
            tokens += (300 if dense else 16_384) + around
        elif part["type"] == "file":
            pages, text = _pages(part["file"]["file_data"])
            tokens += pages * (1_600 if dense else 8_192) + count(text) + around
        elif part["type"] == "input_audio":
            audio += math.ceil(_seconds(part["input_audio"]["data"]) * (10 if dense else 32))
            tokens += around
    return tokens + audio, 0, (audio, 0)


_PDFIUM = threading.Lock()


def _pages(url: str) -> tuple[int, str]:
    with _PDFIUM:
        document = pypdfium2.PdfDocument(b64decode(url.partition(",")[2]))
        return len(document), "".join(page.get_textpage().get_text_range() for page in document)


def _seconds(encoded: str) -> float:
    """Return how long a recording of the fuzz is, with its head played too: 8,000 bytes are a second."""
    return len(b64decode(encoded)) / 8_000


Count = Callable[[str], int]


def _bytes(text: str) -> int:
    return len(text.encode())


def dense_tokens(text: str) -> int:
    """As many tokens as the densest tokenizers make of a text, about.

    Llama's has a token for each digit and for each byte of a character that it does not know, and two for three letters
    of no word; OpenAI's come to the same with rare Han characters, and to two for three bytes of base64.
    """
    return sum(
        -(-2 * len(run) // 3) if run[0].isascii() and run[0].isalpha() else len(run.encode())
        for run in _RUNS.findall(text)
    )


def _cost(request: Mapping[str, Any], asked: int, cached: int, audio: tuple[int, int], said: int) -> int:
    recordings = {"input_audio_tokens": audio[0], "cache_audio_read_tokens": audio[1]} if audio[0] else {}
    usage = Usage(input_tokens=asked, cache_read_tokens=cached, output_tokens=said, **recordings)
    price: Decimal = calc_price(usage, request["model"], provider_id="openai").total_price
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING))
