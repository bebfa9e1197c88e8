"""Stripe's part played by its test server, and firelaunch's side of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from firelaunch.billing.balance import Balance
from firelaunch.billing.base import Offer
from firelaunch.billing.entitlements import Entitlement, Entitlements
from firelaunch.billing.ledger import Ledger
from firelaunch.billing.reconcile import Reconciliation, ReconciliationReport
from firelaunch.billing.stripe import StripePayments, StripeWebhooks
from firelaunch.billing.webhooks import Outcome, WebhookInbox
from firelaunch.scope import Scope
from firelaunch.settings.plans import Plan
from firelaunch.store.base import DocumentStore
from firelaunch.store.scoped import ScopedStore
from firelaunch.testing.stripe import StripeServer
from pydantic import SecretStr

PLANS = {
    "free": Plan(requests_per_minute=1, daily_usd="0.10"),  # type: ignore[arg-type]
    "pro": Plan(requests_per_minute=5, daily_usd="1", stripe_price="price_pro", stripe_old_prices=("price_1999",)),  # type: ignore[arg-type]
    "payg": Plan(requests_per_minute=9, daily_usd="100", balance=True),  # type: ignore[arg-type]
    "team": Plan(requests_per_minute=5, daily_usd="2", stripe_price="price_team", features=("export",)),  # type: ignore[arg-type]
}


@dataclass
class Shop:
    """Stripe, and two apps that sell plans."""

    stripe: StripeServer
    store: DocumentStore
    apps: tuple[str, ...] = ("demo", "other")

    def __post_init__(self) -> None:
        self.stripe.account.prices |= {"price_pro", "price_team"}
        self.stripe.account.one_time["price_credit"] = 1_000
        self.stripe.account.metered["price_usage"] = "ai_usage"
        self.stripe.account.meters.names.add("ai_usage")
        self.payments = StripePayments(SecretStr(self.stripe.key), self.stripe.url)
        self.ledgers = {
            app: Ledger(ScopedStore(self.store, Scope(app)), self.payments, Scope(app)) for app in self.apps
        }
        self.inbox = WebhookInbox(self.ledgers, lambda: datetime.now(UTC))
        self.webhooks = StripeWebhooks(SecretStr(self.stripe.secret))
        self.entitlements = Entitlements(PLANS, "free")

    def subscribe(self, uid: str = "ada", app: str = "demo", price: str = "price_pro", **fields: Any) -> str:
        metadata = {"app_id": app, "uid": uid}
        customer = self.stripe.account.customer(metadata)["id"]
        made: str = self.stripe.account.subscribe(customer, metadata, price, **fields)["id"]
        return made

    def top_up(self, uid: str = "ada", app: str = "demo", credit: int = 10_000_000, **how: Any) -> str:
        """Buy credit for ten dollars, as a checkout that the app began."""
        user = Scope(app, uid)
        customer = self.payments.create_customer(user, None, f"customer-{app}-{uid}")
        offer = Offer("price_credit", credit)
        home = "https://a.example.com"
        page = self.payments.create_checkout(user, customer, offer, home, home, None)
        made: str = self.stripe.account.pay(page.rpartition("/")[2], **how)["id"]
        return made

    def credit(self, uid: str = "ada", app: str = "demo") -> tuple[int, int]:
        """The credit of a user, and their debt."""
        balance = Balance.of(self.store.get(Scope(app, uid).root))
        return balance.micro_usd, balance.owed

    def send(self, event: Any) -> Outcome:
        """As Stripe sends it, but for the socket."""
        return self.inbox.receive(self.webhooks.event(*self.stripe.webhook(event)))

    def send_all(self) -> None:
        for event in self.stripe.account.events:
            self.send(event)

    def reconcile(self) -> ReconciliationReport:
        return Reconciliation(self.payments, self.ledgers).run()

    def has(self, uid: str = "ada", app: str = "demo") -> Entitlement:
        return self.entitlements.of(self.store.get(Scope(app, uid).root))

    def plan(self, uid: str = "ada", app: str = "demo") -> str:
        return self.has(uid, app).plan

    def receipt(self, event: Any, app: str = "demo") -> dict[str, Any] | None:
        found = self.store.get(Scope(app).billing_event(event["id"]))
        return None if found is None else dict(found.data)
