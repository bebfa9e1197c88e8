"""Stripe, through its own package. The package takes a third of a second to import, so it waits for the first call."""

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
from .base import SUBSCRIPTION_ID, BillingError, BillingUnavailable, CustomerGone, Event, Owner, Subscription

if TYPE_CHECKING:
    import stripe

__all__ = ["StripePayments", "StripeWebhooks"]

_SECONDS = 10.0
"""For one request to Stripe. Its webhooks are to be answered within a few tens of seconds, retries included."""
_RETRIES = 2
_PAGE = 100
"""The most that Stripe lists at a time (https://docs.stripe.com/api/pagination)."""

_TELLING = ("customer.subscription.", "checkout.session.", "invoice.")
"""Beginnings of the types of events that tell of a subscription."""


class StripePayments:
    """See :class:`~firelaunch.billing.base.Payments`.

    Args:
        base: where Stripe's API is; another place for tests.
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
        """See :class:`~firelaunch.billing.base.Payments`."""
        with _translated():
            try:
                found = self._client.v1.subscriptions.retrieve(subscription_id)
            except _refusal() as error:
                if error.code != "resource_missing":
                    raise
                return None
        return _subscription(found.to_dict())

    def subscription_pages(self) -> Iterator[list[Subscription]]:
        """See :class:`~firelaunch.billing.base.Payments`."""
        return self._pages({})

    def subscriptions_of(self, customer: str) -> list[Subscription]:
        """See :class:`~firelaunch.billing.base.Payments`."""
        return [found for page in self._pages({"customer": customer}) for found in page]

    def _pages(self, wanted: dict[str, Any]) -> Iterator[list[Subscription]]:
        after: dict[str, Any] = {}
        while True:
            asked: Any = {"limit": _PAGE, **wanted, **after}
            with _translated():
                page = self._client.v1.subscriptions.list(asked)
            found = [_subscription(item.to_dict()) for item in page.data]
            if found:
                yield found
            if not page.has_more or not found:
                return
            after = {"starting_after": found[-1].id}

    def end(self, subscription_id: str) -> None:
        """See :class:`~firelaunch.billing.base.Payments`."""
        subscriptions = self._client.v1.subscriptions
        with _translated():
            try:
                # First of all, as the event of the canceling tells of the metadata of that moment.
                subscriptions.update(subscription_id, {"metadata": {"uid": ""}})
                subscriptions.cancel(subscription_id)
            except _refusal() as error:
                if error.code != "resource_missing":
                    raise

    def create_customer(self, owner: Scope, email: str | None, key: str) -> str:
        """See :class:`~firelaunch.billing.base.Payments`."""
        told: Any = {"metadata": _metadata(owner)} | ({"email": email} if email else {})
        with _translated():
            return self._client.v1.customers.create(told, {"idempotency_key": key}).id

    def create_checkout(
        self, owner: Scope, customer: str, price: str, success_url: str, cancel_url: str, key: str | None
    ) -> str:
        """See :class:`~firelaunch.billing.base.Payments`."""
        asked: Any = {
            "mode": "subscription",
            "customer": customer,
            "client_reference_id": owner.uid,
            "metadata": _metadata(owner),
            # A subscription does not take its session's metadata over by itself.
            "subscription_data": {"metadata": _metadata(owner)},
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        with _translated():
            options: Any = {"idempotency_key": key} if key else {}
            return self._client.v1.checkout.sessions.create(asked, options).url or ""

    def create_portal(self, customer: str, return_url: str) -> str:
        """See :class:`~firelaunch.billing.base.Payments`."""
        with _translated():
            asked: Any = {"customer": customer, "return_url": return_url}
            return self._client.v1.billing_portal.sessions.create(asked).url


class StripeWebhooks:
    """Verifies what arrives as a webhook.

    Args:
        secret: of the endpoint (whsec_...); while one is replaced Stripe signs with both.
    """

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret

    def event(self, body: bytes, signature: str | None) -> Event:
        """The event in a webhook's body.

        Raises:
            BadRequest: its signature is not Stripe's, is over five minutes old, or what it signs is no event.
        """
        import stripe

        if signature is not None and not signature.isascii():
            # The package compares texts, which hmac refuses to do with these.
            raise BadRequest("The signature does not hold.", reason="no ASCII")
        try:
            stripe.WebhookSignature.verify_header(
                body, signature, self._secret.get_secret_value(), stripe.Webhook.DEFAULT_TOLERANCE
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as error:
            # The package's errors hold the whole body; their first words do not.
            why = error.user_message if isinstance(error, stripe.SignatureVerificationError) else "no UTF-8"
            raise BadRequest("The signature does not hold.", reason=why) from None
        try:
            return _event(json.loads(body))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BadRequest("The body is no event.", reason=type(error).__name__) from None


def _metadata(owner: Scope) -> dict[str, str]:
    return {"app_id": owner.app_id, "uid": str(owner.uid)}


def _event(sent: dict[str, Any]) -> Event:
    about = sent["data"]["object"]
    kind = sent["type"]
    if not isinstance(about, dict) or not isinstance(kind, str) or not isinstance(sent["id"], str):
        raise TypeError
    return Event(
        id=sent["id"],
        type=kind,
        created_at=datetime.fromtimestamp(int(sent["created"]), UTC),
        owner=_owner(about),
        subscription=_subscription_of(about) if kind.startswith(_TELLING) else None,
    )


def _subscription_of(about: dict[str, Any]) -> str | None:
    found = about.get("id") if about.get("object") == "subscription" else _details(about).get("subscription")
    if isinstance(found, dict):
        found = found.get("id")
    return found if isinstance(found, str) and SUBSCRIPTION_ID.fullmatch(found) else None


def _owner(about: dict[str, Any]) -> Owner:
    told = about.get("metadata") or _details(about).get("metadata")
    app_id, uid = (told.get("app_id"), told.get("uid")) if isinstance(told, Mapping) else (None, None)
    return Owner(app_id if isinstance(app_id, str) else None, uid if isinstance(uid, str) else None)


def _details(about: dict[str, Any]) -> dict[str, Any]:
    """Where an object says which subscription it belongs to: at its top, or as invoices do, under its parent."""
    parent = about.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, dict) else None
    return details if isinstance(details, dict) else about


def _subscription(found: dict[str, Any]) -> Subscription:
    items = found["items"]["data"]
    # Since 2025-03-31 a period is an item's own (https://docs.stripe.com/changelog/basil).
    ends = [item["current_period_end"] for item in items if item.get("current_period_end")]
    return Subscription(
        id=found["id"],
        owner=_owner(found),
        status=found["status"],
        prices=tuple(item["price"]["id"] for item in items),
        period_end=datetime.fromtimestamp(max(ends), UTC) if ends else None,
        cancel_at_period_end=bool(found.get("cancel_at_period_end")),
    )


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

    # Stripe's messages may quote what was sent; its codes do not.
    reason = f"{type(error).__name__} {error.http_status} {error.code} {error.request_id}"
    if isinstance(error, stripe.IdempotencyError):
        raise IdempotencyMismatch(reason=reason) from error
    status = error.http_status or 0
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError) or status == 409 or status >= 500:
        raise BillingUnavailable(reason=reason, retry_after=5) from error
    if isinstance(error, stripe.InvalidRequestError) and (error.code, error.param) == ("resource_missing", "customer"):
        raise CustomerGone from error
    raise BillingError(reason=reason) from error
