"""Users' devices, and the job that sends a notification to all of one user's.

A token stands for one person's app on one device. Who signs in there next registers it anew, and from then on what is
meant for the one before does not go there any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...errors import NotFound
from ...jobs.base import Kind
from ...push import Notification, Push, PushUnavailable
from ...scope import Scope
from ...store.base import Delete, Order, Query, Set, Transaction
from ...store.scoped import ScopedStore
from .. import Done, Handlers, JobFailed, Run

__all__ = ["MOST_DEVICES", "NOTIFY", "Devices", "Notify", "device_view", "notify_handlers"]

MOST_DEVICES: Final = 20
"""Devices of one user; one more takes the place of the one that was registered longest ago."""

_DATA_BYTES = 3_000
"""Of a notification's data; FCM takes 4,096 bytes with all else
(https://firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type)."""

_RESERVED = ("from", "message_type")
_RESERVED_PREFIXES = ("google.", "gcm.")
_NEWEST = (Order("updated_at", descending=True),)


class Notify(BaseModel):
    """The payload: what the user's devices show. ``data`` is handed to the client's code."""

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


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one app's users.

    Args:
        store: the app's own.
    """

    store: ScopedStore
    clock: Callable[[], datetime]

    def register(self, user: Scope, token: str, platform: Literal["android", "ios", "web"]) -> dict[str, Any]:
        """Have notifications for ``user`` go to the device of this token, and to nobody else's any more."""
        device_id, now = _digest(token), self.clock()
        path, owned = user.device(device_id), user.device_owner(device_id)

        def change(transaction: Transaction) -> dict[str, Any]:
            owner, there = transaction.get(owned), transaction.get(path)
            others = transaction.query(Query(user.devices(), order=_NEWEST))
            before = None if owner is None else owner.data.get("uid")
            if isinstance(before, str) and before != user.uid:
                transaction.write(Delete(user.of(before).device(device_id)))
            for old in [other for other in others if other.id != device_id][MOST_DEVICES - 1 :]:
                transaction.write(Delete(old.path), Delete(user.device_owner(old.id)))
            created = now if there is None else there.data["created_at"]
            data = {"token": token, "platform": platform, "created_at": created, "updated_at": now}
            transaction.write(Set(path, data), Set(owned, {"uid": user.uid}))
            return data

        return device_view(device_id, self.store.transaction(change))

    def list(self, user: Scope) -> list[dict[str, Any]]:
        """The user's devices, the latest first."""
        return [device_view(d.id, d.data) for d in self.store.query(Query(user.devices(), order=_NEWEST))]

    def remove(self, user: Scope, device_id: str) -> None:
        """Send no notifications there any more.

        Raises:
            NotFound: it is no device of the user's.
        """
        path, owned = user.device(device_id), user.device_owner(device_id)

        def change(transaction: Transaction) -> None:
            # In one transaction: who registers it meanwhile stays its owner, or nobody could take it over.
            if transaction.get(path) is None:
                raise NotFound
            transaction.write(Delete(path), Delete(owned))

        self.store.transaction(change)


def device_view(device_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """A device as its user sees it; its token is told to nobody."""
    at = data.get("updated_at")
    told = at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if isinstance(at, datetime) else None
    return {"id": device_id, "platform": data.get("platform"), "registered_at": told}


def notify_handlers(push: Push | None, more: Handlers | None = None) -> Handlers:
    """The handler of notifications.

    Args:
        push: None where nothing can be sent, as on a laptop.
    """
    handlers = Handlers(more)

    @handlers.on(NOTIFY)
    def notify(run: Run, payload: Notify) -> Done:
        if run.scope.uid is None:
            raise JobFailed("A notification is for a user.")
        devices = run.services.store.query(Query(run.scope.devices(), order=_NEWEST, limit=MOST_DEVICES))
        if push is None:
            return Done({"devices": len(devices), "sent": 0, "removed": 0, "refused": 0, "off": True})
        told: dict[str, Any] = run.checkpoint or {"done": [], "sent": 0, "removed": 0, "refused": 0}
        left = [device for device in devices if device.id not in told["done"]]
        notification = Notification(payload.title, payload.body, payload.data, tag=run.id)
        outcomes = push.send([str(device.data["token"]) for device in left], notification) if left else []
        by_outcome = {name: [d for d, o in zip(left, outcomes, strict=True) if o == name] for name in set(outcomes)}
        stale = by_outcome.get("stale", [])
        told = {
            "done": [*told["done"], *(d.id for d, o in zip(left, outcomes, strict=True) if o != "again")],
            "sent": told["sent"] + len(by_outcome.get("sent", [])),
            "removed": told["removed"] + len(stale),
            "refused": told["refused"] + len(by_outcome.get("refused", [])),
        }
        gone = [Delete(d.path) for d in stale]
        if by_outcome.get("again"):
            run.commit(*gone, checkpoint=told)
            raise PushUnavailable(retry_after=10)
        counts = {name: told[name] for name in ("sent", "removed", "refused")}
        return Done({"devices": len(devices), **counts, "off": False}, gone)

    return handlers


def _digest(token: str) -> str:
    return "t" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:40]
