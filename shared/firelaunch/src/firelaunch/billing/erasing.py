"""What a user who is erased still pays for: found in Stripe, and canceled there."""

from __future__ import annotations

from collections.abc import Mapping

from ..scope import Scope
from ..store.base import DocumentStore
from .base import CustomerGone, Owner, Payments, Subscription
from .entitlements import subscriptions_of

__all__ = ["SubscriptionTraces"]


class SubscriptionTraces:
    """The subscriptions of one app's users, as :class:`~firelaunch.worker.tasks.erase.Traces`.

    Raises (every method): BillingError where Stripe cannot be asked, or refuses.
    """

    def __init__(self, store: DocumentStore, payments: Payments) -> None:
        self._store = store
        self._payments = payments

    def count(self, user: Scope) -> Mapping[str, int]:
        """How many have not ended."""
        return {"subscriptions": len(self._running(user))}

    def erase(self, user: Scope) -> None:
        """Cancel them, at once. What the user's document says of them is needed for that: it is to go afterwards."""
        for subscription in self._running(user):
            self._payments.end(subscription)

    def _running(self, user: Scope) -> list[str]:
        found = self._store.get(user.root)
        if found is None:
            return []
        known = {each.id: each for each in self._of_customer((found.data.get("billing") or {}).get("customer"))}
        for name in subscriptions_of(found.data):
            if name not in known and (told := self._payments.subscription(name)) is not None:
                known[name] = told
        # One that a canceling broke off at names nobody any more.
        owners = {Owner(user.app_id, user.uid), Owner(user.app_id, None)}
        return [name for name, each in known.items() if not each.ended and each.owner in owners]

    def _of_customer(self, customer: object) -> list[Subscription]:
        if not isinstance(customer, str):
            return []
        try:
            return self._payments.subscriptions_of(customer)
        except CustomerGone:
            return []
