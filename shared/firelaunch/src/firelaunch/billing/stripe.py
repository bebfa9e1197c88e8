"""The port to Stripe through Stripe's own package.

The package is imported at the first call, because its import takes a third of a second.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import SecretStr

from ..errors import BadRequest, IdempotencyMismatch
from ..scope import Scope
from .base import (
    PAYMENT_ID,
    SUBSCRIPTION_ID,
    BillingError,
    BillingUnavailable,
    CustomerGone,
    Event,
    Offer,
    Owner,
    PausedCollection,
    Payment,
    Subscription,
)

if TYPE_CHECKING:
    import stripe

__all__ = ["StripePayments", "StripeWebhooks"]

_SECONDS = 10.0
"""The most seconds of one request to Stripe. Webhooks have to be answered in a few tens of seconds, with retries."""
_RETRIES = 2
_CREDIT = "credit_micro_usd"
"""The key of a payment's metadata for the credit that it buys, as it was offered when the checkout began."""

_SEEN = "duplicate_meter_event"
"""The code of Stripe's refusal of a meter's event whose identifier it has had (https://docs.stripe.com/error-codes)."""

_PAGE = 100
"""The most items that Stripe lists at a time (https://docs.stripe.com/api/pagination)."""

_SUBSCRIPTION_EVENTS = ("customer.subscription.", "checkout.session.", "invoice.")
"""Prefixes of the types of events that concern a subscription."""

_PAYMENT_EVENTS = (
    *("checkout.session.completed", "checkout.session.async_payment_succeeded"),
    *("checkout.session.async_payment_failed", "charge.refunded", "charge.refund.updated"),
    *("refund.created", "refund.updated", "refund.failed", "charge.dispute.created", "charge.dispute.updated"),
    *("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed"),
)
"""The types of events after which a payment may give more credit, or less."""

_TAKEN_BACK = frozenset({"needs_response", "under_review", "appeal_needs_response", "appeal_under_review", "lost"})
"""The states of a dispute in which the money is gone, or held by the bank. An inquiry ("warning_...") takes nothing,
and a dispute that was prevented was refunded (https://docs.stripe.com/api/disputes/object#dispute_object-status)."""


