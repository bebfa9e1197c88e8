"""Subscribe to plans, buy credit and manage subscriptions, for users; grant plans and credit, for admins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import urlsplit, urlunsplit

from ..errors import BadRequest, IdempotencyMismatch
from ..scope import Scope
from ..settings.plans import Plan, TopUp
from ..store.audit import audit_writes
from ..store.base import DELETE_FIELD, Create, Document, DocumentStore, Set, Update, Write
from .balance import Balance
from .base import AlreadySubscribed, BillingOff, CustomerGone, Event, NoCustomer, Offer, Payments, Trial, Webhooks
from .credit import grant_writes
from .entitlements import Entitlement, Entitlements, trial_of
from .ledger import Ledger, apply_changes
from .reconcile import Reconciliation
from .running import customer_of, running_subscriptions
from .webhooks import Outcome, WebhookInbox

__all__ = ["Checkout"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """Checkouts, billing portals and grants for the users of one app.

    Args:
        payments: the port to Stripe; None if billing is off.
        return_url: the page to which Stripe sends users back.
        top_ups: the credit for sale, by name.
        clock: returns the current time, with its time zone.
        webhooks: verifies Stripe's webhooks where the app itself takes them, on a laptop.
    """

    store: DocumentStore
    entitlements: Entitlements
    payments: Payments | None
    return_url: str
    top_ups: Mapping[str, TopUp] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    webhooks: Webhooks | None = None

    def subscribe(self, user: Scope, email: str | None, plan: str, key: str | None) -> str:
        """Return the address of a page where ``user`` subscribes to ``plan``.

        Args:
            key: the client's Idempotency-Key. The same key leads to the same page.

        Raises:
            BillingOff: billing is off.
            AlreadySubscribed: the user has a subscription that has not ended, even if it is unpaid or paused.
            BillingError: Stripe refused the request, or cannot be reached.
            IdempotencyMismatch: ``key`` was used for another request.
            BadRequest: the plan is not for sale.
        """
        payments = self._on()
        plan_settings = self.entitlements.plans.get(plan)
        if plan_settings is None or not (plan_settings.stripe_price or plan_settings.stripe_usage_price):
            raise BadRequest("plan: that plan is not for sale.")
        document = self.store.get(user.root)
        # Our copy may lag behind: of two checkouts in a row, the second one comes before the first one's event.
        for running in running_subscriptions(payments, user, document):
            raise AlreadySubscribed(
                f"There is a subscription already ({running.status}). Change or pay it in the billing portal."
            )
        trial = self._trial(payments, plan_settings, document)
        offer = Offer(plan_settings.stripe_price, usage_price=plan_settings.stripe_usage_price, trial=trial)
        return self._page_of(payments, user, document, email, offer, key)

    def _trial(self, payments: Payments, plan: Plan, document: Document | None) -> Trial | None:
        """Return the trial that a plan begins with, unless the user had one, as we or Stripe know."""
        if not plan.trial_days or trial_of(document) is not None:
            return None
        customer = customer_of(document)
        try:
            had_one = customer is not None and payments.had_trial(customer)
        except CustomerGone:
            had_one = False
        return None if had_one else Trial(plan.trial_days, plan.trial_without_card, plan.trial_end)

    def top_up(self, user: Scope, email: str | None, name: str, key: str | None) -> str:
        """Return the address of a page where ``user`` buys the credit of a top-up.

        Args:
            key: the client's Idempotency-Key. The same key leads to the same page.

        Raises:
            BillingOff: billing is off.
            BillingError: Stripe refused the request, or cannot be reached.
            IdempotencyMismatch: ``key`` was used for another request.
            BadRequest: there is no such top-up.
        """
        payments, top_up = self._on(), self.top_ups.get(name)
        if top_up is None:
            raise BadRequest("top_up: that is not for sale.")
        offer = Offer(top_up.stripe_price, top_up.credit_usd)
        return self._page_of(payments, user, self.store.get(user.root), email, offer, key)

    def _page_of(
        self,
        payments: Payments,
        user: Scope,
        document: Document | None,
        email: str | None,
        offer: Offer,
        key: str | None,
    ) -> str:
        customer = customer_of(document) or self._new_customer(payments, user, email, None)
        done, canceled = self._page("done"), self._page("canceled")
        stripe_key = None if key is None else f"checkout-{_digest(user.root, key)}"
        try:
            return payments.create_checkout(user, customer, offer, done, canceled, stripe_key)
        except CustomerGone:
            # The customer was deleted in Stripe. The key was used with the old customer, so it gets a suffix.
            customer = self._new_customer(payments, user, email, customer)
            stripe_key = stripe_key and f"{stripe_key}-{customer}"
            return payments.create_checkout(user, customer, offer, done, canceled, stripe_key)

    def portal(self, user: Scope) -> str:
        """Return the address of a page where ``user`` changes or ends their subscription.

        Raises:
            BillingOff: billing is off.
            NoCustomer: the user has never started a checkout.
            BillingError: Stripe refused the request, or cannot be reached.
        """
        payments = self._on()
        customer = customer_of(self.store.get(user.root))
        if customer is None:
            raise NoCustomer
        try:
            return payments.create_portal(customer, self.return_url)
        except CustomerGone:
            raise NoCustomer(reason=f"{customer} is not in Stripe") from None

    def grant(self, user: Scope, plan: str | None, by: str) -> Entitlement:
        """Grant ``user`` a plan, whatever they pay for, and return their new entitlement. None takes the grant back.

        Args:
            by: the admin's user id.

        Raises:
            BadRequest: there is no such plan.
            Contention: other writers of the user's document came first for too long.
        """
        if plan is not None and plan not in self.entitlements.plans:
            raise BadRequest(f"plan: the plans are {', '.join(sorted(self.entitlements.plans))}.")

        def changes(document: Document | None) -> list[Write]:
            before = None if document is None else document.data.get("plan")
            if before == plan:
                return []
            facts = {"before": {"plan": before}, "after": {"plan": plan}}
            told = audit_writes(user, "plan.granted", by, self.clock(), whom=user.uid, **facts)
            if document is None:
                return [Create(user.root, {"plan": plan}), *told]
            fields = {"plan": DELETE_FIELD if plan is None else plan}
            return [Update(user.root, fields, if_updated_at=document.update_time), *told]

        apply_changes(self.store, [user.root], changes)
        return self.entitlements.of(self.store.get(user.root), user.root)

    def grant_credit(self, user: Scope, micro_usd: int, by: str, key: str | None) -> Balance:
        """Give ``user`` credit, or take some back if ``micro_usd`` is below zero, and return what they have now.

        What was spent or is held already cannot be taken back: later credit pays it first.

        Args:
            by: the admin's user id.
            key: the admin's Idempotency-Key. A grant with the same key counts once.

        Raises:
            Contention: other writers of the user's document came first for too long.
        """
        entry_id = "g" + (token_hex(16) if key is None else _digest(user.root, by, key))

        def changes(document: Document | None, entry: Document | None) -> list[Write]:
            if entry is None:
                return grant_writes(user, document, entry_id, micro_usd, by, self.clock())
            if entry.data.get("credited_micro_usd") != micro_usd:
                raise IdempotencyMismatch
            return []

        apply_changes(self.store, [user.root, user.credit_entry(entry_id)], changes)
        return Balance.of(self.store.get(user.root))

    def reconciliation(self, app: Scope) -> Reconciliation:
        """Return the reconciliation of this app's subscriptions.

        Raises:
            BillingOff: billing is off.
        """
        payments = self._on()
        return Reconciliation(payments, {app.app_id: Ledger(self.store, payments, app)})

    def receive(self, app: Scope, body: bytes, signature: str | None) -> tuple[Event, Outcome]:
        """Apply the event of a webhook to the users of this app, and return it with what became of it.

        Raises:
            BillingOff: billing is off, or the app takes no webhooks itself.
            BadRequest: the signature is not valid, or the body is no event.
            BillingError: Stripe cannot be reached, or refuses.
        """
        payments = self._on()
        if self.webhooks is None:
            raise BillingOff
        event = self.webhooks.event(body, signature)
        # A Stripe account's events may be of other apps, too.
        inbox = WebhookInbox({app.app_id: Ledger(self.store, payments, app)}, self.clock, shared=True)
        return event, inbox.receive(event)

    def _on(self) -> Payments:
        if self.payments is None:
            raise BillingOff
        return self.payments

    def _new_customer(self, payments: Payments, user: Scope, email: str | None, gone: str | None) -> str:
        # With this key, two checkouts at the same time get the same customer.
        customer = payments.create_customer(user, email, f"customer-{_digest(user.root, email or '', gone or '')}")
        self.store.commit([Set(user.root, {"billing": {"customer": customer}}, merge=True)])
        return customer

    def _page(self, outcome: str) -> str:
        url = urlsplit(self.return_url)
        return urlunsplit(url._replace(query="&".join(filter(None, (url.query, f"checkout={outcome}")))))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
