"""The port to Stripe, its data types, and its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from ..errors import Conflict, FirelaunchError
from ..scope import Scope

__all__ = [
    "PAYMENT_ID",
    "SUBSCRIPTION_ID",
    "AlreadySubscribed",
    "BillingError",
    "BillingOff",
    "BillingUnavailable",
    "CustomerGone",
    "Event",
    "NoCustomer",
    "Offer",
    "Owner",
    "PausedCollection",
    "Payment",
    "Payments",
    "Subscription",
    "Trial",
    "Webhooks",
]


SUBSCRIPTION_ID = re.compile(r"sub_[A-Za-z0-9_]{1,60}")
PAYMENT_ID = re.compile(r"pi_[A-Za-z0-9_]{1,60}")


class BillingError(FirelaunchError):
    """Stripe refused a request, because the key, a price or the account's own settings are wrong."""

    code = "billing_failed"
    status = 502
    message = "The payment service refused the request. If it goes on, quote the request id."


class BillingUnavailable(BillingError):
    """Stripe cannot be reached, or asks to slow down."""

    code = "billing_unavailable"
    status = 503
    message = "The payment service is not available at the moment; try again."


class BillingOff(Conflict):
    """The app sells nothing: there is no STRIPE_API_KEY."""

    code = "billing_off"
    message = "This app sells no plans."


class AlreadySubscribed(Conflict):
    """The user has a subscription that has not ended. With another checkout they would pay twice."""

    code = "already_subscribed"
    message = "There is a subscription already; change it in the billing portal."


class NoCustomer(Conflict):
    """The user has never started a checkout, so there is nothing to manage."""

    code = "no_customer"
    message = "There is nothing to manage yet; begin with a checkout."


class CustomerGone(Exception):
    """Stripe does not know the customer (any more)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a Stripe object, by its metadata. Any part may be missing or invalid."""

    app_id: str | None
    uid: str | None


@dataclass(frozen=True, slots=True)
class PausedCollection:
    """A pause of Stripe's collection of payments, during which the subscription keeps its status.

    Attributes:
        behavior: what becomes of invoices meanwhile: "keep_as_draft", "mark_uncollectible" or "void".
        resumes_at: when Stripe collects again by itself; None for not before somebody says so.
    """

    behavior: str
    resumes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it is at the moment.

    Attributes:
        prices: the ids of the prices that are paid.
        period_end: when the period that was paid last ends.
        cancel_at: when the subscription will end, or did end, if that was arranged before.
        trial_end: when the trial ends, or ended; None if there was none.
        paused_reason: why the status is "paused", in Stripe's word, such as "trial_end_without_payment_method".
        collection: the pause of the collection of payments; None while Stripe collects.
    """

    id: str
    owner: Owner
    status: str
    prices: tuple[str, ...]
    period_end: datetime | None = None
    cancel_at: datetime | None = None
    trial_end: datetime | None = None
    paused_reason: str | None = None
    collection: PausedCollection | None = None

    @property
    def cancel_at_period_end(self) -> bool:
        """Whether the subscription ends with its current period."""
        return self.cancel_at is not None and self.period_end is not None and self.cancel_at <= self.period_end

    @property
    def ended(self) -> bool:
        """Whether the subscription has ended for good: in Stripe, no other state follows these."""
        return self.status in {"canceled", "incomplete_expired"}

    def entry(self) -> dict[str, Any]:
        """Return the fields that the user's document stores."""
        return {
            "status": self.status,
            "prices": list(self.prices),
            "period_end": self.period_end,
            "cancel_at": self.cancel_at,
            "cancel_at_period_end": self.cancel_at_period_end,
            "trial_end": self.trial_end,
            "paused_reason": self.paused_reason,
            "collection": None if self.collection is None else asdict(self.collection),
        }


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of credit as it is at the moment.

    Attributes:
        credit_micro_usd: the credit that was bought; 0 if the payment is of something else.
        amount: what was asked for, in the currency's smallest unit. ``refunded`` is what went back of it.
        paid: whether the money has come. Some ways of paying take days.
        disputed: whether the customer's bank has taken the money back, or holds it while a dispute is open.
    """

    id: str
    owner: Owner
    credit_micro_usd: int
    amount: int
    currency: str
    paid: bool
    refunded: int = 0
    disputed: bool = False

    @property
    def worth(self) -> int:
        """The micro-dollars of credit that the payment gives now. Of a part that was refunded the same part is gone."""
        if not self.paid or self.disputed or self.amount <= 0:
            return 0
        return self.credit_micro_usd * max(0, self.amount - self.refunded) // self.amount


@dataclass(frozen=True, slots=True)
class Trial:
    """Free days at the start of a subscription.

    Attributes:
        without_card: whether they begin without a card.
        end: what becomes of the subscription if they end without one: "cancel" or "pause".
    """

    days: int
    without_card: bool = False
    end: str = "cancel"


@dataclass(frozen=True, slots=True)
class Offer:
    """The goods of a checkout.

    Attributes:
        price: the id of its price in Stripe; empty if only usage is paid for.
        credit_micro_usd: the credit that is sold; None if a subscription is.
        usage_price: the id of a usage-based price that is subscribed to as well; empty for none.
        trial: the free days that the subscription begins with; None for none.
    """

    price: str
    credit_micro_usd: int | None = None
    usage_price: str = ""
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook's event. It names an object, but does not hold the object's current state.

    ``subscription`` and ``payment`` are the ids of what the event is about, if it is about one. ``notice`` says what is
    wrong, if the event reports something that a person has to look at.
    ``created_at`` is precise to the second.
    """

    id: str
    type: str
    created_at: datetime
    owner: Owner
    subscription: str | None
    payment: str | None = None
    notice: str = ""


