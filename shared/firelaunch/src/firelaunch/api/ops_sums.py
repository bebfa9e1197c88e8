"""Show an app's admins what it costs, who causes it, and how long it takes: sums by the hour, users and requests.

Nothing here holds what anybody said. Each answer takes at most 200 reads, however many requests there were.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..errors import BadRequest, InvalidId, NotFound
from ..metering.request_records import Ranking, request_view, requests_of_days
from ..metering.sum_reports import MOST_DAYS, MOST_READS, SumReader, SumReport, dearest_users
from ..metering.sums import CALL_PARTS
from .base import Date, Path, QueryModel, Time, admins_only, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_YEARS = range(2000, 2100)
_RECORD_DAYS = 30

_BESIDE = 30
"""Reads left to what a page shows beside the sums of two ranges: the dearest users, and the budget."""


def _plausible(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError("a time from 2000 to 2099")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_plausible)]


class RangeQuery(QueryModel):
    """The range of time. Whole hours count, and whole days where there are more than 48 hours."""

    model_config = ConfigDict(extra="forbid")
    start: Moment | None = Field(default=None, alias="from", description="A time or a day (UTC); else a day before.")
    end: Moment | None = Field(
        default=None, alias="to", description="A time or a day (UTC), which is left out; else now."
    )

    def times(self, now: datetime, most: timedelta) -> tuple[datetime, datetime]:
        """Return the range.

        Raises:
            BadRequest: it is too long, or ends before it begins.
        """
        end = min(self.end or now, now)
        start = self.start or end - timedelta(days=1)
        if not timedelta(0) <= end - start <= most:
            raise BadRequest(f"A range begins before it ends, and now, and has at most {most.days} days.")
        return start, end


class SumsQuery(RangeQuery):
    """The range of time, and its steps."""

    step: Literal["hour", "day"] = Field(default="hour", description="What each point stands for.")
    before: Moment | None = Field(
        default=None, description="Also give the sums from this time to `from`, in `before`, to compare with."
    )


class Quantiles(BaseModel):
    """Milliseconds that 50, 95 and 99% of the measured times did not exceed, within 9%; null where there are none."""

    count: int = Field(description="How many were measured.")
    p50: int | None
    p95: int | None
    p99: int | None


class CallFigures(BaseModel):
    """The figures of model calls."""

    calls: int
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    embedded_tokens: int = Field(description="What an embedding model read; no part of the input tokens.")
    searches: int
    estimated: int = Field(description="Calls whose tokens are a bound.")


class RequestFigures(BaseModel):
    """The figures of requests."""

    requests: int
    counted: int = Field(description="Those that count toward the requests of a plan.")
    cached: int = Field(description="Those that the cache answered.")
    cheaper: int = Field(description="Those over the plan's soft cap, with the cheaper model.")
    searched: int = Field(description="Those that searched documents.")
    empty: int = Field(description="Those whose search found nothing.")
    retries: int = Field(description="Calls of the same model again.")
    fallbacks: int = Field(description="Calls of another model after a failure.")


class Totals(CallFigures, RequestFigures):
    """All figures."""

    failed: int = Field(description="Requests that ended with an error.")
    refused: int = Field(description="Requests that were refused, of all routes; they are none of `requests`.")
    first_token_ms: Quantiles
    total_ms: Quantiles


class Point(Totals):
    """The figures of an hour or a day."""

    at: Time = Field(description="When the hour or the day begins.")


class NamedFigures(CallFigures):
    """The figures of one model, prompt, plan, purpose or end."""

    name: str = Field(description='"-" where there is none.')


class By(BaseModel):
    """The figures of calls, told apart in several ways, dearest first."""

    model: list[NamedFigures]
    prompt: list[NamedFigures] = Field(description="By the prompt's name and version.")
    plan: list[NamedFigures]
    purpose: list[NamedFigures] = Field(description='What the calls were for: "turn", or the purpose in the code.')
    end: list[NamedFigures] = Field(description='By why the answer ended, or "error:" and the code of the error.')


class CallCell(CallFigures):
    """The figures of the calls that have all of these in common."""

    model: str
    prompt: str
    plan: str
    purpose: str
    end: str


class RequestCell(RequestFigures):
    """The figures of the requests that have all of these in common."""

    kind: str = Field(description='"turn", or the purpose in the code.')
    plan: str
    end: str = Field(description='"answered", "stopped", or "error:" and the code of the error.')


class Refusal(BaseModel):
    """The requests that were refused for one reason."""

    code: str = Field(description="The code of the error, as in the answer.")
    requests: int


class Bar(BaseModel):
    """One bar of a histogram."""

    ms: float = Field(description="The time that the bar stands for; the next one's is 1.19 times as long.")
    count: int


class Histogram(Quantiles):
    """The times of one kind of request."""

    kind: str
    measure: str = Field(description="total, first_token, admission, retrieval, model, tools or store.")
    buckets: list[Bar]


_CALL = {
    "calls": 340, "cost_micro_usd": 234_000, "input_tokens": 126_000, "cached_input_tokens": 4_000,
    "cache_write_tokens": 0, "output_tokens": 31_000, "reasoning_tokens": 0, "embedded_tokens": 0, "searches": 0,
    "estimated": 2,
}  # fmt: skip
_REQUEST = {
    "requests": 330, "counted": 330, "cached": 4, "cheaper": 0, "searched": 80, "empty": 3, "retries": 9,
    "fallbacks": 1,
}  # fmt: skip
_TIMES = {"count": 330, "p50": 1_448, "p95": 4_096, "p99": 5_793}
_TOTALS = {**_CALL, **_REQUEST, "failed": 1, "refused": 12, "first_token_ms": _TIMES, "total_ms": _TIMES}
_SUMS = {
    "start": "2026-03-01T00:00:00.000000Z",
    "end": "2026-03-02T00:00:00.000000Z",
    "step": "day",
    "totals": _TOTALS,
    "points": [{"at": "2026-03-01T00:00:00.000000Z", **_TOTALS}],
    "by": {
        part: [{"name": name, **_CALL}]
        for part, name in zip(CALL_PARTS, ("gpt-6.1-terra", "chat@1", "free", "turn", "stop"), strict=True)
    },
    "calls": [
        {"model": "gpt-6.1-terra", "prompt": "chat@1", "plan": "free", "purpose": "turn", "end": "stop", **_CALL}
    ],
    "requests": [{"kind": "turn", "plan": "free", "end": "answered", **_REQUEST}],
    "refusals": [{"code": "rate_limited", "requests": 12}],
    "times": [{"kind": "turn", "measure": "total", **_TIMES, "buckets": [{"ms": 1448.2, "count": 330}]}],
    "missing": [],
}


class RangeSums(BaseModel):
    """The costs and times of a range. docs/metering.md says what each figure means."""

    model_config = example(_SUMS)
    start: Time
    end: Time
    step: str
    totals: Totals
    points: list[Point]
    by: By
    calls: list[CallCell]
    requests: list[RequestCell]
    refusals: list[Refusal] = Field(description="Of all routes, most first.")
    times: list[Histogram]
    missing: list[Date] = Field(description="Days that the nightly job has not summed up, and that are left out.")


class OpsSums(RangeSums):
    """The costs and times of a range."""

    model_config = example({**_SUMS, "before": None})
    before: RangeSums | None = Field(
        default=None, description="Those before; null if none were asked for, or if they took too many reads."
    )


class UsersQuery(QueryModel):
    """The day or month to report, and the number of users."""

    model_config = ConfigDict(extra="forbid")
    period: str | None = Field(
        default=None,
        pattern=r"^\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?$",
        description="A day, as 2026-03-01, or a month, as 2026-03 (UTC). The default is today.",
    )
    limit: int = Field(default=20, ge=1, le=100, description="Users at most.")


_USER = {
    "uid": "ada",
    "cost_micro_usd": 23_400,
    "requests": 34,
    "calls": 36,
    "input_tokens": 12_600,
    "cached_input_tokens": 400,
    "output_tokens": 3_100,
}


class OpsUser(BaseModel):
    """The figures of one user."""

    model_config = example(_USER)
    uid: str
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    requests: int
    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


class OpsUsers(BaseModel):
    """Users, dearest first."""

    model_config = example({"period": "2026-03-01", "items": [_USER]})
    period: str
    items: list[OpsUser]


class RequestsQuery(RangeQuery):
    """The order and the range of requests."""

    order: Ranking = Field(default="latest", description='"failed" lists those that failed, latest first.')
    limit: int = Field(default=20, ge=1, le=100, description="Requests at most.")


_RECORD = {
    "id": "r0123456789abcdef0123456789abcdef",
    "uid": "ada",
    "kind": "turn",
    "group": None,
    "writer": None,
    "chat_id": "c0123456789abcdef",
    "state": "settled",
    "outcome": "answered",
    "finish": "stop",
    "error": None,
    "day": "2026-03-01",
    "plan": "free",
    "calls": 1,
    "usage": {
        "model": "gpt-6.1-terra",
        "input_tokens": 420,
        "cached_input_tokens": 0,
        "output_tokens": 60,
        "estimated": False,
        "cost_micro_usd": 720,
        "cheaper_model": False,
        "cached": False,
    },
    "retrieval": {"mode": "hybrid", "note": None, "passages": 4, "cited": 1, "removed": 0, "ms": 31},
    "first_token_ms": 480,
    "total_ms": 2_100,
    "admission_ms": 24,
    "store_ms": 20,
    "tools_ms": 0,
    "log_id": "req_0123456789abcdef0123",
    "trace": "0123456789abcdef0123456789abcdef",
    "created_at": "2026-03-01T09:30:00.000000Z",
    "settled_at": "2026-03-01T09:30:02.100000Z",
}


class OpsRequest(BaseModel):
    """One request, without contents. docs/metering.md says what each field means."""

    model_config = example(_RECORD)
    id: str
    uid: str | None = Field(description="Who paid.")
    group: str | None = Field(description="The group in whose chat it was.")
    writer: str | None = Field(description="With `group`: the member who sent it.")
    kind: str
    chat_id: str | None
    state: str
    outcome: str | None
    finish: str | None
    error: str | None
    day: Date
    plan: str
    calls: int | None
    usage: dict[str, Any] | None
    retrieval: dict[str, Any] | None
    first_token_ms: int | None
    total_ms: int | None
    admission_ms: int | None
    store_ms: int | None
    tools_ms: int | None
    log_id: str | None = Field(description="The `request_id` of the log's lines on it.")
    trace: str | None = Field(description="Its trace, for Cloud Logging and Cloud Trace.")
    created_at: Time
    settled_at: Time | None


class OpsRequests(BaseModel):
    """Requests."""

    model_config = example({"items": [_RECORD]})
    items: list[OpsRequest]


api = Routes("ops_sums", "ops", prefix="/v1")


@api.get(
    "/ops/sums",
    rate="ops",
    responses={200: OpsSums, **errors(BadRequest)},
    operation_id="getSums",
    summary="Show costs and times of a range (admins)",
)
def sums(query: SumsQuery) -> dict[str, Any]:
    """Show costs and times of a range (admins)."""
    admins_only()
    own = services()
    now = own.clock().astimezone(UTC)
    start, end = query.times(now, timedelta(days=MOST_DAYS))
    most = MOST_READS if query.before is None else MOST_READS - _BESIDE
    report = SumReader(own.store, own.store.scope, now, most).report(start, end, query.step)
    view = _view(report, query.step)
    if query.before is not None:
        if not timedelta(0) < start - query.before <= timedelta(days=MOST_DAYS):
            raise BadRequest(f"before: 1 to {MOST_DAYS} days before `from`.")
        reader = SumReader(own.store, own.store.scope, now, most - report.reads)
        earlier = reader.report(query.before, start, query.step)
        view["before"] = None if earlier.missing else _view(earlier, query.step)
    return view


def _view(report: SumReport, step: str) -> dict[str, Any]:
    return {
        "start": report.window.start.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "end": report.window.end.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "step": step,
        "totals": report.totals(),
        "points": [{"at": _begins(at), **point} for at, point in report.points.items()],
        "by": {part: report.by(part) for part in CALL_PARTS},
        "calls": report.calls(),
        "requests": report.requests(),
        "refusals": report.refusals(),
        "times": report.times(),
        "missing": report.missing,
    }


def _begins(at: str) -> str:
    """Return when an hour or a day begins, by its name."""
    return f"{at if 'T' in at else f'{at}T00'}:00:00.000000Z"


@api.get(
    "/ops/users",
    rate="ops",
    responses={200: OpsUsers, **errors()},
    operation_id="listDearestUsers",
    summary="Who costs most? (admins)",
)
def users(query: UsersQuery) -> dict[str, Any]:
    """Who costs most? (admins)."""
    admins_only()
    own = services()
    period = query.period or own.metering.today()
    return {"period": period, "items": dearest_users(own.store, own.store.scope, period, query.limit)}


@api.get(
    "/ops/requests",
    rate="ops",
    responses={200: OpsRequests, **errors(BadRequest)},
    operation_id="listRequests",
    summary="List the slowest, dearest, failed or latest requests (admins)",
    description="Whole days count, by the day whose budget paid. Records are kept for 30 days.",
)
def requests(query: RequestsQuery) -> dict[str, Any]:
    """List the slowest, dearest, failed or latest requests (admins)."""
    admins_only()
    own = services()
    start, end = query.times(own.clock().astimezone(UTC), timedelta(days=_RECORD_DAYS - 1))
    days = [
        (start.date() + timedelta(days=number)).isoformat() for number in range((end.date() - start.date()).days + 1)
    ]
    return {"items": requests_of_days(own.store, own.store.scope, days, query.order, query.limit)}


@api.get(
    "/ops/requests/<id>",
    rate="ops",
    responses={200: OpsRequest, **errors(InvalidId, NotFound)},
    operation_id="getRequest",
    summary="Read a request's record (admins)",
    description="By the `request_id` of an answer, or by that of an error, a log line or the header `X-Request-Id`; "
    "if that HTTP request has several records, the first.",
)
def request(path: Path) -> dict[str, Any]:
    """Read a request's record (admins)."""
    admins_only()
    store = services().store
    return request_view(store, store.scope, path.id)
