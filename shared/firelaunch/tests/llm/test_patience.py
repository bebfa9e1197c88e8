"""Whose a wait is."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest
from firelaunch.errors import ModelTimeout
from firelaunch.llm import deadline
from firelaunch.llm.client_connection import ClientConnection
from firelaunch.llm.deadline import Deadline


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def patience(client: ClientConnection) -> Deadline:
    began = Deadline(time.monotonic() + 60, 60, 60, client)
    began.record_arrival()  # so that no thread waits for a first token
    return began


def test_a_wait_that_nobody_took_over_is_told_of_once_and_then_the_threads_own(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    call = patience(ClientConnection(sockets[0]))
    assert call.hand_over(sockets[1])
    assert not call.hand_over(sockets[1])


def test_that_the_first_streams_waits_were_taken_over_says_nothing_of_the_second(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """Else a workflow that handles the pieces of its second stream would turn round and round."""
    client = ClientConnection(sockets[0])
    first, second = patience(client), patience(client)
    assert first.hand_over(sockets[1])
    client.may_wait = True
    assert second.hand_over(sockets[1])
    assert not second.hand_over(sockets[1])


def test_a_stream_that_came_back_from_the_hub_may_go_there_again(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    client = ClientConnection(sockets[0])
    call = patience(client)
    assert call.hand_over(sockets[1])
    client.may_wait = True
    assert call.hand_over(sockets[1])


def test_what_comes_before_the_first_text_is_no_beginning() -> None:
    call = Deadline(time.monotonic() + 60, 60, 60)
    call.record_arrival(text=False)
    assert not call.has_text
    call.record_arrival(text=True)
    assert call.has_text
    call.record_arrival(text=False)
    assert call.has_text, "and it stays one"


def test_keep_alives_begin_silence_anew_but_neither_the_answer_nor_the_clients_silence(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else comments would count as the first token, and a client behind a proxy would hear nothing for too long."""
    monkeypatch.setattr(deadline, "HEARTBEAT_SECONDS", 0.2)
    ours, provider = sockets
    call = Deadline(time.monotonic() + 60, 0.15, 0.01)
    beats, ends = 0, time.monotonic() + 0.7
    while time.monotonic() < ends:
        provider.send(b":")
        if call.wait(ours, select.POLLIN):
            ours.recv(10)
            call.record_sign_of_life()
        else:
            beats += 1
        time.sleep(0.02)
    assert 2 <= beats <= 3
    assert call.silence(time.monotonic()) > 0.6
    with pytest.raises(ModelTimeout, match="no answer"):
        call.wait(ours, select.POLLIN)


def test_a_finished_answer_is_waited_for_no_longer_than_said(sockets: tuple[socket.socket, socket.socket]) -> None:
    call = Deadline(time.monotonic() + 60, 60, 60)
    call.end_within(0.1)
    call.record_sign_of_life()
    with pytest.raises(ModelTimeout, match="did not end"):
        call.wait(sockets[0], select.POLLIN)
    call.end_within(60)
    assert call.silence(time.monotonic()) < 60
