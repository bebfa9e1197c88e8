"""Report whether the process is up and whether it reaches its database.

No path ends in z: Google's front end answers some of those itself, and they never reach a container
(https://cloud.google.com/run/docs/known-issues#reserved-paths).
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from .base import example, services
from .refusals import OF_THE_STORE, errors_of_anyone
from .routes import Routes

__all__ = ["api"]

View = Callable[[], dict[str, str]]


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


def _deprecated(view: View, successor: str) -> Callable[[], tuple[dict[str, str], dict[str, str]]]:
    """Wrap ``view`` so that its headers mark the path as deprecated and name its successor."""
    return lambda: (view(), {"Deprecation": "true", "Link": f'<{successor}>; rel="successor-version"'})


api = Routes("health", "health", prefix=None, public=True)


@api.get("/live", responses={200: Up, **errors_of_anyone()}, operation_id="getLive", summary="Is the process up?")
def live() -> dict[str, str]:
    """Is the process up?"""
    return {"status": "ok"}


@api.get(
    "/ready",
    responses={200: Ready, **errors_of_anyone(*OF_THE_STORE)},
    operation_id="getReady",
    summary="Does the process reach its database?",
)
def ready() -> dict[str, str]:
    """Does the process reach its database?"""
    services().store.get(services().store.scope.root)
    return {"status": "ready", "app": services().settings.app.id, "model": services().settings.provider}


api.get(
    "/healthz",
    responses={200: Up, **errors_of_anyone()},
    summary="The old name of /live.",
    deprecated=True,
    endpoint="healthz",
    operation_id="getHealthz",
)(_deprecated(live, "/live"))


api.get(
    "/readyz",
    responses={200: Ready, **errors_of_anyone(*OF_THE_STORE)},
    summary="The old name of /ready.",
    deprecated=True,
    endpoint="readyz",
    operation_id="getReadyz",
)(_deprecated(ready, "/ready"))
