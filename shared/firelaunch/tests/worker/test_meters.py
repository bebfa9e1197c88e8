"""Usage reaches Stripe's meters once: whatever is lost, late or repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import firelaunch.billing.stripe
import pytest
from firelaunch.errors import SettingsError
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import run_jobs, sign_in, write_app
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.stripe import StripeServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metered import METERED, Metered
from shop import Shop


@pytest.fixture(autouse=True)
def no_retries_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stripe package sleeps before it tries again by itself. Here the jobs do."""
    monkeypatch.setattr(firelaunch.billing.stripe, "_RETRIES", 0)


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def app(tmp_path: Path, stripe: StripeServer) -> Iterator[Metered]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    yield Metered(tmp_path, store, stripe)
    store.close()


def test_what_subscribers_use_is_counted_by_the_meter_and_what_others_use_is_not(app: Metered) -> None:
    app.subscribe("ada")
    app.services.store.commit([Set(Scope("demo", "bob").root, {"plan": "usage", "billing": {"customer": "cus_b"}})])
    spent = [app.use("ada") for _ in range(3)]
    app.use("bob")  # whose plan was granted
    app.use("carl")
    assert all(spent)
    app.deliver()
    assert app.counted("ada") == sum(spent) == app.cost("ada")
    assert [event.customer for event in app.stripe.account.meters.events] == [app.customers["ada"]] * 3
    assert app.states() == ["succeeded"] * 3


@pytest.mark.parametrize(("counts", "value"), [("requests", 2), ("tokens", None)])
def test_a_meter_may_count_requests_or_tokens(tmp_path: Path, stripe: StripeServer, counts: str, value: Any) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    text = METERED.replace('meter = "ai_usage"', f'meter = "ai_usage"\nmeter_counts = "{counts}"')
    app = Metered(tmp_path, store, stripe, text)
    app.subscribe("ada")
    today = app.services.metering.today()
    for _ in range(2):
        app.use("ada")
    app.deliver(hours=0.1)
    day = store.get(Scope("demo", "ada").usage(today))
    assert day is not None
    assert app.counted("ada") == (value or day.data["input_tokens"] + day.data["output_tokens"])
    store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(losses=st.lists(st.sampled_from([None, "request", "answer"]), max_size=30), twice=st.booleans())
def test_whatever_is_lost_on_the_way_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, losses: list[Any], twice: bool
) -> None:
    folder = tmp_path_factory.mktemp("meters")
    store = SQLiteStore(folder / "data.sqlite3")
    with StripeServer() as stripe:
        app = Metered(folder, store, stripe)
        app.subscribe("ada")
        spent = app.use("ada") + app.use("ada")
        left = list(losses)
        stripe.lost = lambda _: left.pop() if left else None
        app.deliver(twice=twice)
        assert app.counted("ada") == spent
    store.close()


def test_what_may_be_counted_already_is_not_sent_again_when_stripe_has_forgotten_it(app: Metered) -> None:
    app.subscribe("ada")
    spent = app.use("ada")
    app.stripe.lost = lambda path: "answer" if path.endswith("meter_events") else None
    app.deliver(hours=0.1)
    app.stripe.lost = lambda _: None
    app.now += timedelta(hours=25)
    app.deliver(hours=1)
    assert app.counted("ada") == spent
    assert app.states() == ["dead"], "a person has to look"


def test_what_was_never_sent_is_sent_days_later_with_the_time_of_its_use_but_not_after_five_weeks(app: Metered) -> None:
    app.subscribe("ada")
    spent, used_at = app.use("ada"), int(app.now.timestamp())
    app.now += timedelta(days=20)
    app.deliver(hours=0.1)
    assert [(event.value, event.at) for event in app.stripe.account.meters.events] == [(spent, used_at)]
    app.use("ada")
    app.now += timedelta(days=36)
    app.deliver(hours=0.1)
    assert app.counted("ada") == spent
    assert app.states() == ["dead", "succeeded"]


def test_what_stripe_refuses_is_dead_and_says_so(app: Metered) -> None:
    app.subscribe("ada")
    app.use("ada")
    app.stripe.account.meters.names.clear()
    app.deliver(hours=0.1)
    assert app.states() == ["dead"]


def test_while_stripe_is_away_reports_wait_for_hours_and_none_is_lost(app: Metered) -> None:
    app.subscribe("ada")
    spent = app.use("ada")
    app.stripe.lost = lambda _: "request"
    app.deliver(hours=20)
    assert app.states() == ["queued"]
    app.stripe.lost = lambda _: None
    app.deliver(hours=2)
    assert app.counted("ada") == spent


def test_turns_report_and_a_turn_whose_first_commit_went_through_unheard_reports_once(
    make_app: Callable[..., App], stripe: StripeServer
) -> None:
    app = make_app(METERED, STRIPE_API_KEY=stripe.key, STRIPE_API_BASE=stripe.url)
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    page = ada.post("/v1/billing/checkout", {"plan": "usage"}).get_json()["url"].rpartition("/")[2]
    subscription = stripe.account.pay(page)
    shop.send_all()
    assert ada.get("/v1/me").get_json()["plan"] == "usage"
    chat = ada.new_chat()
    spent = sum(ada.send(chat, "Hello").get_json()["usage"]["cost_micro_usd"] for _ in range(2))
    run_jobs(app)
    assert stripe.account.meters.total("ai_usage", subscription["customer"]) == spent


def test_on_firestore_too(
    tmp_path: Path, stripe: StripeServer, firestore_emulator: Emulator, firestore_project: str
) -> None:
    store = firestore_emulator.store(firestore_project)
    app = Metered(tmp_path, store, stripe)
    app.subscribe("ada")
    chance = random.Random(5)  # noqa: S311 - a test's own dice
    stripe.lost = lambda _: chance.choice([None, None, None, "request", "answer"])
    spent = sum(app.use("ada") for _ in range(10))
    app.deliver(at_once=4, twice=True)
    assert app.counted("ada") == spent == app.cost("ada")
    store.close()


def test_a_usage_price_without_a_meter_or_a_meter_without_jobs_does_not_start(tmp_path: Path) -> None:
    path = write_app(tmp_path, METERED.replace('meter = "ai_usage"', ""))
    with pytest.raises(SettingsError, match="bills what a meter counts"):
        Settings.load(path, {})
    path = write_app(tmp_path, METERED)
    environ = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p", "OPENAI_API_KEY": "k", "STRIPE_API_KEY": "sk"}
    with pytest.raises(SettingsError, match="is told by jobs"):
        build(Settings.load(path, environ))
