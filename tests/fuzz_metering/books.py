"""A model server that writes down what it charges, by docs/metering.md and with none of the product's own code."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

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
        # A request to go on with an answer is the user's last message, and has no key.
        keys = [text.rpartition("\n\n")[2].partition(" ")[0] for text in asked]
        with self._open.lock:
            attempt = self._open.attempts[next(key for key in keys if key in self._open.attempts)]
            action = attempt.script.pop(0) if attempt.script else Reply()
            attempt.calls += 1
            attempt.charged += _charge(request, action, dense_tokens)
            attempt.owed += _charge(request, action, _bytes)
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
        return _cost(request, _asked(request, count), 0, count(said)) if said else 0
    if action.hang_after is not None:
        # Of an answer that is not streamed nothing was sent before the silence, and nobody could say how much was made.
        said = "".join(action.words[: action.hang_after]) if request.get("stream") else ""
        return _cost(request, _asked(request, count), 0, count(said))
    if action.usage is not None:
        return _cost(request, *action.usage)
    said = "".join(action.words) + "".join(name + arguments for name, arguments in action.calls)
    return _cost(request, _asked(request, count), 0, count(said))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _images(content: Any) -> int:
    return 0 if isinstance(content, str) else sum(part["type"] == "image_url" for part in content or ())


def _asked(request: Mapping[str, Any], count: Count) -> int:
    texts = [_text(message["content"]) for message in request["messages"]]
    # docs/api.md: an image is bounded by 16,384 tokens; no provider counts as many for one of a few pixels.
    images = sum(_images(message["content"]) for message in request["messages"])
    for message in request["messages"]:
        texts += [c["function"]["name"] + c["function"]["arguments"] for c in message.get("tool_calls", ())]
    for tool in request.get("tools", ()):
        function = tool["function"]
        texts.append(json.dumps([function["name"], function["description"], function["parameters"]]))
    # Each is told from the others by a few tokens of its own: OpenAI's cookbook counts 3 to 4, and we allow for 8.
    around = 4 if count is dense_tokens else 8
    return sum(count(text) + around for text in texts) + images * (300 if count is dense_tokens else 16_384)


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


def _cost(request: Mapping[str, Any], asked: int, cached: int, said: int) -> int:
    usage = Usage(input_tokens=asked, cache_read_tokens=cached, output_tokens=said)
    price: Decimal = calc_price(usage, request["model"], provider_id="openai").total_price
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING))
