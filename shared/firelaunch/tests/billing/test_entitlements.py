"""Plans from facts, and nothing but facts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from firelaunch.billing import entitlements
from firelaunch.billing.entitlements import Entitlements, trial_of
from firelaunch.settings.plans import GUEST_PLAN, Plan
from firelaunch.store.base import Document
from hypothesis import given
from hypothesis import strategies as st
from shop import PLANS

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ENTITLEMENTS = Entitlements(PLANS, "free")


def of(data: Any) -> tuple[str, str]:
    found = ENTITLEMENTS.of(Document("apps/demo/users/ada", data, NOW, NOW))
    return found.plan, found.source


def paying(*prices: str, status: str = "active") -> dict[str, Any]:
    return {"billing": {"subscriptions": {"sub_1": {"status": status, "prices": list(prices)}}}}


@pytest.mark.parametrize(
    ("data", "has"),
    [
        ({}, ("free", "default")),
        ({"plan": "pro"}, ("pro", "granted")),
        ({"plan": "no longer there"}, ("free", "default")),
        ({"plan": 7}, ("free", "default")),
        ({"balance": {"micro_usd": 1}}, ("payg", "credit")),
        ({"balance": {"micro_usd": 0}}, ("free", "default")),
        (paying("price_pro"), ("pro", "subscription")),
        (paying("price_pro", "price_team"), ("team", "subscription")),
        (paying("price_gone"), ("free", "default")),
        (paying(), ("free", "default")),
        (paying("price_team", status="unpaid"), ("free", "default")),
        ({"plan": "pro"} | paying("price_team"), ("pro", "granted")),
        ({"plan": "gone"} | paying("price_team"), ("team", "subscription")),
        ({"billing": None}, ("free", "default")),
        ({"billing": {"customer": "cus_1"}}, ("free", "default")),
    ],
)
def test_a_grant_comes_first_then_the_best_that_is_paid_then_the_default(data: Any, has: tuple[str, str]) -> None:
    assert of(data) == has


def test_a_user_without_a_document_has_the_default() -> None:
    assert ENTITLEMENTS.of(None).plan == "free"
    assert ENTITLEMENTS.of(None).limits is PLANS["free"]


@given(st.text(), st.text())
def test_no_price_and_no_state_but_those_that_are_named_entitle(price: str, status: str) -> None:
    sold = {"price_pro", "price_1999", "price_team"}
    if price not in sold or status not in {"active", "trialing", "past_due"}:
        assert of(paying(price, status=status)) == ("free", "default")


WITH_GUESTS = PLANS | {GUEST_PLAN: Plan(requests_per_minute=1, daily_usd="0.01")}  # type: ignore[arg-type]


@pytest.mark.parametrize("also", [{}, {"plan": "pro"}, paying("price_team"), {"balance": {"micro_usd": 5}}])
def test_a_guest_has_the_guests_plan_whatever_else_the_document_says(also: Any) -> None:
    user = Document("apps/demo/users/ada", {"guest": True} | also, NOW, NOW)
    assert Entitlements(WITH_GUESTS, "free").of(user).source == "guest"
    assert ENTITLEMENTS.of(user).plan != GUEST_PLAN


@pytest.mark.parametrize("guest", [False, None, 1, "true"])
def test_nobody_else_has_the_guests_plan(guest: Any) -> None:
    user = Document("apps/demo/users/ada", {"guest": guest}, NOW, NOW)
    assert Entitlements(WITH_GUESTS, "free").of(user).plan == "free"


@pytest.mark.parametrize(
    ("status", "trial", "plan"),
    [
        ("trialing", "sub_1", "pro"),
        ("trialing", None, "pro"),
        ("trialing", "sub_0", "free"),
        ("trialing", 7, "pro"),
        ("active", "sub_0", "pro"),
        ("active", "sub_1", "pro"),
    ],
)
def test_only_a_users_first_trial_entitles_and_what_is_paid_always_does(status: str, trial: Any, plan: str) -> None:
    data = paying("price_pro", status=status)
    data["billing"]["trial"] = trial
    assert of(data)[0] == plan
    user = Document("apps/demo/users/ada", data, NOW, NOW)
    assert trial_of(user) == (trial if isinstance(trial, str) else None)


@pytest.mark.parametrize("data", [{}, {"billing": None}, {"billing": "sub_1"}, {"billing": {}}])
def test_who_never_had_a_trial_has_none(data: Any) -> None:
    assert trial_of(Document("apps/demo/users/ada", data, NOW, NOW)) is None
    assert trial_of(None) is None


def test_the_last_plans_of_users_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entitlements, "_REMEMBERED", 3)
    known = Entitlements(PLANS, "free")
    for number in range(3):
        known.of(Document(f"apps/demo/users/u{number}", {"plan": "pro"}, NOW, NOW))
    known.of(None)
    assert [known.last_of(f"apps/demo/users/u{number}") for number in range(3)] == [PLANS["pro"]] * 3
    assert known.last_of("") is None
    known.of(None, "apps/demo/users/new")
    assert known.last_of("apps/demo/users/new") == PLANS["free"]
    assert sum(known.last_of(f"apps/demo/users/u{number}") is not None for number in range(3)) < 3
