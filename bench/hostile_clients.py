"""Clients that hold on to a server, in one process with one loop: ``python bench/hostile_clients.py PORT KIND COUNT``.

It prints ``ready`` once it has opened as many connections as it was asked for, and after a line on standard input what
became of them, as JSON. A connection that the server closes is opened again at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from collections import Counter

_DRIP_SECONDS = 1.0
_LIFE_SECONDS = 1.0
"""How long a connection of the kind "reopened" is kept."""

_PATH = os.environ.get("HOSTILE_PATH", "/v1/chats")
_LARGE = os.environ.get("HOSTILE_LARGE", "/openapi.json")
_TOKEN = os.environ.get("HOSTILE_TOKEN", "")
_WHOLE = f"GET {_PATH} HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer {_TOKEN}\r\n\r\n".encode()
_BODY = f"POST {_PATH} HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n"

FIRST = {
    "slow heads": f"POST {_PATH} HTTP/1.1\r\nHost: app\r\nX-Slow: ".encode(),
    "slow bodies": f"{_BODY}Content-Length: 50000\r\n\r\n{{".encode(),
    "slow chunks": f"{_BODY}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode(),
    "unread answers": f"GET {_LARGE} HTTP/1.1\r\nHost: app\r\n\r\n".encode() * 4,
    "reopened": f"POST {_PATH} HTTP/1.1\r\nHost: app\r\nX-Slow: ".encode(),
    "flood": _WHOLE,
}
"""The first bytes that each kind of client sends."""

_DRIPS = {"slow heads": b"x", "slow bodies": b" ", "slow chunks": b"1\r\n \r\n"}
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Clients:
    """All connections of one kind."""

    def __init__(self, port: int, kind: str, count: int) -> None:
        self._port, self._kind, self._count = port, kind, count
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self._seen: dict[int, bytes] = {}
        self.counted: Counter[str] = Counter()

    def open(self) -> None:
        """Open one connection."""
        sock = socket.socket()
        if self._kind == "unread answers":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self._port))
        self._open[sock.fileno()] = (sock, time.monotonic())
        self._poll.register(sock, select.EPOLLOUT | _GONE)
        self.counted["opened"] += 1

    def run(self, seconds: float) -> None:
        """Serve all connections for a time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for number, events in self._poll.poll(left):
                if number == 0:
                    return
                self._on_event(number, events)

    def drip(self, share: float) -> None:
        """Send a byte on this share of the connections, those that wait longest first; or close them."""
        for number in list(self._open)[: int(self._count * share)]:
            sock, began = self._open.pop(number)
            self._open[number] = (sock, began)
            if self._kind == "reopened":
                if time.monotonic() - began >= _LIFE_SECONDS:
                    self._reopen(number)
            elif self._kind in _DRIPS:
                with contextlib.suppress(OSError):
                    sock.send(_DRIPS[self._kind])

    def _on_event(self, number: int, events: int) -> None:
        sock = self._open[number][0]
        if events & select.EPOLLOUT:
            reads = select.EPOLLIN if self._kind != "unread answers" else 0
            self._poll.modify(sock, reads | _GONE)
            with contextlib.suppress(OSError):
                sock.send(FIRST[self._kind])
        elif events & select.EPOLLIN:
            self._read(number, sock)
        elif events & _GONE:
            self.counted["closed by the server"] += 1
            self._reopen(number)

    def _read(self, number: int, sock: socket.socket) -> None:
        try:
            data = sock.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self.counted["closed by the server"] += 1
            self._reopen(number)
            return
        if data.startswith(b"HTTP/1.1 "):
            self.counted[data[9:12].decode()] += 1
        if self._kind != "flood":
            return
        # An answer with its whole body has come: ask again.
        self._seen[number] = seen = self._seen.get(number, b"") + data
        head, end, body = seen.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length or 0):
            self._seen[number] = b""
            if b"onnection: close" not in head:
                with contextlib.suppress(OSError):
                    sock.send(_WHOLE)

    def _reopen(self, number: int) -> None:
        sock, _ = self._open.pop(number)
        self._seen.pop(number, None)
        self._poll.unregister(sock)
        sock.close()
        self.open()

    def watch_standard_input(self) -> None:
        """End ``run`` when a line arrives."""
        self._poll.register(0, select.EPOLLIN | select.EPOLLHUP)


def main(port: int, kind: str, count: int) -> None:
    """Hold on until a line arrives on standard input."""
    clients = Clients(port, kind, count)
    for opened in range(count):
        clients.open()
        if opened % 50 == 49:
            clients.run(0.05)
    print("ready", flush=True)
    clients.watch_standard_input()
    step = 0.05
    while not select.select([0], [], [], 0)[0]:
        clients.run(step)
        clients.drip(step / _DRIP_SECONDS)
    print(json.dumps(clients.counted), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
