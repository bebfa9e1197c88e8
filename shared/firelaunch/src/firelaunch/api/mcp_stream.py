"""Stream the answer of a tool's call: signs of life while it is under way, then one JSON-RPC message.

Clients give up after a silence of 5 seconds (httpx's default) or after 60 seconds without progress (MCP's TypeScript
client). So a sign goes out every two seconds, also while the app's own code blocks: the server calls
:attr:`~firelaunch.llm.client_connection.ClientConnection.beat`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..chats.events import STILL_HERE, Paused, close, encode
from ..errors import FirelaunchError
from ..identity import Caller
from ..llm.client_connection import ClientConnection

__all__ = ["Call", "Signs", "Step", "frames"]

log = logging.getLogger(__name__)

_BEAT_SECONDS = 2.0

Step = dict[str, Any] | Paused | None
"""A step of a tool's call: its result, a signal to the server, or None where a sign of life may go out."""


class Signs:
    """The signs of life of one call. Several threads may ask for them.

    Args:
        token: the client's progress token. Without one the signs are comments, which clients skip.

    Attributes:
        characters: the length of the answer so far, which the signs tell.
    """

    def __init__(self, token: str | int | None) -> None:
        self._token = token
        self._began = self._last = time.monotonic()
        self.characters = 0
        self._first = True
        self._lock = threading.Lock()

    def count(self, text: str) -> bytes:
        """Count a piece of the answer, whose text MCP sends only as a whole. Return a sign if one is due."""
        self.characters += len(text)
        return self.due()

    def due(self) -> bytes:
        """Return a sign of life, or nothing if the last one was sent less than two seconds ago."""
        with self._lock:
            now = time.monotonic()
            if not self._first and now - self._last < _BEAT_SECONDS:
                return b""
            self._first, self._last = False, now
        if self._token is None:
            return STILL_HERE
        params = {"progressToken": self._token, "progress": round(now - self._began, 1)}
        if self.characters:
            params["message"] = f"{self.characters} characters so far"
        return _frame({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool.

    Attributes:
        id: what ``notifications/cancelled`` finds the call by. No two callers' calls have one id.
        key: the client's idempotency key. A call with the key of an earlier one gets that one's answer.
        closes: whether the client closes its stream to cancel the call, as from revision 2026-07-28 on.
        streams: whether the client takes a stream.
        client: the client's connection, if the answer is streamed and the server knows it.
    """

    caller: Caller
    id: str
    key: str | None
    closes: bool
    streams: bool
    client: ClientConnection | None
    signs: Signs


def frames(
    steps: Iterator[Step], call: Call, wrap: Callable[[dict[str, Any]], Any], failed: Callable[[], Any]
) -> Iterator[bytes | Paused]:
    """Encode a call's steps as server-sent events.

    Args:
        wrap: puts a result into its JSON-RPC message.
        failed: returns the JSON-RPC message for a fault of the app's.
    """
    if call.client is not None:
        call.client.encode, call.client.beat = call.signs.count, call.signs.due
    try:
        for step in steps:
            if isinstance(step, Paused):
                yield step
            elif step is not None:
                yield _frame(wrap(step))
            elif sign := call.signs.due():
                yield sign
    except Exception as error:
        if not isinstance(error, FirelaunchError) or error.status >= 500:
            log.error("a tool failed: %s", type(error).__name__, exc_info=error)
        yield _frame(failed())
    finally:
        close(steps)


def _frame(message: Any) -> bytes:
    return b"event: message\ndata: %b\n\n" % encode(message)
