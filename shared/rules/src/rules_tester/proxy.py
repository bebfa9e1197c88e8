"""Stands between a project's tests and the Firestore emulator, and has other rules in force than the tests load.

Tests load rules over HTTP (``initializeTestEnvironment`` of @firebase/rules-unit-testing does), or rely on those that
the emulator was started with. All else, gRPC and the web's long polling included, passes as it is.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, Self

__all__ = ["RulesProxy"]

_RULES = re.compile(r"/emulator/v1/projects/[^/:?]+(?:/databases/[^/:?]+)?:securityRules$")
_PROJECT = re.compile(rb"projects(?:/|%2[Ff])([a-z][a-z0-9-]{2,62})(?:/|%2[Ff])databases")
_LONGEST = 100
"""Bytes that the name of a project may take with what is around it, which may come in two parts."""
_HTTP2 = b"PRI * HTTP/2.0\r\n"
_HUB = "FIREBASE_EMULATOR_HUB"
_PIECE = 65536
_SECONDS = 60.0


class RulesProxy:
    """A proxy, as a context manager.

    Args:
        emulator: the address of the emulator.
        source: the rules that the tests are expected to load.
        port: where to listen; any free one if it is taken.

    Attributes:
        loads: how often the tests loaded ``source``, or used a project without loading any.
        others: how often they loaded other rules.
    """

    def __init__(self, emulator: str, source: str, port: int = 0) -> None:
        self.loads = self.others = 0
        self._emulator = emulator
        self._source = source
        self._rules = source
        self._in_force: dict[str, str] = {}
        self._reports: list[Any] = []
        self._lock = threading.RLock()
        self._server = _listening(port, self)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def exchange(self, rules: str) -> None:
        """Begin anew without documents, and put ``rules`` in force wherever the tests load the source."""
        with self._lock:
            for project in {path.split("/")[4].partition(":")[0] for path in self._in_force}:
                self._ask("DELETE", f"/emulator/v1/projects/{project}/databases/(default)/documents")
            self._rules = rules
            self._in_force.clear()
            self._reports.clear()
            self.loads = self.others = 0

    def reports(self) -> list[Any]:
        """Return what the emulator has evaluated of the rules since :meth:`exchange`, a report for each project."""
        with self._lock:
            return [
                *self._reports,
                *(self._report(path) for path, text in self._in_force.items() if text == self._rules),
            ]

    def load(self, path: str, asked: str) -> tuple[int, bytes]:
        """Put rules in force for a client that asks for ``asked``. Return the emulator's answer."""
        with self._lock:
            same = _plain(asked) == _plain(self._source)
            self.loads += same
            self.others += not same
            return self._put(path, self._rules if same else asked)

    def see(self, data: bytes) -> None:
        """Put rules in force for projects that are named in ``data`` and have none: the emulator would have its own."""
        for name in set(_PROJECT.findall(data)):
            path = f"/emulator/v1/projects/{name.decode()}:securityRules"
            with self._lock:
                if path not in self._in_force:
                    self.loads += 1
                    self._put(path, self._rules)

    def emulators(self) -> bytes:
        """Return what Firebase's hub says of the emulators that run, with this proxy as Firestore's."""
        known: dict[str, Any] = {}
        hub = os.environ.get(_HUB)
        if hub:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                known = json.loads(_asked(hub, "GET", "/emulators")[1])
        host, _, port = self.host.partition(":")
        return json.dumps({**known, "firestore": {"name": "firestore", "host": host, "port": int(port)}}).encode()

    def _put(self, path: str, text: str) -> tuple[int, bytes]:
        if self._in_force.get(path) == text:
            return 200, b"{}"  # to load them again would take the report of what was evaluated
        if self._in_force.get(path) == self._rules:
            self._reports.append(self._report(path))
        content = {"rules": {"files": [{"name": "firestore.rules", "content": text}]}}
        status, answer = self._ask("PUT", path, json.dumps(content).encode())
        if status == 200:
            self._in_force[path] = text
        return status, answer

    def _report(self, path: str) -> Any:
        project = path.split("/")[4].partition(":")[0]
        return json.loads(self._ask("GET", f"/emulator/v1/projects/{project}:ruleCoverage")[1])

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        return _asked(self._emulator, method, path, body)

    def connected(self) -> socket.socket:
        """Return a connection to the emulator."""
        host, _, port = self._emulator.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100
    proxy: RulesProxy


