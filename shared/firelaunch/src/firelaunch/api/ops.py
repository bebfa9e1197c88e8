"""Show an app's admins the usage of all users as sums, without contents, and let them rebuild the index."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import AlreadyExists, JobsUnavailable, NotFound, TooLarge
from ..jobs.base import job_view
from ..worker.tasks.reembed import REEMBED, Reembed
from ..worker.tasks.rollup import rollup_view
from .base import admins_only, example, services
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


class OpsDaysQuery(BaseModel):
    """How far back."""

    model_config = ConfigDict(extra="forbid")
    days: int = Field(default=7, ge=1, le=92, description="Days to report, today (UTC) included.")


class OpsDay(BaseModel):
    """One day (UTC) of all users together."""

    model_config = example(_DAY)
    day: str
    users: int = Field(description="Users who used anything.")
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    expired_requests: int = Field(description="Requests that never settled, as after a crash.")
    expired_micro_usd: int = Field(description="What those had reserved.")
    updated_at: str | None = Field(description="When it was summed up last; null where it was not yet.")


class OpsUsage(BaseModel):
    """The days, latest first."""

    model_config = example({"items": [_DAY]})
    items: list[OpsDay]


api = Routes("ops", "ops", prefix="/v1")


@api.get("/ops/usage", responses={200: OpsUsage, **errors()}, summary="What has everybody used? (admins)")
def usage(query: OpsDaysQuery) -> dict[str, Any]:
    """What has everybody used? (admins)."""
    admins_only()
    today = date.fromisoformat(services().metering.today())
    days = [(today - timedelta(days=back)).isoformat() for back in range(query.days)]
    documents = services().store.get_many([services().store.scope.rollup(day) for day in days])
    return {"items": [rollup_view(day, document) for day, document in zip(days, documents, strict=True)]}


@api.post(
    "/ops/reembed",
    responses={202: JobAnswer, **errors(TooLarge, AlreadyExists, NotFound, JobsUnavailable)},
    summary="Index all documents anew, by the settings of today (role admin)",
    description="The job is the app's, and what it costs is in no user's budget; `GET /v1/ops/jobs/{id}` has how "
    "far it is.",
)
def reembed() -> tuple[dict[str, Any], int]:
    """Index all documents anew, by the settings of today (role admin)."""
    admins_only()
    job = Reembed(version=services().documents.versions.wanted.id)
    return job_view(services().jobs.enqueue(services().store.scope, REEMBED, job)), 202
