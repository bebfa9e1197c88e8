"""The port to a service that sends notifications to devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..errors import FirelaunchError

__all__ = ["Outcome", "Push", "PushMessage", "PushUnavailable"]

Outcome = Literal["sent", "stale", "refused", "again"]
"""Of one device: accepted; the device is gone for good; it will never be accepted; another try may help."""


class PushUnavailable(FirelaunchError):
    """Notifications could not be sent to all devices now."""

    code = "push_unavailable"
    status = 503
    message = "Notifications cannot be sent at the moment."


@dataclass(frozen=True, slots=True)
class PushMessage:
    """A notification for a device.

    Args:
        data: passed to the client's code.
        tag: a notification replaces an earlier one with the same tag on the device, so one that is sent twice shows
            once.
    """

    title: str
    body: str
    data: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""


class Push(Protocol):
    """A sender of notifications. May be called from many threads."""

    def send(self, tokens: Sequence[str], notification: PushMessage) -> list[Outcome]:
        """Send to these devices, and return each one's outcome in their order.

        Raises:
            PushUnavailable: nothing could be sent.
        """
