"""Clients that break the protocol's habits to hurt whoever comes after them: real gunicorn, real sockets."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from firelaunch.settings.sections import Cloud
from firelaunch.testing.models import ModelServer, Reply
from support import Server, User
from test_relay import LONG, WORDS, asked, read_until, start, wait_until


def connected(server: Server) -> socket.socket:
    return connected_to(server.url)


def connected_to(url: str) -> socket.socket:
    at = urlsplit(url)
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
            sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
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
        sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nX-Slow: ")
    dripping = threading.Thread(target=drip)
    if drips:
        dripping.start()
    try:
        # On a connection of its own, which is behind the others.
        assert httpx.get(f"{server.url}/live", timeout=30, trust_env=False).status_code == 200
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
        sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
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
        assert server.client.get(f"{server.url}/live").status_code == 200
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
        sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    for sock in sockets:
        read_until(sock, b"\r\n\r\n")
    # On a connection of its own. gunicorn would be two seconds about each of the others, one after the other.
    assert httpx.get(f"{server.url}/live", timeout=30, trust_env=False).status_code == 200
    for sock in sockets:
        while sock.recv(65_536):
            pass
        sock.close()


UNFINISHED = b"POST %b HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


def test_bodies_that_strangers_do_not_end_keep_nobody_out(app_folder: Path, serve: Callable[..., Server]) -> None:
    server = serve(app_folder, CONCURRENCY="2")
    sockets = [connected(server) for _ in range(200)]
    for sock in sockets:
        sock.sendall(UNFINISHED % b"/v1/chats")
    assert httpx.get(f"{server.url}/live", timeout=4, trust_env=False).status_code == 200
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 1000000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["too long to be gathered", "in chunks"],
)
def test_who_is_refused_before_their_body_was_read_is_told_so_and_holds_nothing(
    app_folder: Path, serve: Callable[..., Server], body: bytes
) -> None:
    server = serve(app_folder, CONCURRENCY="2")
    sockets = [connected(server) for _ in range(20)]
    for sock in sockets:
        sock.sendall(b"POST /v1/chats HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\n" + body)
    for sock in sockets:
        sock.settimeout(4)
        head = read_until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 "), head
        assert b"\r\nConnection: close\r\n" in head
    assert httpx.get(f"{server.url}/live", timeout=4, trust_env=False).status_code == 200


def test_a_body_that_was_not_read_but_is_there_leaves_its_connection_to_the_next_request(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    with connected(server) as sock:
        sock.sendall(b"POST /v1/chats HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\n{}")
        assert b"HTTP/1.1 401 " in read_until(sock, b"}}")
        sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200 " in read_until(sock, b"\r\n\r\n")


def test_members_whose_bodies_do_not_end_hold_half_of_the_threads_at_most(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    patience(app_folder, 12)  # the bodies end long before, also on a slow machine
    server = serve(app_folder, CONCURRENCY="2")  # and with it six threads
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    sockets = [connected(server) for _ in range(12)]
    for sock in sockets:
        sock.sendall(head.encode())
    for _ in range(3):
        assert httpx.get(f"{server.url}/live", timeout=3, trust_env=False).status_code == 200
        assert ada.call("POST", "/v1/chats", {}).status_code == 201
    # All bodies end before any answer is read: whoever is asked first may not be who holds a place.
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.sendall(b"1\r\n}\r\n0\r\n\r\n")
    statuses = [read_until(sock, b"\r\n\r\n")[9:12] for sock in sockets]
    # Those that ended their bodies were read, once others had left their places.
    assert set(statuses) <= {b"201", b"400", b"503"}
    assert statuses.count(b"201") >= 3, statuses


def test_who_has_a_whole_body_does_not_wait_for_all_bodies_that_another_does_not_end(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    patience(app_folder, 300)
    server = serve(app_folder, CONCURRENCY="2")  # and with it six threads, three of which wait for bodies
    chunked = "POST /v1/chats HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nAuthorization: {}\r\n"
    chunked += "Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"
    mallory, ada = [server.sign_in(name) for name in ("mallory", "ada")]
    assert [user.call("GET", "/v1/chats").status_code for user in (mallory, ada)] == [200, 200]
    with contextlib.ExitStack() as open_ones:
        bodies = []
        for _ in range(12):
            bodies.append(open_ones.enter_context(connected(server)))
            bodies[-1].sendall(chunked.format(mallory.headers["Authorization"]).encode())
            # With its answer the server has seen what was sent before.
            assert httpx.get(f"{server.url}/live", timeout=20, trust_env=False).status_code == 200
        sock = open_ones.enter_context(connected(server))
        end = b"1\r\n}\r\n0\r\n\r\n"
        sock.sendall(chunked.format(ada.headers["Authorization"]).encode() + end)
        assert httpx.get(f"{server.url}/live", timeout=20, trust_env=False).status_code == 200
        for body in bodies[:2]:  # mallory has waited for longer, and has one turn
            body.sendall(end)
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")


def unread(server: Server, pipelined: int) -> socket.socket:
    """A connection that asks for a large answer some times, and reads nothing."""
    at = urlsplit(server.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect((at.hostname or "", at.port or 0))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: app\r\n\r\n" * pipelined)
    sock.settimeout(60)
    return sock


def test_clients_that_ask_again_and_again_and_read_nothing_hold_no_thread(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    patience(app_folder, 300)
    server = serve(app_folder, CONCURRENCY="1")  # and with it five threads
    ada = server.sign_in("ada")
    assert server.client.get("/openapi.json").status_code == 200
    sockets = [unread(server, 1_000) for _ in range(30)]
    for _ in range(3):
        assert httpx.get(f"{server.url}/live", timeout=20, trust_env=False).status_code == 200
        assert ada.call("POST", "/v1/chats", {}).status_code == 201
    for sock in sockets:
        sock.close()


def test_an_answer_that_its_client_reads_late_is_whole_and_the_next_one_follows(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder, CONCURRENCY="1")
    whole = server.client.get("/openapi.json").content
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(unread(server, 2)) for _ in range(8)]
        assert server.client.get("/openapi.json").content == whole  # threads are done with the others
        for sock in sockets:
            seen = b""
            while seen.count(whole) < 2:
                data = sock.recv(65_536)
                assert data, seen[-200:]
                seen += data
            head, _, rest = seen.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert rest.startswith(whole + b"HTTP/1.1 200 OK")
            assert seen.endswith(whole)


def test_a_client_that_reads_nothing_for_too_long_is_left(app_folder: Path, serve: Callable[..., Server]) -> None:
    patience(app_folder, 1)
    server = serve(app_folder)
    assert server.client.get("/openapi.json").status_code == 200
    with unread(server, 1_000) as sock:
        # The end of the connection: further requests can't be sent once the server has closed it.
        wait_until(lambda: is_closed(sock))


def is_reset(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLHUP)
    return bool(poll.poll(0))


def test_the_kernel_keeps_nothing_for_a_client_that_was_left(app_folder: Path, serve: Callable[..., Server]) -> None:
    patience(app_folder, 1)
    server = serve(app_folder)
    with unread(server, 1) as sock:
        # Without a reset its end would stand behind all that the client does not read.
        wait_until(lambda: is_reset(sock))


def test_where_answers_that_nobody_reads_fill_the_memory_for_them_strangers_are_dropped_and_users_are_not(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    patience(app_folder, 300)
    server = serve(app_folder)
    ada = server.sign_in("ada")
    assert ada.call("GET", "/v1/chats").status_code == 200
    whole = server.client.get("/openapi.json").content
    with contextlib.ExitStack() as open_ones:
        slow = open_ones.enter_context(unread(server, 0))
        head = f"GET /openapi.json HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
        slow.sendall(f"{head}Connection: close\r\n\r\n".encode())
        seen = read_until(slow, b"\r\n\r\n")
        # Twice as much as is kept. The kernel takes a part of each.
        strangers = [open_ones.enter_context(unread(server, 1)) for _ in range(2 * 33_554_432 // len(whole))]
        wait_until(lambda: any(is_reset(sock) for sock in strangers))
        while data := slow.recv(65_536):
            seen += data
        assert seen.endswith(whole)


def is_closed(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"\r\n")
    except OSError as error:
        return not isinstance(error, TimeoutError)
    return False


def test_a_request_that_finds_no_thread_is_turned_away_and_probes_are_answered(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", "[limits]\nqueue_seconds = 1"))
    with ModelServer(LONG) as model, contextlib.ExitStack() as open_ones:
        server, ada, _ = start(serve, app_folder, model, CONCURRENCY="1")  # and with it five threads
        for name in ("ada", "bob", "cleo", "dan", "eve"):
            user = server.sign_in(name)
            body = b'{"text": "Hello"}'
            head = f"POST /v1/chats/{user.new_chat()}/messages HTTP/1.1\r\nHost: app\r\nAuthorization: "
            head += f"{user.headers['Authorization']}\r\nContent-Type: application/json\r\n"
            sock = open_ones.enter_context(connected(server))
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: len(model.requests) == 5)
        refused = ada.call("GET", "/v1/chats")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert refused.json()["error"]["code"] == "overloaded"
        for path in ("live", "ready"):
            assert httpx.get(f"{server.url}/{path}", timeout=20, trust_env=False).status_code == 200


def test_requests_that_come_in_pieces_and_several_at_once_are_answered_in_their_order(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    asked = f"{head}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n".encode() + b'{"title": "Teas"}'
    both = asked + b"GET /live HTTP/1.1\r\nHost: app\r\n\r\n" + asked + b"GET /live HTTP/1.1\r\nHost: app\r\n\r\n"
    with connected(server) as sock:
        for at in range(0, len(both), 97):
            sock.sendall(both[at : at + 97])
            time.sleep(0.01)
        seen = read_until(sock, b"Teas")
        while seen.count(b"HTTP/1.1 ") < 4:
            seen += sock.recv(65_536)
    assert [part[:3] for part in seen.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200"] * 2


def test_a_client_that_waits_to_be_told_to_go_on_is_told_so(app_folder: Path, serve: Callable[..., Server]) -> None:
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with connected(server) as sock:
        sock.sendall(head.encode())
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")


def test_a_head_that_is_too_long_is_refused_and_the_page_that_sent_it_may_read_why(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    top = b"GET /live HTTP/1.1\r\nHost: app\r\nOrigin: https://app.example.com\r\n"
    heads = {
        b"431": [top + b"X-Long: " + b"x" * 65_536, top + b"Authorization: Bearer " + b"x" * 9_000 + b"\r\n\r\n"],
        b"414": [top.replace(b"/live", b"/live?" + b"x" * 5_000) + b"\r\n"],
    }
    for status, sent in [(status, head) for status, each in heads.items() for head in each]:
        with connected(server) as sock:
            sock.sendall(sent)
            seen = read_until(sock, b"}}")
            assert seen.startswith(b"HTTP/1.1 " + status), seen
            assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in seen


def test_a_body_has_its_seconds_in_all_however_steadily_it_comes(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", "[limits]\nbody_seconds = 1"))
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: app\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 200000\r\n\r\n"
    with connected(server) as sock:
        sock.sendall(head.encode())
        sock.settimeout(0.1)
        seen, sent = b"", 0
        while not seen and sent < 100:  # 20 kB a second
            with contextlib.suppress(OSError):
                sock.send(b" " * 2_000)
                sent += 1
            with contextlib.suppress(TimeoutError):
                seen = sock.recv(65_536)
    assert seen.startswith(b"HTTP/1.1 400 "), seen
    assert 5 < sent < 100


def test_where_there_are_as_many_connections_as_may_be_the_one_that_is_silent_longest_ends(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder, CONCURRENCY="2", GUNICORN_CMD_ARGS="--worker-connections 20")
    server.client.close()  # which keeps a connection
    with contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(connected(server)) for _ in range(30)]
        for _ in range(3):
            assert httpx.get(f"{server.url}/live", timeout=4, trust_env=False).status_code == 200
        assert silent[0].recv(1) == b"", "the first to come is the first to go"
        silent[-1].sendall(b"GET /live HTTP/1.1\r\nHost: app\r\n\r\n")
        assert b"200 OK" in read_until(silent[-1], b"\r\n\r\n")


def test_at_the_highest_concurrency_that_the_settings_take_as_many_connections_and_a_probe_are_answered(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder, CONCURRENCY=str(Cloud.model_json_schema()["properties"]["concurrency"]["maximum"]))
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(connected(server)) for _ in range(1_000)]
        for _ in range(2):  # the second time on connections that were kept
            for sock in sockets:
                sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\n\r\n")
            for sock in sockets:
                head = read_until(sock, b"}")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert b"Connection: close" not in head
            assert httpx.get(f"{server.url}/ready", timeout=10, trust_env=False).status_code == 200


TELLS_WHO_GIVES_WAY = """
import sys
from firelaunch.identity.known_callers import known

