"""An app whose subscribers pay by what they use: its services, its worker, and Stripe's part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from firelaunch.jobs.base import Delivery
from firelaunch.metering.reservations import Day
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.shutdown import Shutdown
from firelaunch.store.base import DocumentStore, Filter, Query, Set
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.stripe import StripeServer
from firelaunch.worker.runner import Runner
from firelaunch.worker.tasks.meters import meter_handlers
from shop import Shop

METERED = (
    SETTINGS
    + """
[plans.usage]
requests_per_minute = 100000
daily_usd = "1000"
stripe_usage_price = "price_usage"
meter = "ai_usage"

[billing]
return_url = "https://app.example.com/plans"

[prices.offline]
input = "20"
output = "20"
"""
)


class Silent:
    """A backend that delivers nothing: the test runs what is due."""

    def deliver(self, delivery: Delivery) -> None:
        """Do nothing."""


class Metered:
    """The app's services on ``store``, with a clock that only goes on when it is told to."""

    def __init__(self, folder: Path, store: DocumentStore, stripe: StripeServer, settings: str = METERED) -> None:
        self.now = datetime.now(UTC)
        self.stripe = stripe
        stripe.account.clock = lambda: self.now.timestamp()
        environ = {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url}
        self.settings = Settings.load(write_app(folder, settings), environ)
        self.services = build(self.settings, clock=lambda: self.now, store=store, backend=Silent())
        self.runner = Runner(self.services, meter_handlers(None), Shutdown(), jitter=lambda: 1.0)
        self.shop = Shop(stripe, store, ("demo",))
        self.customers: dict[str, str] = {}

    def subscribe(self, uid: str) -> Scope:
        """Have a user pay for the usage plan."""
        user = Scope("demo", uid)
        customer = self.shop.payments.create_customer(user, None, f"customer-{uid}")
        self.customers[uid] = customer
        self.services.store.commit([Set(user.root, {"billing": {"customer": customer}}, merge=True)])
        metadata = {"app_id": "demo", "uid": uid}
        self.shop.ledgers["demo"].follow(user, self.stripe.account.subscribe(customer, metadata, "price_usage")["id"])
        return user

    def use(self, uid: str, text: str = "Hello") -> int:
        """Call a model for a user, and return what it cost."""
        messages: Any = [{"role": "user", "content": text}]
        done = self.services.llm.complete(messages, scope=Scope("demo", uid))
        return int(done.usage["cost_micro_usd"])

    def deliver(self, hours: float = 12.0, at_once: int = 1, twice: bool = False) -> None:
        """Run the jobs that are due, and those that are due later, for some hours of the app's clock."""
        end = self.now + timedelta(hours=hours)
        with ThreadPoolExecutor(at_once) as pool:
            while self.now < end:
                due = self.services.jobs.due(200) * (2 if twice else 1)
                if due:
                    list(pool.map(self.runner.run, due))
                else:
                    self.now = min(end, self._next_due() or end)

    def _next_due(self) -> datetime | None:
        store, app = self.services.store, Scope("demo")
        later = store.query(Query(app.jobs(), where=(Filter("due_at", ">", self.now),), limit=1))
        return later[0].data["due_at"] if later else None

    def counted(self, uid: str) -> int:
        """The usage of a user in Stripe's meter."""
        return self.stripe.account.meters.total("ai_usage", self.customers[uid])

    def cost(self, uid: str) -> int:
        """The costs in the user's days."""
        store, user = self.services.store, Scope("demo", uid)
        days = store.get_many([user.usage(day) for day in store.ids(f"{user.root}/usage")])
        return sum(Day.of(day).number("cost_micro_usd") for day in days)

    def states(self) -> list[str]:
        """The states of all reports."""
        store = self.services.store
        jobs = store.get_many([Scope("demo").job(job) for job in store.ids(Scope("demo").jobs())])
        return sorted(str(job.data["state"]) for job in jobs if job is not None)
