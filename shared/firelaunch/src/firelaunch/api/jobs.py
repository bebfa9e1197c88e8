"""Show jobs to their owner, who may cancel them, and let admins retry dead jobs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ..errors import Conflict, Forbidden, InvalidCursor, InvalidId, NotFound, PreconditionFailed
from ..jobs.base import Job, job_view
from ..worker.tasks.export import JOBS_OF_EXPORTS
from .base import GroupQuery, PageQuery, Path, Time, admins_only, caller, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


_OF_A_JOB = (InvalidId, NotFound)
_IN_THE_WAY = (Conflict, PreconditionFailed)

_RUNNING = {
    "id": "j0123456789abcdef0123456789abcdef",
    "kind": "batch",
    "state": "running",
    "attempts": 1,
    "max_attempts": 20,
    "cancel_requested": False,
    "created_at": "2026-03-01T09:30:00.000Z",
    "due_at": None,
    "finished_at": None,
    "progress": {"done": 3, "total": 10, "note": ""},
    "result": None,
    "error": None,
    "history": [
        {"event": "queued", "at": "2026-03-01T09:30:00.000Z", "attempt": 0},
        {"event": "started", "at": "2026-03-01T09:30:01.000Z", "attempt": 1},
    ],
}


class JobProgress(BaseModel):
    """How far a job has come."""

    done: int
    total: int | None
    note: str


class JobError(BaseModel):
    """Why a try failed."""

    code: str
    message: str
    type: str | None = Field(default=None, description="The error's class, for the app's developers.")


class JobEvent(BaseModel):
    """Something that happened to a job."""

    event: str = Field(description="queued, started, failed, released, worker_lost, redriven, or an end's state.")
    at: Time
    attempt: int
    error: JobError | None = None


class JobAnswer(BaseModel):
    """A job."""

    model_config = example(_RUNNING)
    id: str
    kind: str
    state: str = Field(description='"queued", "running", or one of the ends: "succeeded", "dead", "cancelled".')
    attempts: int
    max_attempts: int
    cancel_requested: bool
    created_at: Time
    due_at: Time | None = Field(description="When a queued job is tried next.")
    finished_at: Time | None
    progress: JobProgress | None
    result: Any
    error: JobError | None = Field(description="Of the latest try that failed.")
    history: list[JobEvent] = Field(description="The latest events, oldest of them first.")


class JobPage(BaseModel):
    """Jobs, newest first."""

    model_config = example({"items": [_RUNNING], "next_cursor": None})
    items: list[JobAnswer]
    next_cursor: str | None


api = Routes("jobs", "jobs", prefix="/v1", guests=True)


@api.get("/jobs", responses={200: JobPage, **errors(InvalidCursor)}, operation_id="listJobs", summary="List your jobs")
def index(query: PageQuery) -> dict[str, Any]:
    """List your jobs."""
    page = services().jobs.mine(caller().scope, query.limit, query.cursor)
    return {"items": page.items, "next_cursor": page.next_cursor}


@api.get("/jobs/<id>", responses={200: JobAnswer, **errors(*_OF_A_JOB)}, operation_id="getJob", summary="Read a job")
def get(path: Path, query: GroupQuery) -> dict[str, Any]:
    """Read a job."""
    owner = _owner(query.group)
    return job_view(_shown(owner, services().jobs.get(owner, path.id)))


@api.post(
    "/jobs/<id>/cancel",
    rate="changes",
    responses={200: JobAnswer, **errors(*_OF_A_JOB, *_IN_THE_WAY, Forbidden)},
    operation_id="cancelJob",
    summary="Cancel a job",
)
def cancel(path: Path, query: GroupQuery) -> dict[str, Any]:
    """Cancel a job."""
    owner = _owner(query.group, writes=True)
    if owner.group is not None:
        _shown(owner, services().jobs.get(owner, path.id))
    return job_view(services().jobs.cancel(owner, path.id))


def _shown(owner: Any, job: Job) -> Job:
    """Return a job, if the caller may see it: those of a group's exports are for its owners.

    Raises:
        NotFound: the caller is none.
    """
    if owner.group is not None and job.kind in JOBS_OF_EXPORTS:
        from ..services.groups import check_owner  # an app without groups starts without it

        try:
            check_owner(services().store, owner, caller().uid)
        except Forbidden:
            raise NotFound from None
    return job


def _owner(group: str | None, *, writes: bool = False) -> Any:
    """Return the scope of the jobs that a request is about: the caller's, or that of a group of theirs."""
    user = caller()
    if not group:
        return user.scope
    from ..services.groups import check_member  # an app without groups starts without it

    place = user.scope.of_group(group)
    check_member(services().store, place, user.uid, writes=writes)
    return place


@api.get(
    "/ops/jobs",
    rate="ops",
    guests=False,
    responses={200: JobPage, **errors(InvalidCursor)},
    operation_id="listDeadJobs",
    summary="List the app's dead jobs (admins)",
)
def dead(query: PageQuery) -> dict[str, Any]:
    """List the app's dead jobs (admins)."""
    admins_only()
    page = services().jobs.dead(query.limit, query.cursor)
    return {"items": page.items, "next_cursor": page.next_cursor}


@api.get(
    "/ops/jobs/<id>",
    rate="ops",
    guests=False,
    responses={200: JobAnswer, **errors(*_OF_A_JOB)},
    operation_id="getAppJob",
    summary="Read a job that is the app's and no user's (admins)",
)
def read(path: Path) -> dict[str, Any]:
    """Read a job that is the app's and no user's (admins)."""
    admins_only()
    return job_view(services().jobs.get(services().store.scope, path.id))


@api.post(
    "/ops/jobs/<id>/redrive",
    rate="ops",
    guests=False,
    responses={200: JobAnswer, **errors(*_OF_A_JOB, *_IN_THE_WAY)},
    operation_id="redriveJob",
    summary="Try a dead job anew (admins)",
)
def redrive(path: Path) -> dict[str, Any]:
    """Try a dead job anew (admins)."""
    admins_only()
    return job_view(services().jobs.redrive(path.id))
