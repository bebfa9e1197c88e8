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


def test_what_holds_nothing_of_the_answer_is_no_beginning() -> None:
    call = Deadline(time.monotonic() + 60, 60, 60)
    call.record_arrival(begun=False)
    assert not call.has_begun
    call.record_arrival(begun=True)
    assert call.has_begun
    call.record_arrival(begun=False)
    assert call.has_begun, "and it stays one"


def test_from_a_sign_of_life_on_silence_is_counted_anew_and_is_still_that_before_the_first_token() -> None:
    began = time.monotonic()
    call = Deadline(began + 600, first_token=60, between=1)
    time.sleep(0.05)
    call.record_sign_of_life()
    assert call.silence(began + 60.04) >= 60, "but nothing of the answer has come"
    with pytest.raises(ModelTimeout, match="no answer"):
        call.silence(time.monotonic() + 60)
    call.record_arrival()
    with pytest.raises(ModelTimeout, match="nothing more"):
        call.silence(time.monotonic() + 1)


def test_a_client_hears_something_while_its_provider_sends_nothing_but_signs_of_life(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them ends a wait; a heartbeat is due all the same."""
    monkeypatch.setattr(deadline, "HEARTBEAT_SECONDS", 0.2)
    ours, provider = sockets
    call = Deadline(time.monotonic() + 60, 60, 60)
    beats, give_up = 0, time.monotonic() + 30
    while beats < 2 and time.monotonic() < give_up:
        provider.send(b":")
        if call.wait(ours, select.POLLIN):
            ours.recv(10)
            call.record_sign_of_life()
            time.sleep(0.01)
        else:
            beats += 1
    assert beats == 2


def test_a_finished_answer_is_waited_for_no_longer_than_said(sockets: tuple[socket.socket, socket.socket]) -> None:
    call = Deadline(time.monotonic() + 60, 60, 60)
    call.end_within(0.1)
    call.record_sign_of_life()
    with pytest.raises(ModelTimeout, match="did not end"):
        call.wait(sockets[0], select.POLLIN)
    call.end_within(60)
    assert call.silence(time.monotonic()) < 60
