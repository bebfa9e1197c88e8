"""Find a user's subscriptions that have not ended, as Stripe has them now."""

from __future__ import annotations

from ..scope import Scope
from ..store.base import Document
from .base import CustomerGone, Owner, Payments, Subscription
from .entitlements import subscriptions_of

__all__ = ["customer_of", "running_subscriptions"]


def customer_of(document: Document | None) -> str | None:
    """Return the id that a user has as a customer in Stripe; None if they never started a checkout."""
    billing = {} if document is None else document.data.get("billing") or {}
    customer = billing.get("customer")
    return customer if isinstance(customer, str) else None


def running_subscriptions(payments: Payments, user: Scope, document: Document | None) -> list[Subscription]:
    """Return the subscriptions of ``user`` that have not ended, whatever their state.

    Stripe is asked for those of the user's customer, and for those that our copy has besides.

    Args:
        document: the user's document.

    Raises:
        BillingError: Stripe refused the request, or cannot be reached.
    """
    if document is None:
        return []
    by_id = {subscription.id: subscription for subscription in _of_customer(payments, customer_of(document))}
    for name in subscriptions_of(document.data):
        if name not in by_id and (subscription := payments.subscription(name)) is not None:
            by_id[name] = subscription
    # If an earlier cancellation broke off, its subscription has no user any more but still runs.
    owners = {Owner(user.app_id, user.uid), Owner(user.app_id, None)}
    return [subscription for subscription in by_id.values() if not subscription.ended and subscription.owner in owners]


def _of_customer(payments: Payments, customer: str | None) -> list[Subscription]:
    if customer is None:
        return []
    try:
        return payments.subscriptions_of(customer)
    except CustomerGone:
        return []
