"""A provider that resets its connection while the client of its stream is slow: real gunicorn, real sockets."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support import Server
from test_relay import wait_until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@contextmanager
def resetting() -> Iterator[tuple[str, threading.Event]]:
    """A model that says more than anybody takes, and resets its connection once nobody takes any."""
    done = threading.Event()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1_000_000)
            sock.sendall(HEAD)
            sock.setblocking(False)
            number = 0
            left = b""
            while True:
                if not left:
                    chunk = {"choices": [{"index": 0, "delta": {"content": f"<{number}>" + "x" * 5_000}}]}
                    left, number = b"data: " + json.dumps(chunk).encode() + b"\n\n", number + 1
                if not select.select([], [sock], [], 1.0)[1]:
                    break
                left = left[sock.send(left) :]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        done.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", done


def dechunked(seen: bytes) -> bytes:
    """A chunked body; fails where its framing is broken."""
    body, rest = b"", seen.partition(b"\r\n\r\n")[2]
    while True:
        size, _, rest = rest.partition(b"\r\n")
        assert re.fullmatch(rb"[0-9a-fA-F]+", size), f"no chunk begins with {size[:50]!r}"
        length = int(size, 16)
        if not length:
            return body
        body, rest = body + rest[:length], rest[length:]
        assert rest.startswith(b"\r\n"), f"a chunk ends in {rest[:50]!r}"
        rest = rest[2:]


def test_what_a_slow_client_has_not_taken_yet_survives_a_reset_by_the_provider(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with resetting() as (url, reset):
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=url)
        ada = server.sign_in("ada")
        chat = ada.new_chat()
        body = json.dumps({"text": "Hello"})
        head = [f"POST /v1/chats/{chat}/messages HTTP/1.1", "Host: app", "Accept: text/event-stream"]
        head += [f"Authorization: {ada.headers['Authorization']}", f"Content-Length: {len(body)}", "Connection: close"]
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(30)
            sock.connect((server.client.base_url.host, server.client.base_url.port or 0))
            sock.sendall("\r\n".join([*head, "Content-Type: application/json", "", body]).encode())
            assert reset.wait(60)
            threading.Event().wait(1)
            seen = b""
            while data := sock.recv(65_536):
                seen += data
    stream = dechunked(seen)
    assert stream.count(b"event: error") == 1
    text = "".join(json.loads(data)["text"] for data in re.findall(rb"event: delta\ndata: (.*)\n", stream))
    numbers = [int(number) for number in re.findall(r"<(\d+)>", text)]
    assert numbers == list(range(len(numbers)))
    wait_until(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
    assert "a stream failed" not in server.log.read_text()
