"""Clients that break the protocol's habits to hurt whoever comes after them: real gunicorn, real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from firelaunch.testing.models import ModelServer, Reply
from support import Server, User
from test_relay import LONG, WORDS, asked, read_until, start, wait_until


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


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "a byte at a time"])
def test_connections_that_never_end_their_requests_do_not_keep_others_out_for_long(
    app_folder: Path, serve: Callable[..., Server], drips: bool
) -> None:
    patience(app_folder, 2)
    server = serve(app_folder, CONCURRENCY="2")
    sockets = [connected(server) for _ in range(8)]
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.2):
            for sock in sockets:
                with contextlib.suppress(OSError):
                    sock.send(b"x")

    for sock in sockets:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: app\r\nX-Slow: ")
    dripping = threading.Thread(target=drip)
    if drips:
        dripping.start()
    try:
        # On a connection of its own, which is behind the others.
        assert httpx.get(f"{server.url}/healthz", timeout=30, trust_env=False).status_code == 200
    finally:
        over.set()
        if drips:
            dripping.join()
        for sock in sockets:
            sock.close()


def test_a_body_that_never_comes_does_not_hold_its_thread(app_folder: Path, serve: Callable[..., Server]) -> None:
    patience(app_folder, 1)
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    with connected(server) as sock:
        sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        seen = b""
        while data := sock.recv(65_536):
            seen += data
    assert seen.startswith(b"HTTP/1.1 400 "), seen


@pytest.mark.parametrize("chunked", [False, True], ids=["of a length", "in chunks"])
def test_a_body_that_drips_does_not_hold_its_thread(
    app_folder: Path, serve: Callable[..., Server], chunked: bool
) -> None:
    patience(app_folder, 2)
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 600"
    head += f"Content-Type: application/json\r\n{length}\r\n\r\n"
    with connected(server) as sock:
        sock.sendall(head.encode())
        sock.settimeout(0.1)
        seen, sent, began = b"", 0, time.monotonic()
        while not seen and time.monotonic() - began < 60:
            with contextlib.suppress(OSError):
                sock.send(b"1\r\n \r\n" if chunked else b" ")
                sent += 1
            with contextlib.suppress(TimeoutError):
                seen = sock.recv(65_536)
        assert seen.startswith(b"HTTP/1.1 400 "), seen
        assert sent > 1, "no one piece was late"


def test_a_slow_line_that_keeps_sending_is_waited_for(app_folder: Path, serve: Callable[..., Server]) -> None:
    patience(app_folder, 1)
    server = serve(app_folder)
    ada = server.sign_in("ada")
    body = (
        b"--b\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n"
        + b"words " * 15_000
        + b"\r\n--b--\r\n"
    )
    head = f"POST /v1/documents HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(server) as sock:
        sock.sendall(head.encode())
        began = time.monotonic()
        for start_at in range(0, len(body), 4_000):  # 20 kB a second, for longer than write_seconds
            sock.sendall(body[start_at : start_at + 4_000])
            time.sleep(0.2)
        assert time.monotonic() - began > 3
        assert b" 202 " in read_until(sock, b"\r\n\r\n")
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        assert b" 200 OK" in read_until(sock, b" 200 OK"), "and its connection serves the next request"


def following(server: Server, user: User, chat: str, method: str = "GET") -> socket.socket:
    """A connection that has asked to go on with the chat's answer."""
    sock = connected(server)
    head = f"{method} /v1/chats/{chat}/stream HTTP/1.1\r\nHost: app\r\nAuthorization: "
    sock.sendall(f"{head}{user.headers['Authorization']}\r\n\r\n".encode())
    return sock


def test_one_user_cannot_take_the_threads_of_others_by_following(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with ModelServer(LONG) as model, contextlib.ExitStack() as open_ones:
        server, ada, chat = start(serve, app_folder, model, CONCURRENCY="10")
        bob = server.sign_in("bob")
        his = bob.new_chat()
        for user, name in ((ada, chat), (bob, his)):
            read_until(open_ones.enter_context(asked(server, user, name)), b"event: delta")
        for _ in range(20):  # answered by a head alone, which gives its place back
            with following(server, ada, chat, "HEAD") as sock:
                assert b"200 OK" in read_until(sock, b"\r\n\r\n")
        places = [open_ones.enter_context(following(server, ada, chat)) for _ in range(8)]
        for sock in places:
            read_until(sock, b"event: delta")
        for path in ("chat", "chats"):
            refused = ada.call("GET", f"/v1/{path}/{chat}/stream")
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
            assert refused.json()["error"]["code"] == "too_many_streams"
        read_until(open_ones.enter_context(following(server, bob, his)), b"event: delta")
        assert server.client.get(f"{server.url}/healthz").status_code == 200
        places[0].close()

        def there_is_room() -> bool:
            sock = open_ones.enter_context(following(server, ada, chat))
            return b"200 OK" in read_until(sock, b"\r\n\r\n")

        wait_until(there_is_room)


def test_all_users_together_leave_half_of_an_instances_threads(app_folder: Path, serve: Callable[..., Server]) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[cloud]", "[cloud]\nconcurrency = 4"))
    with ModelServer(LONG) as model, contextlib.ExitStack() as open_ones:
        server, ada, _ = start(serve, app_folder, model, CONCURRENCY="4")
        statuses = []
        for n in range(6):
            user = server.sign_in(f"user{n}")
            chat = user.new_chat()
            read_until(open_ones.enter_context(asked(server, user, chat)), b"event: delta")
            sock = open_ones.enter_context(following(server, user, chat))
            statuses.append(read_until(sock, b"\r\n\r\n")[9:12])
        assert statuses == [b"200"] * 2 + [b"429"] * 4
        assert ada.call("GET", "/v1/chats").status_code == 200


def patience(folder: Path, seconds: int) -> None:
    toml = folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", f"[limits]\nwrite_seconds = {seconds}"))


def test_a_client_that_reads_nothing_does_not_put_off_the_end_of_its_request_or_its_bill(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    patience(app_folder, 120)
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", "[limits]\nrequest_seconds = 4"))
    with ModelServer() as model:
        model.default = Reply(words=["x" * 50_000] * 2_000)
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as lazy:
            read_until(lazy, b"event: delta")
            wait_until(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
            assert ada.call("GET", "/v1/usage").json()["cost_micro_usd"] > 0


def test_connections_that_their_clients_never_close_keep_nobody_out(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    sockets = [connected(server) for _ in range(40)]
    for sock in sockets:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    for sock in sockets:
        read_until(sock, b"\r\n\r\n")
    # On a connection of its own. gunicorn would be two seconds about each of the others, one after the other.
    assert httpx.get(f"{server.url}/healthz", timeout=30, trust_env=False).status_code == 200
    for sock in sockets:
        while sock.recv(65_536):
            pass
        sock.close()