class _Connection(socketserver.BaseRequestHandler):
    """Passes on what a client sends, and answers requests for rules and for the hub itself."""

    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError), self.server.proxy.connected() as emulator:
            emulator.settimeout(None)
            threading.Thread(target=_pump, args=(emulator, self.request), daemon=True).start()
            reader: BufferedReader = self.request.makefile("rb")
            while self._pass_one(reader, emulator):
                pass

    def _pass_one(self, reader: BufferedReader, emulator: socket.socket) -> bool:
        """Pass on one request, or in HTTP/2 all, and return whether another may follow."""
        first = reader.readline(_PIECE)
        if first == _HTTP2:
            self._pass_all(reader, emulator, first)
        if not first or first == _HTTP2:
            return False
        head = [first]
        while head[-1] not in {b"\r\n", b"\n", b""}:
            head.append(reader.readline(_PIECE))
        method, _, rest = first.decode("latin-1").partition(" ")
        path = rest.rpartition(" ")[0]
        if method == "PUT" and _RULES.match(path):
            status, answer = self.server.proxy.load(path, _rules_in(b"".join(_body(reader, head, framed=False))))
            self._answer(status, answer)
        elif method == "GET" and path == "/emulators":
            self._answer(200, self.server.proxy.emulators())
        else:
            self._pass(reader, head, emulator)
        return True

    def _pass(self, reader: BufferedReader, head: list[bytes], emulator: socket.socket) -> None:
        self.server.proxy.see(head[0])
        emulator.sendall(b"".join(head))
        for piece in _body(reader, head, framed=True):
            self.server.proxy.see(piece)
            emulator.sendall(piece)

    def _pass_all(self, reader: BufferedReader, emulator: socket.socket, piece: bytes) -> None:
        before = b""
        while piece:
            self.server.proxy.see(before + piece)
            emulator.sendall(piece)
            before = (before + piece)[-_LONGEST:]
            piece = reader.read1(_PIECE)

    def _answer(self, status: int, content: bytes) -> None:
        head = f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\nContent-Type: application/json\r\n"
        self.request.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)


def _listening(port: int, proxy: RulesProxy) -> _Server:
    try:
        server = _Server(("127.0.0.1", port), _Connection)
    except OSError:
        server = _Server(("127.0.0.1", 0), _Connection)
    server.proxy = proxy
    return server


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    for end in (sink, source):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _body(reader: BufferedReader, head: list[bytes], *, framed: bool) -> Iterator[bytes]:
    """Yield the body of a request, with the frames of its chunks if ``framed``."""
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head[1:])}
    if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
        yield from _chunks(reader, framed=framed)
        return
    left = int(headers.get(b"content-length") or 0)
    while left:
        piece = reader.read1(min(left, _PIECE))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _chunks(reader: BufferedReader, *, framed: bool) -> Iterator[bytes]:
    while True:
        size = reader.readline(_PIECE)
        length = int(size.partition(b";")[0].strip() or b"0", 16)
        data = reader.read(length + 2) if length else b""
        yield size + data if framed else data[:length]
        if not length:
            break
    while (trailer := reader.readline(_PIECE)) not in {b"\r\n", b"\n", b""}:
        if framed:
            yield trailer
    if framed:
        yield b"\r\n"


def _rules_in(body: bytes) -> str:
    try:
        files = json.loads(body)["rules"]["files"]
        return str(files[0]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        return body.decode(errors="replace")


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _asked(host: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, timeout=_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
