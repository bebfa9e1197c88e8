"""What users, and admins for them, do about plans: subscribe, manage what they pay for, be granted one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import BadRequest
from ..scope import Scope
from ..store.base import DELETE_FIELD, Document, DocumentStore, Set
from .base import AlreadySubscribed, BillingOff, CustomerGone, NoCustomer, Payments
from .entitlements import PAYING, Entitlement, Entitlements, subscriptions_of
from .ledger import Ledger
from .reconcile import Reconciliation

__all__ = ["Checkout"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """Serves the users of one app.

    Args:
        payments: None where billing is off.
        return_url: the page that Stripe leads back to.
    """

    store: DocumentStore
    entitlements: Entitlements
    payments: Payments | None
    return_url: str

    def checkout(self, user: Scope, email: str | None, plan: str, key: str | None) -> str:
        """The address of a page where ``user`` subscribes to ``plan``.

        Args:
            key: the client's Idempotency-Key; the same one leads to the same page.

        Raises:
            BillingOff, AlreadySubscribed, BillingError, IdempotencyMismatch: as they say.
            BadRequest: the plan is not for sale.
        """
        payments = self._on()
        sold = self.entitlements.plans.get(plan)
        if sold is None or not sold.stripe_price:
            raise BadRequest("plan: that plan is not for sale.")
        found = self.store.get(user.root)
        if found is not None and any(e.get("status") in PAYING for e in subscriptions_of(found.data).values()):
            raise AlreadySubscribed
        customer = _customer(found) or self._new_customer(payments, user, email, None)
        done, canceled = self._page("done"), self._page("canceled")
        once = None if key is None else f"checkout-{_digest(user.root, key)}"
        try:
            return payments.create_checkout(user, customer, sold.stripe_price, done, canceled, once)
        except CustomerGone:
            customer = self._new_customer(payments, user, email, customer)
            return payments.create_checkout(
                user, customer, sold.stripe_price, done, canceled, once and f"{once}-{customer}"
            )

    def portal(self, user: Scope) -> str:
        """The address of a page where ``user`` changes or ends what they pay for.

        Raises:
            BillingOff, NoCustomer, BillingError: as they say.
        """
        payments = self._on()
        customer = _customer(self.store.get(user.root))
        if customer is None:
            raise NoCustomer
        try:
            return payments.create_portal(customer, self.return_url)
        except CustomerGone:
            raise NoCustomer(reason=f"{customer} is not in Stripe") from None

    def grant(self, user: Scope, plan: str | None) -> Entitlement:
        """Give ``user`` a plan whatever they pay for; None takes it back. Returns what they are entitled to then.

        Raises:
            BadRequest: there is no such plan.
        """
        if plan is not None and plan not in self.entitlements.plans:
            raise BadRequest(f"plan: the plans are {', '.join(sorted(self.entitlements.plans))}.")
        self.store.commit([Set(user.root, {"plan": DELETE_FIELD if plan is None else plan}, merge=True)])
        return self.entitlements.of(self.store.get(user.root))

    def reconciliation(self, app: Scope) -> Reconciliation:
        """Of the subscriptions of this app alone.

        Raises:
            BillingOff: as it says.
        """
        payments = self._on()
        return Reconciliation(payments, {app.app_id: Ledger(self.store, payments, app)})

    def _on(self) -> Payments:
        if self.payments is None:
            raise BillingOff
        return self.payments

    def _new_customer(self, payments: Payments, user: Scope, email: str | None, gone: str | None) -> str:
        # The key has two checkouts at once end up with one customer.
        customer = payments.create_customer(user, email, f"customer-{_digest(user.root, email or '', gone or '')}")
        self.store.commit([Set(user.root, {"billing": {"customer": customer}}, merge=True)])
        return customer

    def _page(self, outcome: str) -> str:
        return f"{self.return_url}{'&' if urlsplit(self.return_url).query else '?'}checkout={outcome}"


def _customer(user: Document | None) -> str | None:
    billing = {} if user is None else user.data.get("billing") or {}
    found = billing.get("customer")
    return found if isinstance(found, str) else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