class StripePayments:
    """The :class:`~firelaunch.billing.base.Payments` of a Stripe account.

    Args:
        base: the address of Stripe's API, if it is another one, for tests.
    """

    def __init__(self, key: SecretStr, base: str | None = None) -> None:
        self._key = key
        self._base = base
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> stripe.StripeClient:
        with self._lock:
            import stripe

            return stripe.StripeClient(
                self._key.get_secret_value(),
                base_addresses={"api": self._base} if self._base else {},
                max_network_retries=_RETRIES,
                http_client=stripe.RequestsClient(timeout=_SECONDS),
            )

    def subscription(self, subscription_id: str) -> Subscription | None:
        """Return a subscription, or None. See :class:`~firelaunch.billing.base.Payments`."""
        with _translated():
            try:
                stripe_subscription = self._client.v1.subscriptions.retrieve(subscription_id)
            except _refusal() as error:
                if error.code != "resource_missing":
                    raise
                return None
        return _subscription(stripe_subscription.to_dict())

    def subscription_pages(self) -> Iterator[list[Subscription]]:
        """Yield all running subscriptions, a page at a time. See :class:`~firelaunch.billing.base.Payments`."""
        return self._pages({})

    def subscriptions_of(self, customer: str) -> list[Subscription]:
        """Return a customer's running subscriptions. See :class:`~firelaunch.billing.base.Payments`."""
        return [subscription for page in self._pages({"customer": customer}) for subscription in page]

    def had_trial(self, customer: str) -> bool:
        """Return whether the customer had a trial. See :class:`~firelaunch.billing.base.Payments`."""
        pages = self._pages({"customer": customer, "status": "all"})
        return any(subscription.trial_end is not None for page in pages for subscription in page)

    def _pages(self, filters: dict[str, Any]) -> Iterator[list[Subscription]]:
        after: dict[str, Any] = {}
        while True:
            parameters: Any = {"limit": _PAGE, **filters, **after}
            with _translated():
                page = self._client.v1.subscriptions.list(parameters)
            subscriptions = [_subscription(item.to_dict()) for item in page.data]
            if subscriptions:
                yield subscriptions
            if not page.has_more or not subscriptions:
                return
            after = {"starting_after": subscriptions[-1].id}

    def end(self, subscription_id: str) -> None:
        """Cancel a subscription. See :class:`~firelaunch.billing.base.Payments`."""
        subscriptions = self._client.v1.subscriptions
        with _translated():
            try:
                # Remove the user's id first: the event of the cancellation carries the metadata of that moment.
                subscriptions.update(subscription_id, {"metadata": {"uid": ""}})
                subscriptions.cancel(subscription_id)
            except _refusal() as error:
                if error.code != "resource_missing":
                    raise

    def create_customer(self, owner: Scope, email: str | None, key: str) -> str:
        """Create a customer, and return its id. See :class:`~firelaunch.billing.base.Payments`."""
        parameters: Any = {"metadata": _metadata(owner)} | ({"email": email} if email else {})
        with _translated():
            return self._client.v1.customers.create(parameters, {"idempotency_key": key}).id

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment, or None. See :class:`~firelaunch.billing.base.Payments`."""
        with _translated():
            try:
                intent = self._client.v1.payment_intents.retrieve(payment_id, {"expand": ["latest_charge"]}).to_dict()
            except _refusal() as error:
                if error.code != "resource_missing":
                    raise
                return None
            charge = intent.get("latest_charge") or {}
            states = self._disputes(payment_id) if charge.get("disputed") else []
        return _payment(intent, charge, disputed=any(state in _TAKEN_BACK for state in states))

    def _disputes(self, payment_id: str) -> list[str]:
        page: Any = {"payment_intent": payment_id, "limit": _PAGE}
        return [str(dispute.status) for dispute in self._client.v1.disputes.list(page).data]

    def payment_events(self, since: datetime) -> Iterator[list[Event]]:
        """Yield the events about payments, a page at a time. See :class:`~firelaunch.billing.base.Payments`."""
        after: dict[str, Any] = {}
        while True:
            begin = {"gte": int(since.timestamp())}
            parameters: Any = {"limit": _PAGE, "types": list(_PAYMENT_EVENTS), "created": begin, **after}
            with _translated():
                page = self._client.v1.events.list(parameters)
            events = [_event(item.to_dict()) for item in page.data]
            yield [event for event in events if event.payment is not None]
            if not page.has_more or not events:
                return
            after = {"starting_after": events[-1].id}

    def report_usage(self, meter: str, customer: str, value: int, identifier: str, at: datetime) -> None:
        """Report usage to a meter. See :class:`~firelaunch.billing.base.Payments`."""
        parameters: Any = {
            "event_name": meter,
            "payload": {"stripe_customer_id": customer, "value": str(value)},
            "identifier": identifier,
            "timestamp": int(at.timestamp()),
        }
        with _translated():
            try:
                self._client.v1.billing.meter_events.create(parameters, {"idempotency_key": f"meter-{identifier}"})
            except _refusal() as error:
                if error.code != _SEEN:
                    raise

    def create_checkout(
        self, owner: Scope, customer: str, offer: Offer, success_url: str, cancel_url: str, key: str | None
    ) -> str:
        """Return the address of a checkout page. See :class:`~firelaunch.billing.base.Payments`."""
        parameters: Any = {
            "customer": customer,
            "client_reference_id": owner.uid,
            "line_items": _items(offer),
            "success_url": success_url,
            "cancel_url": cancel_url,
            **_terms(owner, offer),
        }
        with _translated():
            options: Any = {"idempotency_key": key} if key else {}
            return self._client.v1.checkout.sessions.create(parameters, options).url or ""

    def create_portal(self, customer: str, return_url: str) -> str:
        """Return the address of a billing portal. See :class:`~firelaunch.billing.base.Payments`."""
        with _translated():
            parameters: Any = {"customer": customer, "return_url": return_url}
            return self._client.v1.billing_portal.sessions.create(parameters).url


class StripeWebhooks:
    """Verifies the webhooks that arrive from Stripe.

    Args:
        secret: the endpoint's secret (whsec_...). While a secret is being replaced, Stripe signs with both.
    """

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret

    def event(self, body: bytes, signature: str | None) -> Event:
        """Verify a webhook's body, and return its event.

        Raises:
            BadRequest: the signature is not Stripe's or is over five minutes old, or the body is no event.
        """
        import stripe

        if signature is not None and not signature.isascii():
            # The package compares texts with hmac, which rejects non-ASCII texts with an error of another kind.
            raise BadRequest("The signature does not hold.", reason="no ASCII")
        try:
            stripe.WebhookSignature.verify_header(
                body, signature, self._secret.get_secret_value(), stripe.Webhook.DEFAULT_TOLERANCE
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as error:
            # The package's errors contain the whole body, but their user messages don't.
            why = error.user_message if isinstance(error, stripe.SignatureVerificationError) else "no UTF-8"
            raise BadRequest("The signature does not hold.", reason=why) from None
        try:
            return _event(json.loads(body))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BadRequest("The body is no event.", reason=type(error).__name__) from None


def _items(offer: Offer) -> list[dict[str, Any]]:
    fixed = [{"price": offer.price, "quantity": 1}] if offer.price else []
    # A usage-based price has no quantity: its meter has.
    return [*fixed, *([{"price": offer.usage_price}] if offer.usage_price else [])]


def _terms(owner: Scope, offer: Offer) -> dict[str, Any]:
    """Return the parameters that tell a subscription from a purchase.

    Neither a subscription nor a payment inherits its session's metadata. A charge does inherit its payment's.
    """
    if offer.credit_micro_usd is None:
        data: dict[str, Any] = {"metadata": _metadata(owner)}
        terms = {"mode": "subscription", "metadata": _metadata(owner), "subscription_data": data}
        if offer.trial is not None:
            data["trial_period_days"] = offer.trial.days
            data["trial_settings"] = {"end_behavior": {"missing_payment_method": offer.trial.end}}
            if offer.trial.without_card:
                terms["payment_method_collection"] = "if_required"
        return terms
    bought = {**_metadata(owner), _CREDIT: str(offer.credit_micro_usd)}
    return {"mode": "payment", "metadata": bought, "payment_intent_data": {"metadata": bought}}


def _metadata(owner: Scope) -> dict[str, str]:
    return {"app_id": owner.app_id, "uid": str(owner.uid)}


def _event(data: dict[str, Any]) -> Event:
    if isinstance(data, dict) and data.get("object") == "v2.core.event":
        return _thin_event(data)
    stripe_object = data["data"]["object"]
    kind = data["type"]
    if not isinstance(stripe_object, dict) or not isinstance(kind, str) or not isinstance(data["id"], str):
        raise TypeError
    return Event(
        id=data["id"],
        type=kind,
        created_at=datetime.fromtimestamp(int(data["created"]), UTC),
        owner=_owner(stripe_object),
        subscription=_subscription_of(stripe_object) if kind.startswith(_SUBSCRIPTION_EVENTS) else None,
        payment=_payment_of(stripe_object) if kind in _PAYMENT_EVENTS else None,
    )


def _thin_event(data: dict[str, Any]) -> Event:
    """Return an event of Stripe's second API, as its meters report usage that they could not take."""
    details = data.get("data") or {}
    kinds = (details.get("reason") or {}).get("error_types") or []
    counts = [f"{kind['code']}: {kind['error_count']}" for kind in kinds]
    kind = str(data["type"])
    meter = kind.startswith("v1.billing.meter.") and kind.endswith(("error_report_triggered", "no_meter_found"))
    return Event(
        id=str(data["id"]),
        type=kind,
        created_at=datetime.fromisoformat(str(data["created"])).astimezone(UTC),
        owner=Owner(None, None),
        subscription=None,
        notice=f"Stripe did not take usage that was reported ({', '.join(counts) or 'no meter'})" if meter else "",
    )


