"""Clients that do what users do, at whatever rate takes a served app its share of a core."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from firelaunch.testing.models import Action, ModelServer, Reply

__all__ = ["Crowd", "Models", "Pace"]

_USERS = 200
"""Users at a time. One in fifty requests is a new user's, who comes in the place of another."""

_WORDS = 3_000
_DOCUMENTS, _CHATS = 6, 8
"""The most documents or chats that a user keeps; more are deleted."""


class Models(ModelServer):
    """A model server that keeps no list of its requests."""

    def _next(self, request: dict[str, Any], authorization: str) -> Action:
        action = super()._next(request, authorization)
        for kept in (self.requests, self.authorizations, self.paths, self.headers):
            kept.clear()
        return action


def models() -> Models:
    """Return a model server whose answers take a tenth of a second, as a stream."""
    return Models(Reply(words=[" word"] * 24, usage=(300, 0, 24), pace=0.005))


class Pace:
    """Lets requests begin at a rate that is changed until the server is as busy as it should be."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for this caller's turn."""
        with self._lock:
            now = time.monotonic()
            # Turns that nobody took do not add up.
            self._next = turn = max(self._next, now - 0.2) + 1 / self.rate
        time.sleep(max(0.0, turn - now))

    def follow(self, busy: float, wanted: float) -> None:
        """Change the rate a little: the server was ``busy`` for this share of a core."""
        self.rate = max(1.0, min(500.0, self.rate * min(1.25, max(0.8, wanted / max(busy, 0.01)))))


class Crowd:
    """Users of one app, and the threads that send their requests.

    Attributes:
        done: requests by kind. failed: answers that no client expects, by kind and status.
    """

    def __init__(self, port: int, clients: int, pace: Pace, seed: int = 0) -> None:
        self._port, self._pace, self._seed = port, pace, seed
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,)) for n in range(clients)]
        self._users: list[_User] = []
        self._lock = threading.Lock()
        self._born = 0
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        dice = random.Random(f"{self._seed}-{number}")  # noqa: S311 - it keeps no secret
        connection = _Connection(self._port)
        while not self._over.is_set():
            self._pace.wait()
            name = dice.choices(_NAMES, _WEIGHTS)[0]
            try:
                user = self._user(connection, dice)
                with user.lock:
                    status = _ACTS[name][1](connection, user, dice)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, name = 0, f"{name}: {type(error).__name__} {error}"
            with self._lock:
                self.done[name] += 1
                if status not in _EXPECTED:
                    self.failed[f"{name} {status}"] += 1
        connection.close()

    def _user(self, connection: _Connection, dice: random.Random) -> _User:
        with self._lock:
            new = len(self._users) < _USERS or dice.random() < 0.02
            if not new:
                return dice.choice(self._users)
            self._born += 1
            number = self._born
        token = connection.call("POST", "/dev/token", {"uid": f"user-{number}"})[1]["token"]
        user = _User({"Authorization": f"Bearer {token}"})
        with self._lock:
            if len(self._users) >= _USERS:
                self._users[dice.randrange(_USERS)] = user
            else:
                self._users.append(user)
        return user


_EXPECTED = {200, 201, 202, 204, 401, 404, 409, 429}
"""Of acts some of which meet what is gone, or a document that is still being read."""


class _User:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.lock = threading.Lock()
        self.chats: list[str] = []
        self.documents: list[str] = []


