"""However a stream is read, by its turn or past it in the hub, the same is said, shown once and told to the turn."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from firelaunch.errors import ModelError
from firelaunch.llm.client_connection import ClientConnection
from firelaunch.llm.deadline import Deadline
from firelaunch.llm.providers.openai_compatible import _parse_answer as parse_answer
from firelaunch.llm.providers.openai_compatible import _parse_event as parse
from firelaunch.llm.types import WAITING, Chunk, Passed
from firelaunch.llm.wire.http import Response
from firelaunch.llm.wire.relay import Reading
from hypothesis import example, given
from hypothesis import strategies as st

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TO_THE_END = HEAD + b"Connection: close\r\n\r\n"


def said(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice], **more}, ensure_ascii="é" in text).encode() + b"\n\n"


FINISH = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n'
DONE = b"data: [DONE]\n\n"
ENDS = {
    "whole": FINISH + USAGE + DONE,
    "cut": b"",
    "error": b'data: {"error": {"message": "no", "code": 500}}\n\n',
    "no JSON": b"data: {\n\n",
}
TEXTS = st.lists(st.sampled_from(["a", "word ", '"', "\n", "é", "日本", "\\", "{"]), min_size=1, max_size=12)


class Driven:
    """One stream, driven as the hub does it: each time that its provider has something, by one of the two ways."""

    def __init__(self, head: bytes) -> None:
        ours, self.provider = socket.socketpair()
        self.reader, browser = socket.socketpair()
        self.client = ClientConnection(browser, hosted=True)
        ours.setblocking(False)
        patience = Deadline(time.monotonic() + 30, 30, 30, self.client)
        self.provider.sendall(head)
        self.response = Response(ours, socket.socket.close, patience)
        self.response.read_head()
        self.chunks = Reading(self.response, patience, parse, parse_answer).chunks()
        self.shown: list[str] = []
        self.told: list[str] = []
        self.tokens: Any = None
        self.error: ModelError | None = None
        self.ended = False

    def wake(self, past: bool) -> None:
        """What the provider has sent is there."""
        if self.ended:
            return
        if past and self.client.read_text is not None:
            text = self.client.read_text()
            if text is not None:
                self.shown.append(text)
                return
        try:
            for chunk in self.chunks:
                self.take(chunk)
                if chunk is WAITING or self.client.idle:
                    return
        except ModelError as error:
            self.error = error
        self.ended = True

    def take(self, chunk: Chunk) -> None:
        self.told.append(chunk.text)
        self.tokens = chunk.tokens or self.tokens
        if not isinstance(chunk, Passed):
            self.shown.append(chunk.text)

    def close(self) -> None:
        self.response.close()
        for sock in (self.provider, self.reader, self.client.sock):
            sock.close()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("chunked", [True, False])
@given(TEXTS, st.lists(st.integers(1, 80), max_size=30), st.lists(st.booleans(), max_size=40))
@example(["word "] * 6, [400], [False, True])
@example(["word "] * 6, [], [False, True])
def test_what_was_said_is_shown_once_and_all_of_it_is_told(
    end: str, chunked: bool, texts: list[str], sizes: list[int], ways: list[bool]
) -> None:
    body = b"".join(map(said, texts)) + ENDS[end]
    driven = Driven(CHUNKED if chunked else TO_THE_END)
    try:
        driven.wake(past=False)
        for number, size in enumerate([*sizes, len(body) + 1]):
            piece, body = body[:size], body[size:]
            if piece:
                last = b"0\r\n\r\n" if end == "whole" and not body else b""
                driven.provider.sendall(b"%x\r\n%b\r\n%b" % (len(piece), piece, last) if chunked else piece)
                driven.wake(past=ways[number % len(ways)] if ways else True)
        if not chunked or end != "whole":  # else its end is known without
            driven.provider.shutdown(socket.SHUT_WR)
            driven.wake(past=True)
        assert driven.ended
        assert "".join(driven.shown) == "".join(driven.told) == "".join(texts)
        assert (driven.error is None) is (end == "whole")
        assert (driven.tokens is not None) is (end == "whole")
    finally:
        driven.close()


def test_text_passes_the_turn_by_once_the_form_of_its_events_is_known() -> None:
    driven = Driven(CHUNKED)
    try:
        for number in range(5):
            event = said(f"{number} ")
            driven.provider.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            driven.wake(past=True)
        assert driven.shown == ["", "0 ", "1 ", "2 ", "3 ", "4 "][len(driven.shown) == 5 :]
        assert driven.told in (["", "0 "], ["0 "])
        driven.client.failure = failure = ModelError(reason="the deadline")
        driven.wake(past=False)
        assert "".join(driven.told) == "0 1 2 3 4 "
        assert driven.error is failure
    finally:
        driven.close()
