"""The devices that a user's notifications go to."""

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
"""Devices of one user; one more takes the place of the one that was registered longest ago."""


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


def _digest(token: str) -> str:
    return "t" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:40]
