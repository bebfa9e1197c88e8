"""Show an app's admins the usage of all users as sums and the model calls without contents, and rebuild the index."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import AlreadyExists, InvalidCursor, InvalidId, JobsUnavailable, NotFound, TooLarge
from ..jobs.base import job_view
from ..jobs.schedules import schedule_views
from ..metering.call_records import calls_of_request, calls_of_user
from ..metering.pool import POTS
from ..metering.request_records import request_records
from ..worker.tasks.reembed import REEMBED, Reembed
from ..worker.tasks.rollup import app_usage
from .base import Date, PageQuery, Path, QueryModel, Time, admins_only, example, services
from .billing import UserPath
from .jobs import JobAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_DAY = {
    "day": "2026-03-01",
    "users": 12,
    "requests": 340,
    "input_tokens": 126_000,
    "cached_input_tokens": 4_000,
    "output_tokens": 31_000,
    "cost_micro_usd": 234_000,
    "expired_requests": 1,
    "expired_micro_usd": 420,
    "updated_at": "2026-03-02T00:30:00Z",
}


class OpsDaysQuery(QueryModel):
    """The number of days to report."""

    model_config = ConfigDict(extra="forbid")
    days: int = Field(default=7, ge=1, le=92, description="Days to report, today (UTC) included.")


class OpsDay(BaseModel):
    """One day (UTC) of all users together."""

    model_config = example(_DAY)
    day: Date
    users: int = Field(description="Users who used anything.")
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    expired_requests: int = Field(description="Requests that never settled, as after a crash.")
    expired_micro_usd: int = Field(description="What those had reserved.")
    updated_at: Time | None = Field(description="When the nightly job summed it up; null where it did not yet.")


class OpsUsage(BaseModel):
    """The days, latest first."""

    model_config = example({"items": [_DAY]})
    items: list[OpsDay]


_CALL = {
    "id": "r0123456789abcdef0123456789abcdef-89abcdef-1",
    "uid": "ada",
    "request": "r0123456789abcdef0123456789abcdef",
    "step": 1,
    "purpose": "turn",
    "model": "gpt-6.1-terra",
    "prompt": "chat@1",
    "input_tokens": 420,
    "cached_input_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 60,
    "reasoning_tokens": 0,
    "searches": 0,
    "estimated": False,
    "cost_micro_usd": 720,
    "finish": "stop",
    "error": None,
    "started_at": "2026-03-01T09:30:00.000000Z",
    "first_token_at": "2026-03-01T09:30:00.400000Z",
    "finished_at": "2026-03-01T09:30:02.000000Z",
}


class OpsCall(BaseModel):
    """One model call. docs/metering.md says what each field means."""

    model_config = example(_CALL)
    id: str
    uid: str | None
    request: str
    step: int
    purpose: str
    model: str
    prompt: str | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    searches: int = 0
    estimated: bool
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    finish: str | None
    error: str | None
    started_at: Time
    first_token_at: Time | None
    finished_at: Time


class OpsCallPage(BaseModel):
    """Model calls."""

    model_config = example({"items": [_CALL], "next_cursor": None})
    items: list[OpsCall]
    next_cursor: str | None


_SCHEDULE = {
    "name": "weekly_summary",
    "cron": "0 7 * * 1",
    "zone": "Europe/Berlin",
    "each": "user",
    "next_tick": "2026-03-09T06:00:00Z",
    "last_tick": "2026-03-02T06:00:00Z",
    "job": "j0123456789abcdef0123456789abcdef",
    "enqueued": 8,
    "missed": 1,
    "missed_ticks": ["2026-02-23T06:00:00Z"],
    "skipped": 0,
    "skipped_ticks": [],
}


class OpsSchedule(BaseModel):
    """A schedule of the app, and its ticks."""

    model_config = example(_SCHEDULE)
    name: str = Field(description="Of the schedule and of its job.")
    cron: str
    zone: str
    each: str = Field(description='"app" or "user".')
    next_tick: Time
    last_tick: Time | None = Field(description="The latest tick that was called; null before the first.")
    job: str | None = Field(description="The app's job of the latest tick: it enqueues a job for each user, or is it.")
    enqueued: int = Field(description="Ticks whose job was enqueued.")
    missed: int = Field(description="Ticks that nobody called, as while a laptop was asleep.")
    missed_ticks: list[Time] = Field(description="The latest of them.")
    skipped: int = Field(description="Ticks that came while the job of the tick before was still running.")
    skipped_ticks: list[Time] = Field(description="The latest of them.")


class OpsSchedules(BaseModel):
    """The app's schedules."""

    model_config = example({"items": [_SCHEDULE]})
    items: list[OpsSchedule]


