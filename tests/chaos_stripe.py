"""``make chaos-stripe``: Stripe's events in any order, repeated and at once; then with some of them lost; then meters.

Stripe's side goes through a sequence of changes to many subscriptions. Each change makes an event, which arrives one to
four times, each copy at a random moment between its making and the end, so that nearly everything arrives late and out
of order while the sequence goes on. The copies go through real functions-framework processes and the real Firestore
emulator, which ask the test server for the present state with the real stripe package. What counts is the difference
between the plan that each user ends with and the plan of the last change in order.

In the last part subscribers use models, and a share of all calls to Stripe is lost, half of them before Stripe looks at
them and half before its answer arrives, while workers run each report twice. What counts is the difference between what
Stripe's meter has and what the users' days say.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.stripe import StripeServer
from metered import Metered
from shop import Shop
from support import ROOT, served_function

APPS = ("demo", "other")
_PLANS = {"price_pro": "pro", "price_team": "team"}
_AT_ONCE = 8
"""Deliveries at a time to one instance of the webhook function."""
_STATES = ("active", "active", "active", "trialing", "past_due", "unpaid", "paused")


@dataclass(frozen=True, slots=True)
class Part:
    """How many events, which share of them is lost, and how many changes later one comes at most."""

    events: int
    lost: float
    late: int


@dataclass(frozen=True, slots=True)
class Result:
    """What happened. ``differences`` is of users whose plan was not that of the ordered sequence."""

    deliveries: int
    lost: int
    outcomes: Mapping[str, int]
    differences: int
    seconds: float


@dataclass(frozen=True, slots=True)
class World:
    """Stripe, our database, and the addresses of running functions."""

    shop: Shop
    webhooks: tuple[str, ...]
    reconciliation: str


class Sequence:
    """Changes in order, and what they come to; kept beside Stripe's own account, to be compared with."""

    def __init__(self, shop: Shop, chance: random.Random, subscriptions: int, name: str) -> None:
        self._account = shop.stripe.account
        self._chance = chance
        self._told = len(self._account.events)
        self.users = [(APPS[number % 2], f"{name}-{number}") for number in range(subscriptions)]
        self.plans = dict.fromkeys(self.users, "free")
        self._live: dict[tuple[str, str], str] = {}
        self._state: dict[tuple[str, str], tuple[str, str]] = {}

    def next(self) -> list[dict[str, Any]]:
        """Make one change; its events."""
        user = self._chance.choice(self.users)
        price, status = self._state.get(user, ("", "canceled"))
        if status == "canceled":
            price, status = self._chance.choice(list(_PLANS)), "active"
            metadata = {"app_id": user[0], "uid": user[1]}
            made = self._account.subscribe(f"cus_{user[1]}", metadata, price)
            self._live[user] = made["id"]
        elif self._chance.random() < 0.1:
            status = "canceled"
            self._account.change(self._live[user], status=status)
        elif self._chance.random() < 0.5:
            price = self._chance.choice(list(_PLANS))
            self._account.change(self._live[user], price=price)
        else:
            status = self._chance.choice(_STATES)
            self._account.change(self._live[user], status=status)
        self._state[user] = (price, status)
        self.plans[user] = _PLANS[price] if status in {"active", "trialing", "past_due"} else "free"
        new, self._told = self._account.events[self._told :], len(self._account.events)
        return new


def run(world: World, sequence: Sequence, chance: random.Random, part: Part, say: Callable[[int, int], None]) -> Result:
    """Go through changes, lose a share of their events (all copies), and deliver the rest."""
    began, plan = time.monotonic(), _arrivals(part, chance)
    made: list[dict[str, Any]] = []
    waiting: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    deliveries = sum(map(len, plan))
    with ThreadPoolExecutor(_AT_ONCE * len(world.webhooks)) as pool:
        senders = [pool.submit(_deliver, world, url, waiting) for url in world.webhooks for _ in range(_AT_ONCE)]
        queued = 0
        for moment, arriving in enumerate(plan):
            if moment < part.events:
                made += sequence.next()
            chance.shuffle(arriving)
            for number in arriving:
                waiting.put(made[number])
            queued += len(arriving)
            # The sequence waits for its deliveries, or all of it would be over before the first one is.
            while waiting.qsize() > min(64, part.late):
                time.sleep(0.005)
            say(queued, deliveries)
        for _ in senders:
            waiting.put(None)
        outcomes = Counter(outcome for sender in senders for outcome in sender.result())
    took = round(time.monotonic() - began, 1)
    lost = part.events - len({number for arriving in plan for number in arriving})
    return Result(deliveries, lost, dict(outcomes), count_differences(world.shop, sequence.plans), took)


