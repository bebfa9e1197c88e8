"""Serve the caller's identity, plan and usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..metering.reservations import Day
from .base import Date, caller, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


_ME: dict[str, Any] = {
    "app_id": "my-app",
    "uid": "ada",
    "role": "member",
    "email": None,
    "plan": "free",
    "features": [],
}


class Me(BaseModel):
    """The caller, as their token and the app's data have it."""

    model_config = example(
        {"app_id": "my-app", "uid": "ada", "role": "member", "email": None, "plan": "free", "features": []}
    )
    app_id: str
    uid: str
    role: str
    email: str | None
    plan: str
    features: list[str] = Field(description="What the plan switches on, by the app's own names.")


_DAY = {
    "day": "2026-03-01",
    "requests": 3,
    "input_tokens": 1260,
    "cached_input_tokens": 0,
    "output_tokens": 310,
    "cost_micro_usd": 2340,
    "reserved_micro_usd": 0,
    "expired_requests": 0,
    "expired_micro_usd": 0,
}
_LIMIT = {"requests_per_minute": 20, "daily_micro_usd": 500_000, "cheaper_model_at_percent": 80}


class DaysQuery(BaseModel):
    """How far back."""

    model_config = ConfigDict(extra="forbid")
    days: int = Field(default=1, ge=1, le=31, description="Days to report, today (UTC) included.")


class DayUsage(BaseModel):
    """One day (UTC)."""

    model_config = example(_DAY)
    day: Date
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    reserved_micro_usd: int = Field(description="Held for requests that are running.")
    expired_requests: int = Field(description="Requests that never settled, as after a crash.")
    expired_micro_usd: int = Field(description="What those may have cost at most. They are not billed.")


class Limit(BaseModel):
    """What the plan allows."""

    model_config = example(_LIMIT)
    requests_per_minute: int
    daily_micro_usd: int
    cheaper_model_at_percent: int


class UsageReport(DayUsage):
    """Today, the plan's limits, and the days before, latest first."""

    model_config = example({**_DAY, "plan": "free", "limit": _LIMIT, "days": []})
    plan: str
    limit: Limit
    days: list[DayUsage]


api = Routes("account", "account", prefix="/v1")


@api.get("/me", responses={200: Me, **errors()}, operation_id="getMe", summary="Who am I?")
def me() -> dict[str, Any]:
    """Who am I?"""
    user = caller()
    entitlements = services().metering.entitlements.of(services().store.get(user.scope.root))
    identity = {"app_id": user.app_id, "uid": user.uid, "role": user.role, "email": user.email}
    return {**identity, "plan": entitlements.plan, "features": sorted(entitlements.features)}


@api.get("/usage", responses={200: UsageReport, **errors()}, operation_id="getUsage", summary="What have I used?")
def usage(query: DaysQuery) -> dict[str, Any]:
    """What have I used?"""
    scope, today = caller().scope, date.fromisoformat(services().metering.today())
    days = [(today - timedelta(days=back)).isoformat() for back in range(query.days)]
    # One read for the user and all days.
    user, *documents = services().store.get_many([scope.root, *(scope.usage(day) for day in days)])
    plan = services().metering.plan_of(user)
    limit = services().metering.plans[plan]
    views = [_view(day, Day.of(document)) for day, document in zip(days, documents, strict=True)]
    return {
        **views[0],
        "plan": plan,
        "limit": {
            "requests_per_minute": limit.requests_per_minute,
            "daily_micro_usd": limit.daily_usd,
            "cheaper_model_at_percent": limit.cheaper_model_at_percent,
        },
        "days": views[1:],
    }


def _view(day: str, usage: Day) -> dict[str, Any]:
    now = services().clock()
    expired = usage.reservations(now, expired=True)
    counters = ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micro_usd")
    return {
        "day": day,
        **{name: usage.number(name) for name in counters},
        "reserved_micro_usd": sum(usage.reservations(now, expired=False).values()),
        "expired_requests": usage.number("expired_requests") + len(expired),
        "expired_micro_usd": usage.number("expired_micro_usd") + sum(expired.values()),
    }