_POT = {
    "ceiling_micro_usd": 20_000_000,
    "spent_micro_usd": 11_200_000,
    "given_up_micro_usd": 0,
    "leased_micro_usd": 300_000,
    "fraction": 0.575,
    "resets_at": "2026-03-02T00:00:00Z",
}


class OpsPot(BaseModel):
    """A ceiling, and what is used of it. docs/metering.md says how."""

    model_config = example(_POT)
    ceiling_micro_usd: int = Field(description="Millionths of a dollar.")
    spent_micro_usd: int = Field(description="What the processes have reported.")
    given_up_micro_usd: int = Field(description="What may have been spent by processes that died.")
    leased_micro_usd: int = Field(description="What processes may spend at the moment, or have not reported yet.")
    fraction: float = Field(description="The share of the ceiling that is spent, given up or leased.")
    resets_at: Time


class OpsBudget(BaseModel):
    """The app's budget; null for each ceiling that the settings don't have."""

    model_config = example({"day": _POT, "month": None, "guests": None})
    day: OpsPot | None
    month: OpsPot | None
    guests: OpsPot | None = Field(description="That of all guests together, in the day.")


api = Routes("ops", "ops", prefix="/v1")


@api.get(
    "/ops/budget",
    rate="ops",
    responses={200: OpsBudget, **errors()},
    operation_id="getAppBudget",
    summary="Show how much of the app's budget is used (admins)",
)
def budget() -> dict[str, Any]:
    """Show how much of the app's budget is used (admins)."""
    admins_only()
    metering = services().metering
    shown: dict[str, Any] = dict.fromkeys(POTS)
    return shown if metering.ceiling is None else shown | metering.ceiling.view(metering.today())


@api.get(
    "/ops/schedules",
    rate="ops",
    responses={200: OpsSchedules, **errors()},
    operation_id="listSchedules",
    summary="List the app's schedules (admins)",
)
def schedules() -> dict[str, Any]:
    """List the app's schedules (admins)."""
    admins_only()
    own = services()
    return {"items": schedule_views(own.store, own.settings.schedules, own.clock())}


@api.get(
    "/ops/usage",
    rate="ops",
    responses={200: OpsUsage, **errors()},
    operation_id="getAppUsage",
    summary="What has everybody used? (admins)",
)
def usage(query: OpsDaysQuery) -> dict[str, Any]:
    """What has everybody used? (admins)."""
    admins_only()
    return {"items": app_usage(services(), query.days)}


@api.get(
    "/ops/users/<uid>/calls",
    rate="ops",
    responses={200: OpsCallPage, **errors(InvalidCursor, InvalidId)},
    operation_id="listUserCalls",
    summary="List a user's model calls (admins)",
)
def calls_of(path: UserPath, query: PageQuery) -> dict[str, Any]:
    """List a user's model calls (admins)."""
    admins_only()
    store = services().store
    page = calls_of_user(store, store.scope.of(path.uid), query.limit, query.cursor)
    return {"items": page.items, "next_cursor": page.next_cursor}


@api.get(
    "/ops/requests/<id>/calls",
    rate="ops",
    responses={200: OpsCallPage, **errors(InvalidId, NotFound)},
    operation_id="listRequestCalls",
    summary="List a request's model calls (admins)",
    description="By the `request_id` of an answer, or by that of an error, a log line or the header `X-Request-Id`.",
)
def calls_in(path: Path) -> dict[str, Any]:
    """List a request's model calls (admins)."""
    admins_only()
    store = services().store
    records = request_records(store, store.scope, path.id)
    calls = [call for record in records for call in calls_of_request(store, store.scope, record.id)]
    return {"items": calls, "next_cursor": None}


@api.post(
    "/ops/reembed",
    rate="ops",
    responses={202: JobAnswer, **errors(TooLarge, AlreadyExists, NotFound, JobsUnavailable)},
    operation_id="startReembedding",
    summary="Index all documents anew, by the settings of today (role admin)",
    description="The job is the app's, and what it costs is in no user's budget; `GET /v1/ops/jobs/{id}` has how "
    "far it is.",
)
def reembed() -> tuple[dict[str, Any], int]:
    """Index all documents anew, by the settings of today (role admin)."""
    admins_only()
    job = Reembed(version=services().documents.versions.configured.id)
    return job_view(services().jobs.enqueue(services().store.scope, REEMBED, job)), 202
