"""The port to whatever brings notifications to devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..errors import FirelaunchError

__all__ = ["Outcome", "Push", "PushMessage", "PushUnavailable"]

Outcome = Literal["sent", "stale", "refused", "again"]
"""Of one device: it was taken; the device is gone for good; it will never be taken; another try may help."""


class PushUnavailable(FirelaunchError):
    """Notifications could not be brought to all devices now."""

    code = "push_unavailable"
    status = 503
    message = "Notifications cannot be sent at the moment."


@dataclass(frozen=True, slots=True)
class PushMessage:
    """What a device shows.

    Args:
        data: handed to the client's code.
        tag: notifications of the same tag take each other's place on a device, so one that is sent twice shows once.
    """

    title: str
    body: str
    data: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""


class Push(Protocol):
    """Sends notifications. May be called from many threads."""

    def send(self, tokens: Sequence[str], notification: PushMessage) -> list[Outcome]:
        """Send to these devices; what came of each, in their order.

        Raises:
            PushUnavailable: nothing could be sent.
        """
