"""The limits of one call of a model: how long it may take, and what else may end it while it waits."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ModelTimeout
from .client_connection import ClientConnection

__all__ = ["HEARTBEAT_SECONDS", "TICK_SECONDS", "ClientLeft", "Deadline"]

HEARTBEAT_SECONDS = 15.0
"""Seconds of silence after which a stream sends its client a sign of life; proxies cut after a minute."""

TICK_SECONDS = 0.25
"""Seconds between two checks of conditions that no socket reports.

Such conditions are a restart, and a stop that another instance received.
"""


_FIRST_SECONDS = 0.1
"""Seconds that a thread waits for an answer to begin before it leaves the wait to the stream loop."""


class ClientLeft(Exception):
    """The client has closed its connection."""


@dataclass(slots=True)
class Deadline:
    """The limits of one call; times are seconds of ``time.monotonic``.

    Args:
        deadline: when the request's time is used up.
        first_token: seconds of silence until the provider sends anything of the answer.
        between: seconds of silence after that.
        client: the client's connection; None if unknown.
        check: called several times a second; raises what should end the call.

    ``sent`` says that the provider has received all of the request; from then on it may charge for the call.

    A provider's keep-alives (comments, blank lines) are signs of life: silence is counted from them anew. They are not
    the answer's beginning, and the client hears nothing of them.
    """

    deadline: float
    first_token: float
    between: float
    client: ClientConnection | None = None
    check: Callable[[], None] = lambda: None
    sent: bool = False
    _began: float = field(default_factory=time.monotonic)
    _offered: bool = False
    _has_begun: bool = False
    _last: float = 0.0
    _alive: float = 0.0
    _beat: float = 0.0
    _ends: float = math.inf

    def left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            ModelTimeout: the deadline has passed.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise ModelTimeout(reason="the request's time is used up")
        return seconds

    @property
    def has_begun(self) -> bool:
        """Whether some of the answer has arrived: text, a thought, or a part of a tool's call; a role is none of it."""
        return self._has_begun

    def record_arrival(self, *, begun: bool = True) -> float:
        """Record that something has arrived, and return the time.

        Args:
            begun: whether it holds some of the answer.
        """
        self._has_begun, self._last = self._has_begun or begun, time.monotonic()
        return self._last

    def record_sign_of_life(self) -> None:
        """Record that the provider has sent something that is no part of the answer."""
        self._alive = time.monotonic()

    def end_within(self, seconds: float) -> None:
        """Let the wait end after ``seconds``, because the answer is complete and only its usage may follow."""
        self._ends = time.monotonic() + seconds

    def silence(self, now: float) -> float:
        """Return the seconds since something of the answer arrived, or since the call began.

        Raises:
            ModelTimeout: the silence was too long, or the request's time is used up.
        """
        heard = self._last > 0
        last = self._last if heard else self._began
        silent = now - max(last, self._alive)
        if now >= self.deadline:
            raise ModelTimeout(reason="the request's time is used up")
        if now >= self._ends:
            raise ModelTimeout(reason="the provider did not end its finished answer")
        if silent >= (self.between if heard else self.first_token):
            silence = "nothing more" if heard else "no answer"
            raise ModelTimeout(reason=f"{silence} for {silent:.1f} s")
        return now - last

    def hand_over(self, sock: socket.socket) -> bool:
        """Return whether the stream loop takes over the wait for ``sock``.

        If it does, the caller must yield control instead of waiting.
        """
        client = self.client
        if client is None:
            return False
        if not client.hosted:
            # The driver answers an offer with ``may_wait``. False means that this thread must wait itself.
            if self._offered and not client.may_wait:
                return False
            if not self._has_begun and self._arrives_soon(sock):
                return False
            # Every call checks this again: a workflow may do more with its second stream than with its first.
            self._offered, client.may_wait = True, False
        client.waits_for = (sock, self)
        return True

    def _arrives_soon(self, sock: socket.socket) -> bool:
        """Return whether more arrives at once.

        A thread may wait a moment for the first token, because the stream loop serves its streams in turn.
        """
        left = self._began + _FIRST_SECONDS - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(1000 * left))

    def idle(self, sock: socket.socket) -> bool:
        """Announce to the stream loop, with the next piece, that a wait for ``sock`` follows.

        Returns:
            Whether the loop drives this stream.
        """
        client = self.client
        if client is None or not client.hosted:
            return False
        client.waits_for, client.idle = (sock, self), True
        return True

    def take_back(self) -> None:
        """End a wait that was handed over, or that was not needed.

        Raises:
            Whatever ended the wait.
        """
        client = self.client
        if client is None:
            return
        client.idle = False
        if client.failure is not None:
            failure, client.failure = client.failure, None
            raise failure

    @property
    def hosted(self) -> bool:
        """Whether the stream loop drives the stream now, so that nothing may block."""
        return self.client is not None and self.client.hosted

    def wait(self, sock: socket.socket, event: int) -> bool:
        """Wait until ``sock`` is ready for ``event`` (``select.POLLIN`` or ``POLLOUT``).

        Returns:
            False after 15 seconds without a part of the answer.

        Raises:
            ModelTimeout: one of the limits is reached.
            ClientLeft: the client closed its connection.
            Whatever ``check`` raises.
        """
        client = self._client_socket()
        poll = select.poll()
        poll.register(sock, event)
        if client is not None:
            poll.register(client, select.POLLIN)
        provider_number, client_number = sock.fileno(), -1 if client is None else client.fileno()
        while True:
            now = time.monotonic()
            # Keep-alives end a wait, so the silence may have begun before this one.
            if min(self.silence(now), now - self._beat) >= HEARTBEAT_SECONDS:
                self._beat = now
                return False
            seconds = min(TICK_SECONDS, self.deadline - now, self._ends - now)
            ready = {number for number, _ in poll.poll(1000 * seconds)}
            if client_number in ready and client is not None and _is_gone(client):
                raise ClientLeft
            if provider_number in ready:
                return True
            if client_number in ready and client is not None:
                # The client sent more than its request. A close would now be hidden behind those bytes: stop watching.
                poll.unregister(client)
                client, client_number = None, -1
            self.check()

    def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``; whatever ends :meth:`wait` ends the sleep, too."""
        client = self._client_socket()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            poll = select.poll()
            if client is not None:
                poll.register(client, select.POLLIN)
            if poll.poll(1000 * min(TICK_SECONDS, left)):
                if client is not None and _is_gone(client):
                    raise ClientLeft
                client = None
            self.check()

    def _client_socket(self) -> socket.socket | None:
        client = self.client
        return None if client is None or client.goes_on else client.sock


def _is_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
