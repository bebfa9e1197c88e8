"""Claude as a server that writes down what it charges: cache writes, thinking, and usage before the first word."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from firelaunch.testing.claude import ClaudeReply, ClaudeServer, encoded_events
from firelaunch.testing.http import HttpAnswer
from firelaunch.testing.models import Action, Fault, Reply
from genai_prices import Usage, calc_price

from .books import Attempt, dense_tokens

__all__ = ["ClaudeBooks"]

_THOUGHTS = "Hm, \u00e6. "
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_LONGEST_SILENCE = 60.0


class ClaudeBooks(ClaudeServer):
    """Answers each call as the attempt that its message belongs to says; the message's first word is the key."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: dict[str, Attempt] = {}

    def expect(self, key: str, script: list[Action], silent: Callable[[], None] = lambda: None) -> Attempt:
        """Take the calls of message ``key`` from now on as those of a new attempt."""
        attempt = self._attempts[key] = Attempt(script, silent)
        return attempt

    def answer(self, path: str, body: Any) -> Any:
        """Return the attempt's next answer, and charge for it. The server's lock is held."""
        attempt = self._attempts[_key(body)]
        action = attempt.script.pop(0) if attempt.script else Reply()
        attempt.calls += 1
        if isinstance(action, Fault):
            return _failed(action)
        assert isinstance(action, Reply)
        if not body.get("stream"):
            if action.cut_after is not None:
                return HttpAnswer(0, None)
            action = replace(action, error_after=None, hang_after=None)  # there is no way to begin such an answer
        costs = [_charge(body["model"], action, count) for count in (dense_tokens, lambda text: len(text.encode()))]
        attempt.enter(body["model"], *costs)
        if action.hang_after == 0:
            attempt.silent()
        self.replies = [_reply(action)]
        answer = super().answer(path, body)
        if action.hang_after is None:
            return answer
        return HttpAnswer(200, _hanging(body["model"], _reply(action)), {"Content-Type": "text/event-stream"})


def _key(body: Mapping[str, Any]) -> str:
    texts = [
        block["text"] for m in body["messages"] if m["role"] == "user" for block in m["content"] if "text" in block
    ]
    return str(texts[-1].rpartition("\n\n")[2].split()[0])


def _failed(fault: Fault) -> HttpAnswer:
    body = fault.body.encode() if fault.body is not None else {"type": "error", "error": {"type": "api_error"}}
    return HttpAnswer(fault.status, body, {"Content-Type": fault.content_type, **fault.headers})


def _said(reply: Reply) -> tuple[str, ...]:
    """Return the words before the stream ends early, if it does."""
    ends = [at for at in (reply.cut_after, reply.error_after, reply.hang_after) if at is not None]
    return tuple(reply.words[: min(ends)] if ends else reply.words)


def _usage(reply: Reply) -> tuple[int, int, int, int, int]:
    """Return plain, cached, written, output and thinking tokens; unlike others, Claude's API always has them."""
    asked, cached, said = reply.usage or (50, 10, 20)
    written = (asked - cached) // 2
    return asked - cached - written, cached, written, said, said // 3


def _reply(reply: Reply) -> ClaudeReply:
    finish = {"length": "max_tokens", "stop": "refusal" if reply.refusal else "end_turn"}.get(reply.finish, "end_turn")
    calls = [(name, json.loads(arguments)) for name, arguments in reply.calls]
    error = "overloaded_error" if reply.error_after is not None else None
    cut = reply.cut_after is not None
    return ClaudeReply(_said(reply), _THOUGHTS, "", _usage(reply), calls, finish, cut, error, pause=reply.pace)


def _hanging(model: str, reply: ClaudeReply) -> Iterator[bytes]:
    """Yield an answer without its end, and then signs of life until the client leaves."""
    events = encoded_events(model, reply)
    yield from events[: -3 if reply.words else -2]
    until = time.monotonic() + _LONGEST_SILENCE
    while time.monotonic() < until:
        time.sleep(0.02)
        yield _PING


def _charge(model: str, reply: Reply, count: Callable[[str], int]) -> int:
    """Micro-dollars. A stream that ends early has said what the prompt took, and ``count`` is of what it wrote."""
    plain, cached, written, said, _ = _usage(reply)
    if any(at is not None for at in (reply.cut_after, reply.error_after, reply.hang_after)):
        said = max(1, count(_THOUGHTS + "".join(_said(reply))))
    usage = Usage(
        input_tokens=plain + cached + written, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=said
    )
    price: Decimal = calc_price(usage, model, provider_id="anthropic").total_price
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING))