def _payment_of(stripe_object: dict[str, Any]) -> str | None:
    value = stripe_object.get("payment_intent")
    value = value.get("id") if isinstance(value, dict) else value
    return value if isinstance(value, str) and PAYMENT_ID.fullmatch(value) else None


def _payment(intent: dict[str, Any], charge: dict[str, Any], *, disputed: bool) -> Payment:
    credit = str((intent.get("metadata") or {}).get(_CREDIT, ""))
    return Payment(
        id=intent["id"],
        owner=_owner(intent),
        credit_micro_usd=int(credit) if credit.isascii() and credit.isdigit() else 0,
        amount=int(intent["amount"]),
        currency=str(intent["currency"]),
        paid=intent["status"] == "succeeded",
        refunded=int(charge.get("amount_refunded") or 0),
        disputed=disputed,
    )


def _subscription_of(stripe_object: dict[str, Any]) -> str | None:
    is_subscription = stripe_object.get("object") == "subscription"
    value = stripe_object.get("id") if is_subscription else _details(stripe_object).get("subscription")
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, str) and SUBSCRIPTION_ID.fullmatch(value) else None


def _owner(stripe_object: dict[str, Any]) -> Owner:
    metadata = stripe_object.get("metadata") or _details(stripe_object).get("metadata")
    app_id, uid = (metadata.get("app_id"), metadata.get("uid")) if isinstance(metadata, Mapping) else (None, None)
    return Owner(app_id if isinstance(app_id, str) else None, uid if isinstance(uid, str) else None)


