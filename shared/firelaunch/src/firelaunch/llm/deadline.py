"""How long one call of a model may take, and what else may end it while it waits."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ModelTimeout
from .client_connection import ClientConnection

__all__ = ["HEARTBEAT_SECONDS", "TICK_SECONDS", "ClientLeft", "Deadline"]

HEARTBEAT_SECONDS = 15.0
"""Seconds of silence after which a stream's client is sent a sign of life; proxies end what is silent for a minute."""

TICK_SECONDS = 0.25
"""Seconds between two looks at what no socket tells: a restart, a stop that another instance was asked for."""


_FIRST_SECONDS = 0.1
"""How long a thread waits for the beginning of an answer before it leaves the wait to the hub."""


class ClientLeft(Exception):
    """Whoever asked has closed their connection."""


@dataclass(slots=True)
class Deadline:
    """The limits of one call; times are seconds of ``time.monotonic``.

    Args:
        deadline: when the request's time is used up.
        first_token: seconds of silence until the provider sends anything of the answer.
        between: seconds of silence after that.
        client: whoever asked; None where that is not known.
        check: called several times a second; raises what is to end the call.

    ``sent`` says that the provider has all of the request: from then on it may charge for it.
    """

    deadline: float
    first_token: float
    between: float
    client: ClientConnection | None = None
    check: Callable[[], None] = lambda: None
    sent: bool = False
    _began: float = field(default_factory=time.monotonic)
    _asked: bool = False
    _begun: bool = False
    _last: float = 0.0

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            ModelTimeout: there are none.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise ModelTimeout(reason="the request's time is used up")
        return seconds

    @property
    def begun(self) -> bool:
        """Whether the first text of the answer has come. What comes before it, such as a role, is no beginning."""
        return self._begun

    def heard(self, *, text: bool = True) -> float:
        """Take note that something has come, and return the time.

        Args:
            text: whether there is text of the answer in it.
        """
        self._begun, self._last = self._begun or text, time.monotonic()
        return self._last

    def quiet(self, now: float) -> float:
        """Return the seconds since something came, or since the call began.

        Raises:
            ModelTimeout: too many, or the request's time is used up.
        """
        heard = self._last > 0
        silent = now - (self._last if heard else self._began)
        if now >= self.deadline:
            raise ModelTimeout(reason="the request's time is used up")
        if silent >= (self.between if heard else self.first_token):
            what = "nothing more" if heard else "no answer"
            raise ModelTimeout(reason=f"{what} for {silent:.1f} s")
        return silent

    def hand_over(self, sock: socket.socket) -> bool:
        """Whether the wait for ``sock`` is somebody else's; the caller then gives back control rather than wait."""
        client = self.client
        if client is None:
            return False
        if not client.hosted:
            if self._asked and not client.may_wait:
                return False
            if not self._begun and self._soon(sock):
                return False
            # Each call asks anew: the workflow may do more with its second stream than it did with its first.
            self._asked, client.may_wait = True, False
        client.waits_for = (sock, self)
        return True

    def _soon(self, sock: socket.socket) -> bool:
        """Whether more comes at once. The first token is worth a thread: the hub relays many streams in turn."""
        left = self._began + _FIRST_SECONDS - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(1000 * left))

    def idle(self, sock: socket.socket) -> bool:
        """Whether the hub is told, with the piece that it is about to get, that a wait for ``sock`` follows."""
        client = self.client
        if client is None or not client.hosted:
            return False
        client.waits_for, client.idle = (sock, self), True
        return True

    def take_back(self) -> None:
        """The wait that was handed over is done, or was not needed.

        Raises:
            Whatever ended it.
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
        """Whether the hub is at work, where nothing may block."""
        return self.client is not None and self.client.hosted

    def wait(self, sock: socket.socket, event: int) -> bool:
        """Wait until ``sock`` is ready for ``event`` (``select.POLLIN`` or ``POLLOUT``); False after 15 silent seconds.

        Raises:
            ModelTimeout: one of the limits is reached.
            ClientLeft: the client is gone.
            Whatever ``check`` raises.
        """
        watched = self._watched()
        poll = select.poll()
        poll.register(sock, event)
        if watched is not None:
            poll.register(watched, select.POLLIN)
        since = time.monotonic()
        ours, theirs = sock.fileno(), -1 if watched is None else watched.fileno()
        while True:
            now = time.monotonic()
            self.quiet(now)
            if now - since >= HEARTBEAT_SECONDS:
                return False
            ready = {found for found, _ in poll.poll(1000 * min(TICK_SECONDS, self.deadline - now))}
            if theirs in ready and watched is not None and _is_gone(watched):
                raise ClientLeft
            if ours in ready:
                return True
            if theirs in ready and watched is not None:
                # It sent more than its request. That cannot be told from leaving any longer, so it is not looked at.
                poll.unregister(watched)
                watched, theirs = None, -1
            self.check()

    def pause(self, seconds: float) -> None:
        """Sleep, but for what ends :meth:`wait`."""
        watched = self._watched()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            poll = select.poll()
            if watched is not None:
                poll.register(watched, select.POLLIN)
            if poll.poll(1000 * min(TICK_SECONDS, left)):
                if watched is not None and _is_gone(watched):
                    raise ClientLeft
                watched = None
            self.check()

    def _watched(self) -> socket.socket | None:
        client = self.client
        return None if client is None or client.goes_on else client.sock


def _is_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
