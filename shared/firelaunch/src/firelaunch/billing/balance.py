"""A user's credit: what was bought or granted, less what was spent. It is a part of the user's own document.

The document is read with each request anyway. A request that is paid from credit holds the most that it can cost in
``balance.reservations``, on condition that nobody changed the document since, and its settlement takes off what it did
cost. So ``balance.micro_usd`` is never below zero: nothing is spent that was not held before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..scope import Scope
from ..store.base import DELETE_FIELD, Create, Document, Increment, Update

__all__ = ["Balance"]


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's credit, as stored. Amounts are integer micro-dollars.

    Attributes:
        micro_usd: the credit, with what running requests hold.
        owed: what refunds and disputes took back after it was spent. Later credit pays it first.
        update_time: the ``update_time`` of the user's document; None if there is none.
    """

    micro_usd: int
    owed: int
    reservations: Mapping[str, Mapping[str, Any]]
    update_time: datetime | None

    @classmethod
    def of(cls, user: Document | None) -> Balance:
        """Return the credit in a user's document."""
        data: object = {} if user is None else user.data.get("balance")
        fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        reservations = fields.get("reservations") or {}
        update_time = None if user is None else user.update_time
        return cls(int(fields.get("micro_usd", 0)), int(fields.get("owed_micro_usd", 0)), reservations, update_time)

    def held(self, now: datetime, *, besides: str = "") -> int:
        """Return what running requests hold, but for the request ``besides``."""
        return sum(
            int(entry["micro_usd"])
            for request_id, entry in self.reservations.items()
            if entry["expires_at"] > now and request_id != besides
        )

    def available(self, now: datetime, *, besides: str = "") -> int:
        """Return what a request may hold, and of what is held count only other requests than ``besides``."""
        return max(0, self.micro_usd - self.owed - self.held(now, besides=besides))

    def hold(self, user: Scope, request_id: str, micro_usd: int, now: datetime, expires_at: datetime) -> Update:
        """Return the write that holds ``micro_usd`` for a request. It lets go of what never settled.

        The commit fails with PreconditionFailed if the user's document has changed since it was read.
        """
        gone = [key for key, entry in self.reservations.items() if entry["expires_at"] <= now and key != request_id]
        fields: dict[str, Any] = {f"balance.reservations.{key}": DELETE_FIELD for key in gone}
        fields[f"balance.reservations.{request_id}"] = {"micro_usd": micro_usd, "expires_at": expires_at}
        return Update(user.root, fields, if_updated_at=self.update_time)

    @staticmethod
    def payment(user: Scope, request_id: str, micro_usd: int, still_held: Mapping[str, Any] | None = None) -> Update:
        """Return the write that takes off what a request cost, and lets go of what it held.

        Args:
            still_held: what the request holds from now on; None for nothing.
        """
        held = DELETE_FIELD if still_held is None else still_held
        return Update(
            user.root, {"balance.micro_usd": Increment(-micro_usd), f"balance.reservations.{request_id}": held}
        )

    def changed(self, user: Scope, micro_usd: int, now: datetime) -> Create | Update:
        """Return the write that adds ``micro_usd``, or takes it back if it is below zero.

        What was spent or is held already cannot be taken back. It is owed.
        """
        total = self.micro_usd + micro_usd - self.owed
        left = max(total, min(self.micro_usd, self.held(now)), 0)
        fields = {"micro_usd": left, "owed_micro_usd": left - total}
        if self.update_time is None:
            return Create(user.root, {"balance": fields})
        dotted = {f"balance.{name}": value for name, value in fields.items()}
        return Update(user.root, dotted, if_updated_at=self.update_time)
