"""As many streams at a time as the settings allow, of a served app with slow clients of nobody beside them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support import Server, User

A_USERS = 4
"""Streams of one user at a time."""

PIECES = 5


def event(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}}\n\n'


class Gate:
    """A model server that begins its answers, and ends none before ``streams`` of them have begun."""

    def __init__(self, streams: int) -> None:
        self._streams, self._begun = streams, 0
        self._opened = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self.port = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", backlog=1_024))
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            self._loop.call_soon_threadsafe(self._opened.set)  # whoever still waits ends, too
            self._loop.call_soon_threadsafe(server.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        name = body["messages"][-1]["content"].rpartition(" ")[2]
        writer.write(HEAD + event({"role": "assistant", "content": ""}) + event({"reasoning_content": "Hm."}))
        writer.write(event({"content": f"{name}:"}))
        self._begun += 1
        if self._begun == self._streams:
            self._opened.set()
        await self._opened.wait()
        for number in range(PIECES):
            writer.write(event({"content": f" {number}"}))
            await writer.drain()
        writer.write(event({}, "stop") + USAGE + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()


def settle(folder: Path, streams: int) -> None:
    """Have the app take so many streams, and as many requests of a user in a minute."""
    toml = folder / "firelaunch.toml"
    text = toml.read_text().replace("[cloud]\n", f"[cloud]\nconcurrency = {streams}\n")
    text = text.replace("requests_per_minute = 20\n", "requests_per_minute = 1000000\n")
    toml.write_text(text.replace('daily_usd = "0.50"', 'daily_usd = "1000000"'))


def connected(server: Server, sent: bytes) -> socket.socket:
    at = urlsplit(server.url)
    sock = socket.create_connection((at.hostname or "", at.port or 0), timeout=60)
    sock.sendall(sent)
    return sock


def request(user: User, chat: str, text: str) -> bytes:
    body = json.dumps({"text": text})
    head = [f"POST /v1/chats/{chat}/messages HTTP/1.1", "Host: app", "Accept: text/event-stream", "Connection: close"]
    head += [f"Authorization: {user.headers['Authorization']}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "Content-Type: application/json", "", body]).encode()


def read_all(socks: dict[socket.socket, bytearray]) -> None:
    """Read connections to their ends."""
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(60)
            assert ready, f"{len(selector.get_map())} streams are silent"
            for key, _ in ready:
                data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if data:
                    socks[key.fileobj] += data  # type: ignore[index]
                else:
                    selector.unregister(key.fileobj)


@pytest.mark.parametrize(("streams", "strangers"), [(200, 100), pytest.param(2_000, 1_000, marks=pytest.mark.long)])
def test_as_many_streams_as_the_settings_allow_are_answered_at_once_whatever_slow_clients_hold_on(
    app_folder: Path, serve: Callable[..., Server], streams: int, strangers: int
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * streams + strangers
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    settle(app_folder, streams)
    with Gate(streams).serving() as model, contextlib.ExitStack() as open_ones:
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model)
        users = [server.sign_in(f"user{number}") for number in range(streams // A_USERS)]
        chats = [(number, users[number // A_USERS]) for number in range(streams)]
        asked = {number: request(user, user.new_chat(), f"name {number}") for number, user in chats}
        for _ in range(strangers):
            open_ones.enter_context(connected(server, b"POST /v1/chats HTTP/1.1\r\nHost: app\r\n"))
        # None of them ends before all have begun.
        socks = {open_ones.enter_context(connected(server, sent)): number for number, sent in asked.items()}
        assert httpx.get(f"{server.url}/live", timeout=60, trust_env=False).status_code == 200
        seen = {sock: bytearray() for sock in socks}
        read_all(seen)
        refused = [bytes(answer[-500:]) for answer in seen.values() if not answer.endswith(b"0\r\n\r\n")]
        assert not refused, (len(refused), refused[0])
        for sock, number in socks.items():
            answer = bytes(seen[sock])
            pieces = re.findall(rb"event: delta\ndata: (.*)\n", answer)
            told = "".join(json.loads(piece)["text"] for piece in pieces)
            assert told == f"{number}:" + "".join(f" {piece}" for piece in range(PIECES)), answer[-500:]
        assert {user.call("GET", "/v1/usage").json()["reserved_micro_usd"] for user in users} == {0}
