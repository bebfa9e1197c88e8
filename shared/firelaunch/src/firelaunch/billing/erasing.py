"""Find and cancel the Stripe subscriptions of a user who is erased."""

from __future__ import annotations

from collections.abc import Mapping

from ..scope import Scope
from ..store.base import DocumentStore
from .base import CustomerGone, Owner, Payments, Subscription
from .entitlements import subscriptions_of

__all__ = ["SubscriptionTraces"]


class SubscriptionTraces:
    """The subscriptions of one app's users, in the form of :class:`~firelaunch.worker.tasks.erase.Traces`.

    Every method raises BillingError if Stripe cannot be reached, or refuses.
    """

    def __init__(self, store: DocumentStore, payments: Payments) -> None:
        self._store = store
        self._payments = payments

    def count(self, user: Scope) -> Mapping[str, int]:
        """Return the number of subscriptions that have not ended."""
        return {"subscriptions": len(self._running(user))}

    def erase(self, user: Scope) -> None:
        """Cancel the subscriptions at once. This needs the user's document, so delete the document afterwards."""
        for subscription in self._running(user):
            self._payments.end(subscription)

    def _running(self, user: Scope) -> list[str]:
        document = self._store.get(user.root)
        if document is None:
            return []
        customer = (document.data.get("billing") or {}).get("customer")
        by_id = {subscription.id: subscription for subscription in self._of_customer(customer)}
        for name in subscriptions_of(document.data):
            if name not in by_id and (subscription := self._payments.subscription(name)) is not None:
                by_id[name] = subscription
        # If an earlier cancellation broke off, its subscription has no user any more but still runs.
        owners = {Owner(user.app_id, user.uid), Owner(user.app_id, None)}
        return [name for name, item in by_id.items() if not item.ended and item.owner in owners]

    def _of_customer(self, customer: object) -> list[Subscription]:
        if not isinstance(customer, str):
            return []
        try:
            return self._payments.subscriptions_of(customer)
        except CustomerGone:
            return []
