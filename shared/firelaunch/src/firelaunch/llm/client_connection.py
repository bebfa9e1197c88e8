"""Whoever asked for a stream, as the server knows them: their connection, and who waits for the model meanwhile.

A stream spends nearly all of its time waiting for its provider. A thread that waits costs memory and, each time that
it is woken, a change of threads; so a server may wait for many streams in one place
(:mod:`firelaunch.server.stream_loop`). A stream then says what it waits for and gives back control, by a chunk that is
:data:`~firelaunch.llm.types.WAITING`, instead of blocking.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CLIENT_KEY", "STREAM_KEY", "ClientConnection", "Wait"]

CLIENT_KEY = "firelaunch.client"
"""Where a WSGI environment has its request's client, under a server that knows them."""

STREAM_KEY = "firelaunch.items"
"""Where an app leaves its response's items for such a server."""


class Wait(Protocol):
    """A wait for a provider, as whoever drives it sees it; :class:`~firelaunch.llm.deadline.Deadline` is one."""

    @property
    def check(self) -> Callable[[], None]:
        """Raises whatever is to end the wait from outside."""

    @property
    def begun(self) -> bool:
        """Whether the first text of the answer has come."""

    def left(self) -> float:
        """Return the seconds that the request still has.

        Raises:
            ModelTimeout: there are none.
        """

    def heard(self, *, text: bool = True) -> float:
        """Take note that something has come, and return the time."""

    def quiet(self, now: float) -> float:
        """Return the seconds of silence until ``now``.

        Raises:
            ModelTimeout: too many, or the request's time is used up.
        """


@dataclass(slots=True)
class ClientConnection:
    """One request's client. Only one thread at a time works for a stream, so nothing here is locked.

    Attributes:
        sock: the client's connection.
        goes_on: whether the answer goes on when the client leaves.
        may_wait: whether the stream's driver takes over the wait that it was told of last.
        hosted: whether the hub drives the stream at the moment: whatever blocks has to leave it first.
        waits_for: the provider's connection, and until when.
        idle: whether the item that was just given is all there was, so that a wait follows it: the stream need not be
            asked for more to say so.
        failure: what ended a wait that somebody else took over; raised where the wait was.
        not_before: time of ``time.monotonic`` until which what arrives is left to gather.
        read: gives the text that has come, where it is nothing but that; set while a model is being read.
        told: takes such a text into the answer, and gives what is to be shown of it.
        encode: text as the client gets it.

    By the last three, text goes from the model to the client without a step of the stream, which is told of it with its
    next one.
    """

    sock: socket.socket
    goes_on: bool = False
    may_wait: bool = False
    hosted: bool = False
    waits_for: tuple[socket.socket, Wait] | None = None
    idle: bool = False
    failure: BaseException | None = None
    not_before: float = 0.0
    read: Callable[[], str | None] | None = None
    told: Callable[[str], str] | None = None
    encode: Callable[[str], bytes] | None = None
