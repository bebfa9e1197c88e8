"""Jobs: their owner sees and cancels them; the app's admins drive dead ones on."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field

from ..errors import Forbidden
from ..jobs.base import job_view
from ..services import Services
from .base import PageQuery, Path, blueprint, caller, errors

__all__ = ["routes"]


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
    at: str
    attempt: int
    error: JobError | None = None


class JobAnswer(BaseModel):
    """A job."""

    id: str
    kind: str
    state: str = Field(description='"queued", "running", or one of the ends: "succeeded", "dead", "cancelled".')
    attempts: int
    max_attempts: int
    cancel_requested: bool
    created_at: str
    due_at: str | None = Field(description="When a queued job is tried next.")
    finished_at: str | None
    progress: JobProgress | None
    result: Any
    error: JobError | None = Field(description="Of the latest try that failed.")
    history: list[JobEvent] = Field(description="The latest events, oldest of them first.")


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[JobAnswer]
    next_cursor: str | None


def routes(services: Services, *, documented: bool) -> APIBlueprint:
    """The blueprint."""
    api = blueprint("jobs", "jobs", documented=documented)
    jobs = services.jobs
    _operations(api, services)

    @api.get("/jobs", responses={200: JobPage, **errors()}, summary="List your jobs")
    def index(query: PageQuery) -> dict[str, Any]:
        page = jobs.mine(caller().scope, query.limit, query.cursor)
        return {"items": page.items, "next_cursor": page.next_cursor}

    @api.get("/jobs/<id>", responses={200: JobAnswer, **errors(404)}, summary="Read a job")
    def get(path: Path) -> dict[str, Any]:
        return job_view(jobs.get(caller().scope, path.id))

    @api.post("/jobs/<id>/cancel", responses={200: JobAnswer, **errors(404, 409)}, summary="Cancel a job")
    def cancel(path: Path) -> dict[str, Any]:
        return job_view(jobs.cancel(caller().scope, path.id))

    return api


def _operations(api: APIBlueprint, services: Services) -> None:
    jobs = services.jobs

    @api.get("/ops/jobs", responses={200: JobPage, **errors()}, summary="List the app's dead jobs (admins)")
    def dead(query: PageQuery) -> dict[str, Any]:
        _admins_only()
        page = jobs.dead(query.limit, query.cursor)
        return {"items": page.items, "next_cursor": page.next_cursor}

    @api.post(
        "/ops/jobs/<id>/redrive", responses={200: JobAnswer, **errors(404, 409)}, summary="Try a dead job anew (admins)"
    )
    def redrive(path: Path) -> dict[str, Any]:
        _admins_only()
        return job_view(jobs.redrive(path.id))


def _admins_only() -> None:
    if caller().role != "admin":
        raise Forbidden("Only the app's admins may do this.", reason=f"role {caller().role!r}")