def create_app():
    usual = sys.getswitchinterval()

    def app(environ, start_response):
        if environ.get("HTTP_AUTHORIZATION") == "Bearer of-ada":
            known(environ, "ada")
        body = b"first" if sys.getswitchinterval() == usual else b"gives way"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app
"""
"""An app that answers whether its threads give way: whoever works in the background has Python switch threads often."""


@pytest.mark.parametrize("token", [b"", b"Authorization: Bearer made-up\r\n"], ids=["no token", "a made-up token"])
def test_strangers_who_ask_often_give_way_and_users_who_do_so_do_not(
    tmp_path: Path, serve: Callable[..., Server], token: bytes
) -> None:
    (tmp_path / "app.py").write_text(TELLS_WHO_GIVES_WAY)
    server = serve(tmp_path)
    with connected(server) as ada:
        ada.sendall(b"GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer of-ada\r\n\r\n" * 60)
        seen = b""
        while seen.count(b"first") < 60:
            seen += ada.recv(65_536)
            assert b"gives way" not in seen
    with contextlib.ExitStack() as open_ones:
        strangers = [open_ones.enter_context(connected(server)) for _ in range(100)]
        for sock in strangers:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n" + token + b"\r\n")
        answers = [b"".join(iter(partial(sock.recv, 65_536), b"")) for sock in strangers]
    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
    assert any(answer.endswith(b"gives way") for answer in answers)
