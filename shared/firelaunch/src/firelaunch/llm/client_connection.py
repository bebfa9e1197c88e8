"""A stream's client as the server knows it: its connection, and who waits for the model meanwhile.

A stream spends nearly all of its time waiting for its provider. A waiting thread costs memory, and a context switch
each time it wakes. So a server may wait for many streams in one place (:mod:`firelaunch.server.stream_loop`). A stream
then says what it waits for, and yields :data:`~firelaunch.llm.types.WAITING` instead of blocking.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CLIENT_KEY", "STREAM_KEY", "ClientConnection", "Wait"]

CLIENT_KEY = "firelaunch.client"
"""The key of the request's client in a WSGI environment, under a server that sets it."""

STREAM_KEY = "firelaunch.items"
"""The key under which an app leaves its response's items for such a server."""


class Wait(Protocol):
    """A wait for a provider, as its driver sees it; :class:`~firelaunch.llm.deadline.Deadline` is one."""

    @property
    def check(self) -> Callable[[], None]:
        """A function that raises whatever should end the wait from outside."""

    @property
    def has_begun(self) -> bool:
        """Whether some of the answer has arrived."""

    def left(self) -> float:
        """Return the seconds that the request still has.

        Raises:
            ModelTimeout: it has none.
        """

    def record_arrival(self, *, begun: bool = True) -> float:
        """Record that something has arrived, and return the time."""

    def silence(self, now: float) -> float:
        """Return the seconds of silence until ``now``.

        Raises:
            ModelTimeout: the silence was too long, or the request's time is used up.
        """


@dataclass(slots=True)
class ClientConnection:
    """The connection of one request's client.

    Only one thread at a time works on a stream, so nothing here needs a lock.

    Attributes:
        sock: the client's connection.
        goes_on: whether the answer goes on when the client leaves.
        may_wait: whether the stream's driver takes over the wait that it was last offered.
        hosted: whether the stream loop drives the stream now; anything that blocks must leave the loop first.
        waits_for: the provider's connection, and the limits of the wait.
        idle: whether the last item was all there was, so that a wait follows. The driver then need not ask the stream
            for another item to learn that.
        failure: what ended a wait that the loop took over; raised where the stream waited.
        not_before: the time (``time.monotonic``) until which arriving text is left to gather.
        read_text: returns the text that has arrived, or None if something else arrived with it; set while a
            model is read.
        add_text: adds such a text to the answer, and returns the part to show.
        encode: turns text into the bytes that the client gets, which may be none.
        beat: returns a sign of life for the client, or nothing while none is due; any thread may call it. It takes the
            place of the usual heartbeats, and is also called while the stream's own code blocks.
        left: whether the client closed its connection, as far as the server has noticed.

    With `read_text`, `add_text` and `encode`, text goes from the model to the client without running the stream's
    generators. The stream learns of the text with its next item.
    """

    sock: socket.socket
    goes_on: bool = False
    may_wait: bool = False
    hosted: bool = False
    waits_for: tuple[socket.socket, Wait] | None = None
    idle: bool = False
    failure: BaseException | None = None
    not_before: float = 0.0
    read_text: Callable[[], str | None] | None = None
    add_text: Callable[[str], str] | None = None
    encode: Callable[[str], bytes] | None = None
    beat: Callable[[], bytes] | None = None
    left: bool = False