class _Connection:
    """A client's connection, which is opened anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """One request; its status and its JSON."""
        kind = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, data, {**kind, **(headers or {})})
                answer = self._connection.getresponse()
                content = answer.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()
                if attempt == 2:
                    raise
        is_json = "json" in answer.headers.get("Content-Type", "") and content
        return answer.status, json.loads(content) if is_json else None

    def leave_early(self, path: str, body: Any, headers: dict[str, str]) -> int:
        """Ask for a stream, and leave after its first text."""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        data = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as sock:
            sock.sendall(
                f"POST {path} HTTP/1.1\r\nHost: app\r\nAccept: text/event-stream\r\n{head}"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                + data
            )
            seen = b""
            while b"event: delta" not in seen and (piece := sock.recv(65_536)):
                seen += piece
        return int(seen[9:12] or b"0")


def _chat(connection: _Connection, user: _User, dice: random.Random) -> str:
    if len(user.chats) < 2 or dice.random() < 0.1:
        status, chat = connection.call("POST", "/v1/chats", {}, user.headers)
        if status == 201:
            user.chats.append(chat["id"])
    while len(user.chats) > _CHATS:
        connection.call("DELETE", f"/v1/chats/{user.chats.pop(0)}", None, user.headers)
    return dice.choice(user.chats)


def _words(dice: random.Random, count: int) -> str:
    return " ".join(f"word{dice.randrange(_WORDS)}" for _ in range(count))


def _turn(connection: _Connection, user: _User, dice: random.Random) -> int:
    path = f"/v1/chats/{_chat(connection, user, dice)}/messages"
    return connection.call("POST", path, {"text": _words(dice, 12)}, user.headers)[0]


def _streamed(connection: _Connection, user: _User, dice: random.Random) -> int:
    path = f"/v1/chats/{_chat(connection, user, dice)}/messages"
    headers = {**user.headers, "Accept": "text/event-stream"}
    return connection.call("POST", path, {"text": _words(dice, 12)}, headers)[0]


def _left(connection: _Connection, user: _User, dice: random.Random) -> int:
    path = f"/v1/chats/{_chat(connection, user, dice)}/messages"
    return connection.leave_early(path, {"text": _words(dice, 12)}, user.headers)


def _resumed(connection: _Connection, user: _User, dice: random.Random) -> int:
    chat = _chat(connection, user, dice)
    connection.leave_early(f"/v1/chats/{chat}/messages", {"text": _words(dice, 12)}, user.headers)
    return connection.call("GET", f"/v1/chats/{chat}/stream", None, user.headers)[0]


def _uploaded(connection: _Connection, user: _User, dice: random.Random) -> int:
    name = f"{dice.randrange(10**9)}.md"
    content = f"# {name}\n\n" + "\n\n".join(_words(dice, 80) for _ in range(4))
    head = f'--soak\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = f"{head}{content}\r\n--soak--\r\n".encode()
    headers = {**user.headers, "Content-Type": "multipart/form-data; boundary=soak"}
    status, document = connection.call("POST", "/v1/uploads", body, headers)
    if status < 300:
        user.documents.append(document["id"])
    while len(user.documents) > _DOCUMENTS:
        connection.call("DELETE", f"/v1/documents/{user.documents.pop(0)}", None, user.headers)
    return status


def _searched(connection: _Connection, user: _User, dice: random.Random) -> int:
    return connection.call("POST", "/v1/search", {"query": _words(dice, 2)}, user.headers)[0]


def _extracted(connection: _Connection, user: _User, dice: random.Random) -> int:
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    status = connection.call("POST", "/v1/extract", {"text": _words(dice, 40), "schema": schema}, user.headers)[0]
    return 200 if status == 502 else status  # the model says words and no object


def _tools(connection: _Connection, user: _User, _: random.Random) -> int:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {**user.headers, "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    return connection.call("POST", "/mcp", body, headers)[0]


def _stranger(connection: _Connection, _: _User, dice: random.Random) -> int:
    headers = {"Authorization": f"Bearer {dice.randrange(10**12)}"}
    return connection.call("GET", "/v1/chats", None, headers)[0]


def _one_of(*paths: str) -> Act:
    def read(connection: _Connection, user: _User, dice: random.Random) -> int:
        path = dice.choice(paths)
        if "{chat}" in path:
            path = path.format(chat=_chat(connection, user, dice))
        return connection.call("GET", path, None, user.headers)[0]

    return read


def _silent(connection: _Connection, _: _User, dice: random.Random) -> int:
    """Open a connection, send half a head at most, and leave."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", connection._port), timeout=5) as sock:
        sock.sendall(b"GET /live HTTP/1.1\r\nHo"[: dice.randrange(22)])
        time.sleep(dice.uniform(0, 0.3))
    return 200


Act = Callable[[_Connection, _User, random.Random], int]

_ACTS: dict[str, tuple[int, Act]] = {
    "turns": (20, _turn),
    "streamed turns": (30, _streamed),
    "streams that are left": (6, _left),
    "streams that are resumed": (3, _resumed),
    "reads": (25, _one_of("/v1/chats", "/v1/chats/{chat}", "/v1/usage", "/v1/me", "/v1/documents", "/v1/jobs")),
    "searches": (12, _searched),
    "uploads": (4, _uploaded),
    "extractions": (2, _extracted),
    "MCP": (2, _tools),
    "pages": (3, _one_of("/", "/openapi.json", "/ops", "/docs", "/live", "/ready", "/nowhere")),
    "strangers": (3, _stranger),
    "silent connections": (2, _silent),
}
_NAMES: Sequence[str] = [*_ACTS]
_WEIGHTS = [weight for weight, _ in _ACTS.values()]