def _details(stripe_object: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an object that names its subscription: the object itself, or for invoices their parent."""
    parent = stripe_object.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, dict) else None
    return details if isinstance(details, dict) else stripe_object


def _subscription(data: dict[str, Any]) -> Subscription:
    items = data["items"]["data"]
    # Since 2025-03-31 each item has its own period (https://docs.stripe.com/changelog/basil). Items may have periods of
    # different lengths, and a cancellation at the end of the period is one at the end of the earliest.
    ends = [item["current_period_end"] for item in items if item.get("current_period_end")]
    # In the flexible billing mode, the default since 2025-09-30, the portal sets `cancel_at` and leaves the flag false
    # (https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
    cancel_at = data.get("cancel_at") or (min(ends, default=None) if data.get("cancel_at_period_end") else None)
    return Subscription(
        id=data["id"],
        owner=_owner(data),
        status=data["status"],
        prices=tuple(item["price"]["id"] for item in items),
        period_end=_time(max(ends, default=None)),
        cancel_at=_time(cancel_at),
        trial_end=_time(data.get("trial_end")),
        paused_reason=_paused_reason(data),
        collection=_collection(data.get("pause_collection")),
    )


def _paused_reason(data: dict[str, Any]) -> str | None:
    paused = (data.get("status_details") or {}).get("paused") or {}
    reason = (paused.get("subscription") or {}).get("type")
    return reason if data["status"] == "paused" and isinstance(reason, str) else None


def _collection(data: Any) -> PausedCollection | None:
    return PausedCollection(data["behavior"], _time(data.get("resumes_at"))) if data else None


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _refusal() -> type[stripe.InvalidRequestError]:
    import stripe

    return stripe.InvalidRequestError


@contextmanager
def _translated() -> Iterator[None]:
    import stripe

    try:
        yield
    except stripe.StripeError as error:
        _raise(error)


def _raise(error: stripe.StripeError) -> NoReturn:
    import stripe

    # Stripe's messages may quote the request; its codes don't.
    reason = f"{type(error).__name__} {error.http_status} {error.code} {error.request_id}"
    if isinstance(error, stripe.IdempotencyError):
        raise IdempotencyMismatch(reason=reason) from error
    status = error.http_status or 0
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError) or status == 409 or status >= 500:
        raise BillingUnavailable(reason=reason, retry_after=5) from error
    if isinstance(error, stripe.InvalidRequestError) and (error.code, error.param) == ("resource_missing", "customer"):
        raise CustomerGone from error
    raise BillingError(reason=reason) from error
