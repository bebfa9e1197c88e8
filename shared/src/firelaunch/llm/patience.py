"""How long one call of a model may take, and what else may end it while it waits."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ModelTimeout

__all__ = ["ClientLeft", "Patience"]

_HEARTBEAT = 15.0
"""Seconds of silence after which a stream's client is sent a sign of life; proxies end what is silent for a minute."""

_TICK = 0.25
"""Seconds between two looks at what no socket tells: a restart, a stop that another instance was asked for."""


class ClientLeft(Exception):
    """Whoever asked has closed their connection."""


@dataclass(slots=True)
class Patience:
    """The limits of one call; times are seconds of ``time.monotonic``.

    Args:
        deadline: when the request's time is used up.
        first_token: seconds until the first bytes of the answer.
        between: seconds between any two of its bytes.
        client: the socket of whoever asked; None where they may leave without ending the answer.
        check: called several times a second; raises what is to end the call.
    """

    deadline: float
    first_token: float
    between: float
    client: socket.socket | None = None
    check: Callable[[], None] = lambda: None
    _began: float = field(default_factory=time.monotonic)
    _heard: bool = False
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

    def heard(self) -> None:
        """Something of the answer is there."""
        self._heard, self._last = True, time.monotonic()

    def wait(self, sock: socket.socket, event: int) -> bool:
        """Wait until ``sock`` is ready for ``event`` (``select.POLLIN`` or ``POLLOUT``); False after 15 silent seconds.

        Raises:
            ModelTimeout: one of the limits is reached.
            ClientLeft: the client is gone.
            Whatever ``check`` raises.
        """
        poll = select.poll()
        poll.register(sock, event)
        if self.client is not None:
            poll.register(self.client, select.POLLIN)
        since = time.monotonic()
        silent_since = self._last if self._heard else self._began
        give_up = silent_since + (self.between if self._heard else self.first_token)
        ours, theirs = sock.fileno(), -1 if self.client is None else self.client.fileno()
        while True:
            now = time.monotonic()
            self.left()
            if now - since >= _HEARTBEAT:
                return False
            if now >= give_up:
                what = "nothing more" if self._heard else "no answer"
                raise ModelTimeout(reason=f"{what} for {now - silent_since:.1f} s")
            ready = {found for found, _ in poll.poll(1000 * min(_TICK, give_up - now, self.deadline - now))}
            if theirs in ready and self._client_is_gone():
                raise ClientLeft
            if ours in ready:
                return True
            if theirs in ready and self.client is not None:
                # It sent more than its request. That cannot be told from leaving any longer, so it is not looked at.
                poll.unregister(self.client)
                self.client, theirs = None, -1
            self.check()

    def pause(self, seconds: float) -> None:
        """Sleep, but for what ends :meth:`wait`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            poll = select.poll()
            if self.client is not None:
                poll.register(self.client, select.POLLIN)
            if poll.poll(1000 * min(_TICK, left)):
                if self._client_is_gone():
                    raise ClientLeft
                self.client = None
            self.check()

    def _client_is_gone(self) -> bool:
        if self.client is None:
            return False
        try:
            return not self.client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
