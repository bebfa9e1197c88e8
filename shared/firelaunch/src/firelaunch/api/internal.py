"""Serve Cloud Tasks and Cloud Scheduler, which call with a token that Google issued to one service account."""

from __future__ import annotations

from flask import request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field

from ..errors import Forbidden
from ..identity import bearer
from ..services.bundle import Services
from ..worker import Runner
from .base import Body

__all__ = ["routes"]


class KindPath(BaseModel):
    """The path's parameter."""

    kind: str = Field(description="The kind of the job.")


class Delivered(Body):
    """Which job is due. Whom it is for and what is to be done is read from the job itself."""

    app_id: str = Field(max_length=49)
    job_id: str = Field(max_length=64)


def routes(services: Services, runner: Runner) -> APIBlueprint:
    """Return the blueprint. It verifies the token before any route runs, and no OpenAPI document shows it."""
    api = APIBlueprint("internal", __name__, url_prefix="/internal", doc_ui=False)
    callers, app_id = services.internal, services.settings.app.id

    @api.before_request
    def verify() -> None:
        if callers is None:
            raise Forbidden
        callers.verify(bearer(request.headers.get("Authorization")))

    @api.post("/jobs/<kind>")
    def run(path: KindPath, body: Delivered) -> dict[str, str]:
        if body.app_id != app_id:
            raise Forbidden(reason=f"a job of app {body.app_id!r} was delivered to {app_id!r}")
        # "ran", "later" (queued again), "gone" or "lost": each ends this delivery, so Cloud Tasks must not retry it.
        return {"outcome": runner.run(body.job_id, path.kind)}

    @api.post("/sweep")
    def sweep() -> dict[str, int]:
        return {"delivered": services.jobs.sweep()}

    return api
