"""Serve Cloud Tasks, Cloud Scheduler and Eventarc, which call with a token of one service account, issued by Google."""

from __future__ import annotations

from datetime import datetime

from flask import request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import Forbidden, TooLarge
from ..events import MAX_EVENT, Malformed, Received, acknowledge, received
from ..identity import bearer
from ..identity.known_callers import known
from ..jobs.schedules import Schedules
from ..services.bundle import Services
from ..worker import Runner
from ..worker.event_jobs import EventJobs
from .base import Body
from .caller_tokens import ServiceTokens

__all__ = ["routes"]


class KindPath(BaseModel):
    """The path's parameter."""

    kind: str = Field(description="The kind of the job.")


class SchedulePath(BaseModel):
    """The path's parameter."""

    name: str = Field(description="The name of the schedule.")


class EventPath(BaseModel):
    """The path's parameter."""

    handler: str = Field(description="The name of the event's handler.")


class Delivered(Body):
    """Which job is due. Whom it is for and what is to be done is read from the job itself."""

    app_id: str = Field(max_length=49)
    job_id: str = Field(max_length=64)


def routes(services: Services, runner: Runner, schedules: Schedules, events: EventJobs) -> APIBlueprint:
    """Return the blueprint. It verifies the token before any route runs, and no OpenAPI document shows it."""
    api = APIBlueprint("internal", __name__, url_prefix="/internal", doc_ui=False)
    app_id = services.settings.app.id
    service = app_id if services.settings.environment.on_cloud_run else ""
    callers = None if services.internal is None else ServiceTokens(services.internal, service)

    @api.before_request
    def verify() -> None:
        if callers is None:
            raise Forbidden
        callers.verify(bearer(request.headers.get("Authorization")))
        known(request.environ, "/internal")

    @api.post("/jobs/<kind>")
    def run(path: KindPath, body: Delivered) -> dict[str, str]:
        if body.app_id != app_id:
            raise Forbidden(reason=f"a job of app {body.app_id!r} was delivered to {app_id!r}")
        # "ran", "later" (queued again), "gone" or "lost": each ends this delivery, so Cloud Tasks must not retry it.
        return {"outcome": runner.run(body.job_id, path.kind)}

    @api.post("/sweep")
    def sweep() -> dict[str, int]:
        return {"delivered": services.jobs.sweep()}

    @api.post("/schedules/<name>")
    def tick(path: SchedulePath) -> dict[str, str | int]:
        called = schedules.tick(path.name, _schedule_time())
        return {"outcome": called.outcome, "tick": called.at.isoformat(), "missed": called.missed}

    @api.post("/events/<handler>")
    def event(path: EventPath) -> tuple[str, int]:
        request.max_content_length = MAX_EVENT
        what: Received | None = None
        try:
            what = _event()
            events.receive(path.handler, what)
        except Exception as error:
            acknowledge(error, what, path.handler)
        return "", 204

    return api


def _schedule_time() -> datetime | None:
    """Return the tick that Cloud Scheduler calls, which is the same each time it tries again; None if it is not said.

    https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget
    """
    try:
        time = datetime.fromisoformat(request.headers.get("X-CloudScheduler-ScheduleTime", ""))
    except ValueError:
        return None
    return time if time.tzinfo else None


def _event() -> Received:
    try:
        body = request.get_data()
    except (TooLarge, RequestEntityTooLarge):
        raise Malformed(f"it is over {MAX_EVENT} bytes") from None
    return received(dict(request.headers), body)