def _arrivals(part: Part, chance: random.Random) -> list[list[int]]:
    """Which events arrive at which moment. One is made at each moment of the first half; a copy comes from then on."""
    plan: list[list[int]] = [[] for _ in range(2 * part.events)]
    for number in range(part.events):
        copies = 0 if chance.random() < part.lost else chance.randint(1, 4)
        for _ in range(copies):
            plan[chance.randint(number, min(number + part.late, 2 * part.events - 1))].append(number)
    return plan


def _deliver(world: World, url: str, waiting: SimpleQueue[dict[str, Any] | None]) -> list[str]:
    outcomes = []
    # gunicorn closes what was idle for two seconds, perhaps at the moment in which it is used again.
    limits = httpx.Limits(keepalive_expiry=1)
    with httpx.Client(base_url=url, timeout=120, trust_env=False, limits=limits) as client:
        while (event := waiting.get()) is not None:
            outcomes += _send(world, client, event)
    return outcomes


def _send(world: World, client: httpx.Client, event: dict[str, Any]) -> list[str]:
    """Until it is taken, as Stripe does. One that was not answered may have been applied, and is a duplicate then."""
    outcomes = []
    for _ in range(20):
        body, signature = world.shop.stripe.webhook(event)
        try:
            answer = client.post("/", content=body, headers={"Stripe-Signature": signature})
        except httpx.TransportError:
            outcomes.append("unanswered")
            continue
        if answer.status_code == 200:
            return [*outcomes, answer.json()["outcome"]]
        assert answer.status_code >= 500, answer.text
        outcomes.append("failed")
    raise AssertionError(f"{event['id']} was sent 20 times: {outcomes}")


def refusals(world: World) -> dict[str, int]:
    """The status that each webhook gets which is not to be believed."""
    stripe = world.shop.stripe
    mine = {"app_id": APPS[0], "uid": "mallory"}
    event = stripe.account.happen("customer.subscription.created", {"object": "subscription", "metadata": mine})
    elsewhere = stripe.account.happen("customer.created", {"object": "customer", "metadata": {"app_id": "elsewhere"}})
    webhooks = {
        "forged signature": stripe.webhook(event, secret="whsec_guessed"),
        "old timestamp": stripe.webhook(event, at=time.time() - 301),
        "wrong app": stripe.webhook(elsewhere),
    }
    found = {}
    for name, (body, signature) in webhooks.items():
        headers = {"Stripe-Signature": signature}
        found[name] = httpx.post(world.webhooks[0], content=body, headers=headers, trust_env=False).status_code
    return found


def count_differences(shop: Shop, plans: Mapping[tuple[str, str], str]) -> int:
    """Users whose plan, as we have it, is another than it should be."""
    found = shop.store.get_many([Scope(app, uid).root for app, uid in plans])
    has = [shop.entitlements.of(document).plan for document in found]
    return sum(plan != ours for plan, ours in zip(plans.values(), has, strict=True))


def start(store: DocumentStore, emulator: Emulator, project: str, folder: Path, stack: ExitStack) -> World:
    """Stripe's server, two instances of the webhook function, and the reconciliation."""
    stripe = stack.enter_context(StripeServer())
    environ = {
        "GOOGLE_CLOUD_PROJECT": project,
        "FIRESTORE_EMULATOR_HOST": emulator.host,
        "BILLING_APPS": ",".join(APPS),
        "STRIPE_API_KEY": stripe.key,
        "STRIPE_WEBHOOK_SECRET": stripe.secret,
        "STRIPE_API_BASE": stripe.url,
    }
    webhooks = [stack.enter_context(served_function("stripe_webhook", folder, **environ)) for _ in range(2)]
    reconciliation = stack.enter_context(served_function("reconcile_billing", folder, **environ))
    return World(Shop(stripe, store, APPS), tuple(webhooks), reconciliation)


