"""Serve the caller's identity, plan and usage."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import BadRequest, Conflict, InvalidId, JobsUnavailable, NotFound, RateLimited, TooLarge, Unauthenticated
from ..jobs.base import job_view
from ..metering.reservations import Day
from ..worker.tasks.erase import ERASE, Erase
from ..worker.tasks.merge import start_merge
from .base import Body, Date, OptionalGroup, QueryModel, caller, example, services
from .jobs import JobAnswer
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
    "carried_micro_usd": 0,
    "reserved_micro_usd": 0,
    "expired_requests": 0,
    "expired_micro_usd": 0,
}
_LIMIT = {"requests_per_minute": 20, "daily_micro_usd": 500_000, "cheaper_model_at_percent": 80}


class DaysQuery(QueryModel):
    """The number of days to report."""

    model_config = ConfigDict(extra="forbid")
    days: int = Field(default=1, ge=1, le=31, description="Days to report, today (UTC) included.")
    group: OptionalGroup = Field(default=None, description="What this group has used, for its members.")


class DayUsage(BaseModel):
    """One day (UTC)."""

    model_config = example(_DAY)
    day: Date
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    carried_micro_usd: int = Field(
        description="Spent before the data was erased that day. It counts toward the budget."
    )
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


class GuestMerge(Body):
    """The guest to take over."""

    model_config = example({"guest_token": "eyJhbGciOiJSUzI1NiJ9..."})
    guest_token: str = Field(min_length=1, max_length=8192, description="The guest's ID token, which must still hold.")


api = Routes("account", "account", prefix="/v1", guests=True)


@api.get("/me", responses={200: Me, **errors()}, operation_id="getMe", summary="Who am I?")
def me() -> dict[str, Any]:
    """Who am I?"""
    user = caller()
    entitlements = services().metering.entitlements.of(services().store.get(user.scope.root), user.scope.root)
    identity = {"app_id": user.app_id, "uid": user.uid, "role": user.role, "email": user.email}
    return {**identity, "plan": entitlements.plan, "features": sorted(entitlements.features)}


@api.delete(
    "/me",
    rate="account",
    responses={202: None, **errors(NotFound, JobsUnavailable)},
    operation_id="eraseMe",
    summary="Erase all that you have here",
    description="A job of the app removes all of the caller's data in this app, and cancels their subscriptions; it "
    "cannot be undone. The account in Firebase Authentication belongs to all apps of the project: the client deletes "
    "it afterwards.",
)
def erase() -> tuple[str, int]:
    """Erase all that you have here."""
    services().jobs.enqueue(services().store.scope, ERASE, Erase(uid=caller().uid))
    return "", 202


@api.post(
    "/me/merge",
    rate="account",
    guests=False,
    responses={202: JobAnswer, **errors(TooLarge, Conflict, RateLimited, JobsUnavailable, NotFound)},
    operation_id="mergeGuest",
    summary="Take over what you had as a guest",
    description="For a user who signed in to an account that was there before. A job moves the guest's chats, "
    "documents and data to the caller; what the guest has spent today counts as the caller's. Then the guest is "
    "erased, and its tokens hold no more. A repetition gives the same job.",
)
def merge(body: GuestMerge) -> tuple[dict[str, Any], int]:
    """Take over what you had as a guest."""
    try:
        guest = services().identity.verify(body.guest_token)
    except Unauthenticated as error:  # a 401 would say that the caller's own token doesn't hold
        raise BadRequest("guest_token: it is not valid, or not any more.", reason=error.reason) from None
    return job_view(start_merge(services(), caller(), guest)), 202


@api.get(
    "/usage",
    responses={200: UsageReport, **errors(InvalidId, NotFound)},
    operation_id="getUsage",
    summary="What have I used?",
    description="Or, with `group`, what has that group used? Its day pays for its documents, and for its chats where "
    "`groups.chats_paid_by` says so.",
)
def usage(query: DaysQuery) -> dict[str, Any]:
    """What have I used?"""
    scope, today = caller().scope, date.fromisoformat(services().metering.today())
    store = services().store
    if query.group:
        from ..services.groups import guard_of  # an app without groups starts without it

        scope = scope.of_group(query.group)
        store = store.within(scope, guard_of(scope, caller().uid))
    days = [(today - timedelta(days=back)).isoformat() for back in range(query.days)]
    # One read for the user and all days.
    user, erasure, *documents = store.get_many([scope.root, scope.erasure(), *(scope.usage(day) for day in days)])
    plan = services().metering.plan_of(user)
    limit = services().metering.plans[plan]
    views = [_view(day, Day.of(document, erasure, day)) for day, document in zip(days, documents, strict=True)]
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
        "carried_micro_usd": usage.carried_micro_usd,
        "reserved_micro_usd": sum(usage.reservations(now, expired=False).values()),
        "expired_requests": usage.number("expired_requests") + len(expired),
        "expired_micro_usd": usage.number("expired_micro_usd") + sum(expired.values()),
    }
