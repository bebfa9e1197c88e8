"""Clients that break the protocol's habits to hurt whoever comes after them: real gunicorn, real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from firelaunch.testing.models import ModelServer, Reply
from support import Server
from test_relay import WORDS, asked, read_until, start


def connected(server: Server) -> socket.socket:
    at = urlsplit(server.url)
    return socket.create_connection((at.hostname or "", at.port or 0), timeout=60)


def test_a_head_request_for_a_stream_has_no_body_that_would_pass_for_the_next_answer(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with ModelServer(Reply(words=WORDS, pace=0.1)) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as stream, connected(server) as sock:
            read_until(stream, b"event: delta")
            head = f"HEAD /v1/chats/{chat}/stream HTTP/1.1\r\nHost: app\r\nAuthorization: "
            sock.sendall(f"{head}{ada.headers['Authorization']}\r\n\r\n".encode())
            seen = read_until(sock, b"\r\n\r\n")
            assert b"200 OK" in seen
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            while data := sock.recv(65_536):
                seen += data
            assert seen.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1 200 OK"), seen