def chaos(
    world: World,
    events: int,
    subscriptions: int,
    seed: int,
    say: Callable[[str], Callable[[int, int], None]],
    lost: float = 0.05,
) -> dict[str, Any]:
    """Both parts; the report that ``make chaos-stripe`` writes."""
    figures: dict[str, Any] = {"events": events, "subscriptions": subscriptions, "seed": seed}
    results = {}
    # Where events are lost the others come soon: a late one of the same subscription would make up for a lost one.
    parts = {"shuffled": Part(events, 0, 2 * events), "lossy": Part(events, lost, subscriptions // 20)}
    for name, part in parts.items():
        chance = random.Random(f"{name} {seed}")  # noqa: S311 - a test's own dice
        sequence = Sequence(world.shop, chance, subscriptions, name)
        results[name] = run(world, sequence, chance, part, say(name))
    report = httpx.post(world.reconciliation, timeout=600, trust_env=False).json()
    return figures | {
        "differences": results["shuffled"].differences,
        "differences_before_reconciliation": results["lossy"].differences,
        "differences_after_reconciliation": count_differences(world.shop, sequence.plans),
        **{name: asdict(result) for name, result in results.items()},
        "refused": refusals(world),
        "reconciliation": {key: value for key, value in report.items() if key != "shown"},
    }


def meters(
    folder: Path,
    store: DocumentStore,
    requests: int,
    users: int,
    seed: int,
    lost: float,
    say: Callable[[int, int], None],
) -> dict[str, Any]:
    """Use models, report it over a line that loses calls, and compare; ``meter_difference`` is in micro-dollars."""
    chance = random.Random(f"meters {seed}")  # noqa: S311
    calls: Counter[str] = Counter()

    def loses(_: str) -> Any:
        what = chance.choice(("request", "answer")) if chance.random() < lost else None
        calls[what or "through"] += 1
        return what

    with StripeServer() as stripe:
        app = Metered(folder, store, stripe)
        uids = [f"user-{number}" for number in range(users)]
        for uid in uids:
            app.subscribe(uid)
        stripe.lost = loses
        for number in range(requests):
            app.use(chance.choice(uids), "Hello " * chance.randint(1, 40))
            if number % 50 == 0:
                app.deliver(hours=0.01, at_once=_AT_ONCE, twice=True)
                say(number, requests)
        app.deliver(hours=12, at_once=_AT_ONCE, twice=True)
        say(requests, requests)
        differences = [app.counted(uid) - app.cost(uid) for uid in uids]
        return {
            "meter_difference": sum(map(abs, differences)),
            "metered_micro_usd": sum(app.cost(uid) for uid in uids),
            "meter_events": len(stripe.account.meters.events),
            "meter_calls": dict(calls),
            "reports": dict(Counter(app.states())),
        }


def main() -> int:
    """Run it at length and write build/chaos-stripe.json.

    Returns:
        the exit code: 0 where nothing differed.
    """
    events, subscriptions, seed = int(sys.argv[1]), int(sys.argv[2]), random.randrange(2**32)  # noqa: S311
    sys.stdout.write(f"{events} events of {subscriptions} subscriptions, seed {seed}\n")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        emulator = stack.enter_context(Emulator.start())
        project = "demo-chaos-stripe"
        store = emulator.store(project)
        stack.callback(store.close)
        world = start(store, emulator, project, Path(scratch), stack)
        figures = chaos(world, events, subscriptions, seed, _bar)
        metered = stack.enter_context(closing(emulator.store(f"{project}-meters")))
        figures |= meters(Path(scratch), metered, events // 10, 20, seed, 0.05, _bar("meters"))
    target = ROOT / "build" / "chaos-stripe.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    counted = ("differences", "differences_after_reconciliation", "meter_difference")
    return 1 if any(figures[name] for name in counted) else 0


def _bar(what: str) -> Callable[[int, int], None]:
    shown = -1

    def say(done: int, of: int) -> None:
        nonlocal shown
        percent = 100 * done // max(of, 1)
        if percent > shown:
            shown = percent
            sys.stderr.write(f"\r{what}: {percent:3d}%" + ("\n" if percent == 100 else ""))
            sys.stderr.flush()

    return say


if __name__ == "__main__":
    sys.exit(main())
