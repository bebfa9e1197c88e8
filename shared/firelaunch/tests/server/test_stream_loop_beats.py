"""Signs of life that the stream loop sends for streams which threads run."""

from __future__ import annotations

import contextlib
import socket

from firelaunch.llm.client_connection import ClientConnection
from firelaunch.server.stream_loop import Served, StreamLoop

LONG = 300.0


def beating(ours: socket.socket) -> Served:
    """Return a stream that always has a sign of life to send, on a socket as threads have it."""
    ours.settimeout(LONG)
    client = ClientConnection(ours, beat=lambda: b"still here")
    return Served(iter(()), client, lambda data: data, lambda: None)


def test_a_client_that_reads_nothing_holds_up_no_other_streams_signs_of_life() -> None:
    loop = StreamLoop(LONG)
    with contextlib.ExitStack() as open_ones:
        pairs = [[open_ones.enter_context(end) for end in socket.socketpair()] for _ in range(4)]
        lazy = pairs[:3]
        for ours, _ in lazy:
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(65_536))
        served = [beating(ours) for ours, _ in pairs]
        for each in served:
            loop.beat_for(each)
        reader = pairs[-1][1]
        reader.settimeout(60)
        for _ in range(3):
            assert reader.recv(len(b"still here")) == b"still here"
        for each in served:
            loop.beat_no_more(each)
        assert not any(each.gone for each in served), "a client that is slow has not left"
