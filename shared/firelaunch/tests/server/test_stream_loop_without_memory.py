"""The stream loop where there is no memory for a moment: streams go on when there is some again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from firelaunch.llm.client_connection import ClientConnection
from firelaunch.server.stream_loop import Served, StreamLoop


@pytest.fixture
def client() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def stream(client: socket.socket) -> tuple[Served, threading.Event]:
    """Return a stream that leaves the loop as soon as the loop has taken it."""
    left = threading.Event()
    return Served(iter(()), ClientConnection(client), lambda data: data, left.set), left


def test_a_loop_whose_thread_could_not_start_starts_with_the_next_stream(
    client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = StreamLoop(5.0)

    def no_memory(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    refused, refused_left = stream(client)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_memory)
        with pytest.raises(RuntimeError):
            loop.add(refused)
    served, left = stream(client)
    loop.add(served)
    assert left.wait(10)
    assert refused_left.wait(10)


def test_a_round_that_fails_for_want_of_memory_ends_no_stream_that_comes_later(
    client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = StreamLoop(5.0)
    select, failed = loop._prompt_selector.select, threading.Event()

    def fails_once(seconds: float | None = None) -> list[tuple[object, int]]:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        return select(seconds)  # type: ignore[return-value]

    monkeypatch.setattr(loop._prompt_selector, "select", fails_once)
    first, first_left = stream(client)
    loop.add(first)
    assert failed.wait(10)
    second, second_left = stream(client)
    loop.add(second)
    assert first_left.wait(10)
    assert second_left.wait(10)
