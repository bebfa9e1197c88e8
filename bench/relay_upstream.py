"""A model server: ``python bench/relay_upstream.py PORT``.

It streams as fast as it is read, or 20 tokens a second, and gives answers in one piece at once.

It is to cost little itself, so its answers are made once; ``bench/relay.py`` measures its own limit first.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.report import size

TOKENS = size(200, 100)
PACE = size(20, 200)


def _event(delta: dict[str, str | None], finish: str | None, usage: dict[str, int] | None = None) -> bytes:
    body = {
        "id": "chatcmpl-BvJ3x1mC0a9kQ2fT7dLw5ZrP",
        "object": "chat.completion.chunk",
        "created": 1795246049,
        "model": "bench",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": [] if usage else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
    }
    data = b"data: " + json.dumps(body).encode() + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE = _event({"role": "assistant", "content": "", "refusal": None}, None)
"""What OpenAI sends first: no text yet."""

WORD = _event({"content": "word "}, None)
LAST = _event({}, "stop") + _event(
    {}, None, {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS + 10}
)
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-BvJ3x1mC0a9kQ2fT7dLw5ZrP",
        "object": "chat.completion",
        "created": 1795246049,
        "model": "bench",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "An answer in one piece. " * 8, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60},
    }
).encode()
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, and what is being sent on it."""

    open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.left = 0
        self.streaming = self.closes = False
        self.handle: asyncio.TimerHandle | None = None
        self.may_write = True

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            state = json.dumps({"open": Connection.open}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + state)
            self.transport.close()
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.buffer = b""
        self.closes = b"connection: close" in head.lower()
        self._begin(body)

    def _begin(self, body: bytes) -> None:
        asked = json.loads(body)
        if not asked.get("stream"):
            self.transport.write(WHOLE)
            if self.closes:
                self.transport.close()
            return
        self.transport.write(HEAD + ROLE)
        Connection.open += 1
        self.streaming, self.left = True, TOKENS
        if asked["messages"][-1]["content"] == "silent":
            return
        if b'"paced"' in body:
            self.at = asyncio.get_running_loop().time() + 1 / PACE
            self.handle = asyncio.get_running_loop().call_at(self.at, self._tick)
        else:
            self._pour()

    def _tick(self) -> None:
        self.transport.write(WORD)
        self.left -= 1
        if not self.left:
            self._end()
            return
        self.at += 1 / PACE
        self.handle = asyncio.get_running_loop().call_at(self.at, self._tick)

    def _pour(self) -> None:
        while self.left and self.may_write:
            self.transport.write(WORD)
            self.left -= 1
        if not self.left:
            self._end()

    def _end(self) -> None:
        self.transport.write(LAST + DONE)
        self.streaming = False
        Connection.open -= 1
        if self.closes:
            self.transport.close()

    def pause_writing(self) -> None:
        """See asyncio."""
        self.may_write = False

    def resume_writing(self) -> None:
        """See asyncio."""
        self.may_write = True
        if self.streaming:
            self._pour()

    def connection_lost(self, _: Exception | None) -> None:
        """See asyncio."""
        if self.handle is not None:
            self.handle.cancel()
        if self.streaming:
            Connection.open -= 1


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
