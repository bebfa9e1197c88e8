"""The job that sends a notification to all devices of one user.

A token stands for one person's app on one device. If another user signs in there, they register the token for
themselves, and the first user's notifications no longer go to that device.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...jobs.base import Kind
from ...push import Push, PushMessage, PushUnavailable
from ...push.devices import MOST_DEVICES
from ...store.base import Delete, Order, Query
from .. import Handlers, JobDone, JobFailed, JobRun

__all__ = ["NOTIFY", "Notify", "notify_handlers"]


_DATA_BYTES = 3_000
"""The most bytes of a notification's data. FCM takes 4,096 bytes for the whole message
(https://firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type)."""

_RESERVED = ("from", "message_type")
_RESERVED_PREFIXES = ("google.", "gcm.")


class Notify(BaseModel):
    """The payload: the text that the user's devices show. ``data`` goes to the client's code."""

    model_config = ConfigDict(extra="forbid")
    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=1000)
    data: dict[str, str] = Field(default={})

    @field_validator("data")
    @classmethod
    def _as_fcm_takes_it(cls, data: dict[str, str]) -> dict[str, str]:
        if sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) > _DATA_BYTES:
            raise ValueError(f"has at most {_DATA_BYTES} bytes")
        if any(key in _RESERVED or key.startswith(_RESERVED_PREFIXES) for key in data):
            raise ValueError('has no key "from" or "message_type", nor one that begins with "google." or "gcm."')
        return data


NOTIFY: Final = Kind("notify", Notify)


def notify_handlers(push: Push | None, more: Handlers | None = None) -> Handlers:
    """Return the handler of notifications, together with ``more``.

    Args:
        push: sends notifications; None if nothing can be sent, as on a laptop.
    """
    handlers = Handlers(more)

    @handlers.on(NOTIFY)
    def notify(run: JobRun, payload: Notify) -> JobDone:
        if run.scope.uid is None:
            raise JobFailed("A notification is for a user.")
        devices = run.services.store.query(
            Query(run.scope.devices(), order=(Order("updated_at", descending=True),), limit=MOST_DEVICES)
        )
        if push is None:
            return JobDone({"devices": len(devices), "sent": 0, "removed": 0, "refused": 0, "off": True})
        progress: dict[str, Any] = run.checkpoint or {"done": [], "sent": 0, "removed": 0, "refused": 0}
        pending = [device for device in devices if device.id not in progress["done"]]
        notification = PushMessage(payload.title, payload.body, payload.data, tag=run.id)
        outcomes = push.send([str(device.data["token"]) for device in pending], notification) if pending else []
        by_outcome = {name: [d for d, o in zip(pending, outcomes, strict=True) if o == name] for name in set(outcomes)}
        stale = by_outcome.get("stale", [])
        progress = {
            "done": [*progress["done"], *(d.id for d, o in zip(pending, outcomes, strict=True) if o != "again")],
            "sent": progress["sent"] + len(by_outcome.get("sent", [])),
            "removed": progress["removed"] + len(stale),
            "refused": progress["refused"] + len(by_outcome.get("refused", [])),
        }
        deletes = [Delete(d.path) for d in stale]
        if by_outcome.get("again"):
            run.commit(*deletes, checkpoint=progress)
            raise PushUnavailable(retry_after=10)
        counts = {name: progress[name] for name in ("sent", "removed", "refused")}
        return JobDone({"devices": len(devices), **counts, "off": False}, deletes)

    return handlers
