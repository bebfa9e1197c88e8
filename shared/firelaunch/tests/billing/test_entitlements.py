"""Plans from facts, and nothing but facts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from firelaunch.billing.entitlements import Entitlements
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
