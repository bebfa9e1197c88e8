"""Streams over real sockets: clients that read nothing, processes that end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from firelaunch.testing.models import ModelServer, Reply
from support import Server, User

BIG = "x" * 65_536
BODY = {"id": "c1", "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Talk"}]}}


def limit(folder: Path, lines: str) -> None:
    path = folder / "firelaunch.toml"
    path.write_text(path.read_text().replace("[limits]\n", f"[limits]\n{lines}\n", 1))


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def start(app_folder: Path, serve: Callable[..., Server], model: ModelServer) -> Callable[..., Server]:
    return lambda **environ: serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url, **environ)


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def deaf(server: Server, user: User, chat: str) -> socket.socket:
    """A client that sends a message and reads nothing of its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    body = json.dumps({**BODY, "id": chat}).encode()
    head = f"POST /v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    client.sendall(f"{head}Authorization: {user.headers['Authorization']}\r\n\r\n".encode() + body)
    return client


def resident(server: Server) -> int:
    """kB of memory of gunicorn and its worker."""
    found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    lines = [Path(f"/proc/{pid}/status").read_text() for pid in [str(server.process.pid), *found]]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in lines)


def test_clients_that_read_nothing_hold_neither_memory_nor_threads(
    app_folder: Path, start: Callable[..., Server], model: ModelServer
) -> None:
    limit(app_folder, 'on_disconnect = "stop"\nwrite_seconds = 1.5')
    server = start(CONCURRENCY="1")  # and with it five threads
    ada = server.sign_in("ada")
    ada.call("POST", "/v1/chat", {**BODY, "id": "warm"})
    before = resident(server)
    model.default = Reply(words=[BIG] * 2000)
    clients = [deaf(server, ada, f"c{number}") for number in range(5)]
    eventually(lambda: len(model.requests) == 6)
    grown = 0

    def all_given_up() -> bool:
        nonlocal grown
        grown = max(grown, resident(server) - before)
        return model.hung_up == 5

    eventually(all_given_up)
    assert grown < 160_000  # kB; the five answers are 640,000, and sockets hold some megabytes each
    assert server.client.get("/ready", timeout=10).status_code == 200
    eventually(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
    assert "a stream failed" not in server.log.read_text()
    for client in clients:
        client.close()


def test_a_process_told_to_end_tells_its_streams_and_those_that_follow_them(
    start: Callable[..., Server], model: ModelServer
) -> None:
    model.default = Reply(words=["word "] * 4000, pace=0.02)
    here, there = start(), start()
    ada, again = here.sign_in("ada"), there.sign_in("ada")
    with here.client.stream("POST", "/v1/chat", json=BODY, headers=ada.headers) as answer:
        parts = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
        assert next(part for part in parts if part["type"] == "text-delta")
        with there.client.stream("GET", "/v1/chat/c1/stream", headers=again.headers) as followed:
            lines = followed.iter_lines()
            assert next(lines).startswith("data: ")
            here.process.terminate()
            told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        rest = list(parts)
    for end in (rest, told):
        assert [part["type"] for part in end[-3:]] == ["text-end", "message-metadata", "error"]
        assert end[-2]["messageMetadata"]["error"]["code"] == "interrupted"
    said = "".join(part.get("delta", "") for part in told)
    assert again.texts("c1") == ["Talk", said]
    assert there.client.get("/v1/chat/c1/stream", headers=again.headers).status_code == 204
    assert here.process.wait(timeout=20) == 0
    assert again.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0


def test_an_answer_goes_on_when_its_client_leaves_before_the_first_word(
    start: Callable[..., Server], model: ModelServer
) -> None:
    server = start()
    ada = server.sign_in("ada")
    model.default = Reply(pace=0.5)
    with server.client.stream("POST", "/v1/chat", json=BODY, headers=ada.headers) as answer:
        assert any("start" in line for line in answer.iter_lines())
        eventually(lambda: len(model.requests) == 1)
    eventually(lambda: ada.texts("c1") == ["Talk", "Hello from the model."])
    assert model.hung_up == 0


class CloudRun:
    """A front end that does not tell the app when a client leaves, as Cloud Run's over HTTP/1.1: it reads on."""

    def __init__(self, server: Server) -> None:
        self._behind = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.left = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        behind = socket.create_connection(self._behind)
        threading.Thread(target=self._read_on, args=(behind, client), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                behind.sendall(data)
        self.left.set()

    def _read_on(self, behind: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := behind.recv(65_536):
                with contextlib.suppress(OSError):
                    client.sendall(data)


@pytest.mark.parametrize("setting", ["continue", "stop"])
def test_behind_a_front_end_that_says_nothing_an_answer_goes_on_until_its_client_asks_for_its_end(
    app_folder: Path, start: Callable[..., Server], model: ModelServer, setting: str
) -> None:
    limit(app_folder, f'on_disconnect = "{setting}"\ncheckpoint_seconds = 0.2')
    server = start()
    ada = server.sign_in("ada")
    model.default = Reply(words=["word "] * 4000, pace=0.02)
    front = CloudRun(server)
    with (
        httpx.Client(base_url=front.url) as away,
        away.stream("POST", "/v1/chat", json=BODY, headers=ada.headers) as answer,
    ):
        assert any("text-delta" in line for line in answer.iter_lines())
    assert front.left.wait(30)
    with server.client.stream("GET", "/v1/chat/c1/stream", headers=ada.headers) as followed:
        assert followed.status_code == 200, "it is on its way"
        assert model.hung_up == 0
        assert ada.call("POST", "/v1/chat/c1/stop").status_code == 202
        assert any('"abort"' in line for line in followed.iter_lines())
    eventually(lambda: model.hung_up == 1)
    eventually(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
    kept = ada.call("GET", "/v1/chats/c1").json()["messages"][-1]
    assert (kept["role"], kept["status"]) == ("assistant", "incomplete")
    assert kept["text"].startswith("word ")
