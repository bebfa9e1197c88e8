"""Errors and retries that calls of Google's services share, whatever client makes them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["SCOPE", "GoogleError", "patiently"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_MIN_WAIT, _MAX_WAIT = 0.2, 5.0
_LEAST_SECONDS = 0.1

Answer = TypeVar("Answer")


class GoogleError(Exception):
    """A call that was refused or did not arrive.

    Args:
        status: of HTTP, or the HTTP status of a gRPC status; 0 without an answer.
        reason: Google's own message.
        retry_after: seconds, if the answer has them.
    """

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{status}: {reason}")

    @property
    def passing(self) -> bool:
        """Whether another try may help (https://cloud.google.com/apis/design/errors)."""
        return self.status in {0, 408, 429} or self.status >= 500


def patiently(call: Callable[[float], Answer], seconds: float, sleep: Callable[[float], None] = time.sleep) -> Answer:
    """Make a call, and repeat it while another try may help. Only for calls that may arrive twice.

    Args:
        call: takes the seconds that are left, and raises GoogleError.
        seconds: for all tries together.
    """
    give_up = time.monotonic() + seconds
    wait = _MIN_WAIT
    while True:
        try:
            return call(max(_LEAST_SECONDS, give_up - time.monotonic()))
        except GoogleError as error:
            pause = max(error.retry_after or 0.0, random.uniform(0, wait))  # noqa: S311 - keeps no secret
            wait = min(2 * wait, _MAX_WAIT)
            if not error.passing or time.monotonic() + pause >= give_up:
                raise
            sleep(pause)
