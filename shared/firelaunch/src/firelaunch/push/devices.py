"""The devices that receive a user's notifications."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from ..errors import NotFound
from ..scope import Scope
from ..store.base import Delete, Order, Query, Set, Transaction
from ..store.scoped import ScopedStore

__all__ = ["MOST_DEVICES", "Devices", "device_view"]


MOST_DEVICES: Final = 20
"""The most devices of one user; a further one replaces the one that was registered longest ago."""


_NEWEST = (Order("updated_at", descending=True),)


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one app's users.

    Args:
        store: the app's own.
    """

    store: ScopedStore
    clock: Callable[[], datetime]

    def register(self, user: Scope, token: str, platform: Literal["android", "ios", "web"]) -> dict[str, Any]:
        """Send notifications for ``user`` to the device of this token, and no longer to another user's."""
        device_id, now = _digest(token), self.clock()
        path, owner_path = user.device(device_id), user.device_owner(device_id)

        def change(transaction: Transaction) -> dict[str, Any]:
            owner, device = transaction.get(owner_path), transaction.get(path)
            others = transaction.query(Query(user.devices(), order=_NEWEST))
            previous_uid = None if owner is None else owner.data.get("uid")
            if isinstance(previous_uid, str) and previous_uid != user.uid:
                transaction.write(Delete(user.of(previous_uid).device(device_id)))
            for old in [other for other in others if other.id != device_id][MOST_DEVICES - 1 :]:
                transaction.write(Delete(old.path), Delete(user.device_owner(old.id)))
            created = now if device is None else device.data["created_at"]
            data = {"token": token, "platform": platform, "created_at": created, "updated_at": now}
            transaction.write(Set(path, data), Set(owner_path, {"uid": user.uid}))
            return data

        return device_view(device_id, self.store.transaction(change))

    def list(self, user: Scope) -> list[dict[str, Any]]:
        """Return the user's devices, newest first."""
        return [device_view(d.id, d.data) for d in self.store.query(Query(user.devices(), order=_NEWEST))]

    def remove(self, user: Scope, device_id: str) -> None:
        """Stop sending notifications to a device.

        Raises:
            NotFound: it is not one of the user's devices.
        """
        path, owner_path = user.device(device_id), user.device_owner(device_id)

        def change(transaction: Transaction) -> None:
            # One transaction, so that a user who registers the device meanwhile stays its owner.
            if transaction.get(path) is None:
                raise NotFound
            transaction.write(Delete(path), Delete(owner_path))

        self.store.transaction(change)


def device_view(device_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a device as its user sees it, without its token."""
    updated_at = data.get("updated_at")
    registered_at = (
        updated_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if isinstance(updated_at, datetime)
        else None
    )
    return {"id": device_id, "platform": data.get("platform"), "registered_at": registered_at}


def _digest(token: str) -> str:
    return "t" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:40]
