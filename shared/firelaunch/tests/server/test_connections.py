"""Requests that are gathered from pieces, before a thread sees any of them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from firelaunch.server.connections import GATHERED_BYTES, Connection, PacedSocket, RequestProgress
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["Content-Length", "content-length", "CONTENT-LENGTH"])


def gathered(data: bytes, places: list[int]) -> tuple[Connection, list[RequestProgress]]:
    """What is said of the request after each piece of ``data``, until a thread would get it."""
    one, other = socket.socketpair()
    with one, other:
        cfg: Any = None
        conn = Connection(cfg, one, ("127.0.0.1", 1), ("127.0.0.1", 2), 30, 300)
        conn.renew(75)
        told = []
        at = 0
        for end in sorted({*(place % (len(data) + 1) for place in places), len(data)} - {0}):
            told.append(conn.take(data[at:end]))
            at = end
            if told[-1] is not RequestProgress.WAIT:
                break
        return conn, told


@given(st.binary(max_size=300), NAMES, st.binary(max_size=40), st.lists(st.integers(0, 10_000), max_size=12))
def test_a_request_cut_anywhere_is_ready_when_all_of_it_is_there_and_not_before(
    body: bytes, name: str, more: bytes, places: list[int]
) -> None:
    request = f"POST /v1/chats HTTP/1.1\r\nHost: x\r\n{name}: {len(body)}\r\nX-Last: 1\r\n\r\n".encode() + body
    conn, told = gathered(request + more, places)
    assert told[-1] is RequestProgress.READY
    assert not conn.needs_reader
    if len(request) > 1:
        _, before = gathered(request[:-1], places)
        assert RequestProgress.READY not in before


@given(st.binary(min_size=1, max_size=200).filter(lambda data: b"\r\n\r\n" not in data), st.lists(st.integers(0, 300)))
def test_what_has_no_end_of_a_head_gets_no_thread(data: bytes, places: list[int]) -> None:
    conn, told = gathered(data, places)
    assert set(told) == {RequestProgress.WAIT}
    assert not conn.has_head


@given(
    st.sampled_from(
        [f"Content-Length: {GATHERED_BYTES + 1}", "Transfer-Encoding: chunked", "transfer-encoding: x", "Expect: 100"]
    ),
    st.lists(st.integers(0, 300)),
)
def test_a_body_that_is_not_gathered_waits_for_a_place_as_soon_as_its_head_is_there(
    line: str, places: list[int]
) -> None:
    conn, told = gathered(f"POST / HTTP/1.1\r\n{line}\r\nHost: x\r\n\r\n".encode(), places)
    assert told[-1] is RequestProgress.READY
    assert conn.needs_reader


def test_a_head_that_is_longer_than_what_is_gathered_is_too_large() -> None:
    _, told = gathered(b"GET / HTTP/1.1\r\nX: " + b"x" * GATHERED_BYTES, [30_000])
    assert told == [RequestProgress.WAIT, RequestProgress.TOO_LARGE]


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the kernel has no such limit")
def test_the_kernel_takes_little_of_what_a_client_does_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            sock = PacedSocket(accepted, 30, 300)
            sock.setblocking(True)
            sock.keeps = True
            sock.sendall(bytes(1_000_000))
            assert sock.kept_bytes > 700_000
