"""The port to Stripe, what is said through it, and what it may fail with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..errors import Conflict, FirelaunchError
from ..scope import Scope

__all__ = [
    "SUBSCRIPTION_ID",
    "AlreadySubscribed",
    "BillingError",
    "BillingOff",
    "BillingUnavailable",
    "CustomerGone",
    "Event",
    "NoCustomer",
    "Owner",
    "Payments",
    "Subscription",
]


SUBSCRIPTION_ID = re.compile(r"sub_[A-Za-z0-9_]{1,60}")


class BillingError(FirelaunchError):
    """Stripe refused what it was asked: the key, a price or the account's own settings are not as they should be."""

    code = "billing_failed"
    status = 502
    message = "The payment service refused the request. If it goes on, quote the request id."


class BillingUnavailable(BillingError):
    """Stripe cannot be reached, or asks to be left alone for a while."""

    code = "billing_unavailable"
    status = 503
    message = "The payment service is not available at the moment; try again."


class BillingOff(Conflict):
    """The app sells nothing: there is no STRIPE_API_KEY."""

    code = "billing_off"
    message = "This app sells no plans."


class AlreadySubscribed(Conflict):
    """The user pays for a plan already; another checkout would have them pay twice."""

    code = "already_subscribed"
    message = "There is a subscription already; change it in the billing portal."


class NoCustomer(Conflict):
    """The user has never begun to pay for anything, so there is nothing to manage."""

    code = "no_customer"
    message = "There is nothing to manage yet; begin with a checkout."


class CustomerGone(Exception):
    """Stripe does not know the customer (any more)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a Stripe object is, as its metadata says; any part may be missing or nonsense."""

    app_id: str | None
    uid: str | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a subscription is at the moment. ``prices`` are the ids of what is paid for."""

    id: str
    owner: Owner
    status: str
    prices: tuple[str, ...]
    period_end: datetime | None = None
    cancel_at_period_end: bool = False

    @property
    def ended(self) -> bool:
        """Whether it will never be paid for again: Stripe lets nothing follow these states."""
        return self.status in {"canceled", "incomplete_expired"}

    def entry(self) -> dict[str, Any]:
        """As the user's document keeps it."""
        return {
            "status": self.status,
            "prices": list(self.prices),
            "period_end": self.period_end,
            "cancel_at_period_end": self.cancel_at_period_end,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook's event: what it is about, and no word on what that has become since.

    ``subscription`` is the id of the one that it is about, if any; ``created_at`` is to the second.
    """

    id: str
    type: str
    created_at: datetime
    owner: Owner
    subscription: str | None


class Payments(Protocol):
    """What is asked of Stripe.

    Raises (every method): BillingUnavailable where it may be asked again; BillingError where that would not help.
    """

    def subscription(self, subscription_id: str) -> Subscription | None:
        """The subscription as it is now; None where there is none."""

    def subscription_pages(self) -> Iterator[list[Subscription]]:
        """Every subscription of the account that has not ended, 100 at a time."""

    def subscriptions_of(self, customer: str) -> list[Subscription]:
        """A customer's subscriptions that have not ended.

        Raises:
            CustomerGone: Stripe does not know the customer.
        """

    def end(self, subscription_id: str) -> None:
        """Cancel a subscription at once, and have it, and events about it, name its user no more.

        Nothing happens to one that has ended, or is not there.
        """

    def create_customer(self, owner: Scope, email: str | None, key: str) -> str:
        """A customer for a user; its id. ``key``: the same one gives the same customer again."""

    def create_checkout(
        self, owner: Scope, customer: str, price: str, success_url: str, cancel_url: str, key: str | None
    ) -> str:
        """The address of a page where the customer subscribes at a price.

        Raises:
            CustomerGone: Stripe does not know the customer.
            IdempotencyMismatch: ``key`` was used for something else.
        """

    def create_portal(self, customer: str, return_url: str) -> str:
        """The address of a page where the customer manages what they pay for.

        Raises:
            CustomerGone: Stripe does not know the customer.
        """