class Webhooks(Protocol):
    """A verifier of webhooks."""

    def event(self, body: bytes, signature: str | None) -> Event:
        """Return the event in a body.

        Raises:
            BadRequest: the signature is not valid, or the body is not an event.
        """


class Payments(Protocol):
    """The requests to Stripe.

    Every method raises BillingUnavailable if the request may be repeated, and BillingError if that would not help.
    """

    def subscription(self, subscription_id: str) -> Subscription | None:
        """Return the subscription as it is now, or None if there is none."""

    def subscription_pages(self) -> Iterator[list[Subscription]]:
        """Yield every subscription of the account that has not ended, 100 at a time."""

    def subscriptions_of(self, customer: str) -> list[Subscription]:
        """Return a customer's subscriptions that have not ended.

        Raises:
            CustomerGone: Stripe does not know the customer.
        """

    def had_trial(self, customer: str) -> bool:
        """Return whether a subscription of the customer, also one that has ended, had a trial."""

    def end(self, subscription_id: str) -> None:
        """Cancel a subscription at once, and remove the user's id from it, so that later events don't name the user.

        Nothing happens if the subscription has ended or does not exist.
        """

    def create_customer(self, owner: Scope, email: str | None, key: str) -> str:
        """Create a customer for a user, and return its id. The same ``key`` returns the same customer."""

    def payment(self, payment_id: str) -> Payment | None:
        """Return the payment as it is now, or None if there is none."""

    def payment_events(self, since: datetime) -> Iterator[list[Event]]:
        """Yield the events about payments, 100 at a time. Stripe keeps events for thirty days."""

    def report_usage(self, meter: str, customer: str, value: int, identifier: str, at: datetime) -> None:
        """Report what a customer used. Nothing happens if Stripe has had an event with ``identifier`` in 24 hours.

        Args:
            meter: the event name of a meter.
        """

    def create_checkout(
        self, owner: Scope, customer: str, offer: Offer, success_url: str, cancel_url: str, key: str | None
    ) -> str:
        """Return the address of a page where the customer pays for an offer.

        Raises:
            CustomerGone: Stripe does not know the customer.
            IdempotencyMismatch: ``key`` was used for another request.
        """

    def create_portal(self, customer: str, return_url: str) -> str:
        """Return the address of a page where the customer manages their subscriptions.

        Raises:
            CustomerGone: Stripe does not know the customer.
        """
