"""Find and cancel the Stripe subscriptions of a user who is erased."""

from __future__ import annotations

from collections.abc import Mapping

from ..scope import Scope
from ..store.base import DocumentStore
from .base import Payments
from .running import running_subscriptions

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
        running = running_subscriptions(self._payments, user, self._store.get(user.root))
        return [subscription.id for subscription in running]
