"""Mark where Claude's API should cache a prompt.

Writing to the cache costs 1.25 times the price of reading the prompt anew, and using it 0.1 times
(https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing). So a mark pays where the same beginning
comes again within five minutes, and costs a quarter more where it does not, as with passages of a search in the system
prompt that differ each time. Nobody knows the next prompt, so this module marks a beginning when it comes the second
time.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["RecentPrompts"]

_SECONDS: Final = 300.0
"""How long Claude's API keeps what it has cached since the last use."""

_MOST = 10_000
"""The most beginnings to remember, each some 100 bytes."""

_MARK = {"type": "ephemeral"}


class RecentPrompts:
    """The beginnings of the prompts of the last minutes. Create one for each provider; safe for many threads.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def marked(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``body`` with marks behind the beginnings that are worth caching, and remember it.

        The beginnings are the tools with the system prompt, and these with the messages up to each of the user's.
        """
        instructions, conversation = _digests(model, body)
        known = self._see([instructions, *conversation])
        marked = dict(body)
        if known[0]:
            # The tools come before the system prompt, so a mark behind that covers both.
            part = "system" if body.get("system") else "tools"
            marked |= {part: _with_mark(body[part])} if body.get(part) else {}
        if any(known[1:]):
            *before, last = body["messages"]
            marked["messages"] = [*before, {**last, "content": _with_mark(last["content"])}]
        return marked

    def _see(self, digests: Sequence[bytes]) -> list[bool]:
        """Return which beginnings came within the last five minutes, and record all of them."""
        now = self._clock()
        with self._lock:
            known = [self._seen.get(digest, -_SECONDS) > now - _SECONDS for digest in digests]
            for digest in digests:
                self._seen[digest] = now
                self._seen.move_to_end(digest)
            while len(self._seen) > _MOST:
                self._seen.popitem(last=False)
        return known


def _digests(model: str, body: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
    digest = hashlib.sha256(_encoded([model, body.get("tools"), body.get("system")]))
    instructions, conversation = digest.digest(), []
    for message in body["messages"]:
        digest.update(_encoded(message))
        if message["role"] == "user":
            conversation.append(digest.digest())
    return instructions, conversation


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _with_mark(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [*map(dict, blocks[:-1]), {**blocks[-1], "cache_control": _MARK}]
