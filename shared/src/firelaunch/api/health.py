"""Whether the process is up, and whether it reaches its database."""

from __future__ import annotations

from flask_openapi3 import APIBlueprint
from flask_openapi3.models import Tag
from pydantic import BaseModel

from ..services import Services
from .base import example
from .refusals import OF_THE_STORE, errors_of_anyone

__all__ = ["routes"]


class Up(BaseModel):
    """The process answers."""

    model_config = example({"status": "ok"})
    status: str


class Ready(BaseModel):
    """The process reaches its database."""

    model_config = example({"status": "ready", "app": "my-app", "model": "openai"})
    status: str
    app: str
    model: str


def routes(services: Services, *, documented: bool) -> APIBlueprint:
    """The blueprint."""
    api = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")], doc_ui=documented)

    @api.get("/healthz", responses={200: Up, **errors_of_anyone()}, summary="Is the process up?")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get(
        "/readyz",
        responses={200: Ready, **errors_of_anyone(*OF_THE_STORE)},
        summary="Does the process reach its database?",
    )
    def readyz() -> dict[str, str]:
        services.store.get(services.store.scope.root)
        return {"status": "ready", "app": services.settings.app.id, "model": services.settings.provider}

    return api
