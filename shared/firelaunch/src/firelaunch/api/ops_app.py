"""Tell an app's admins about the app and its members. The membership function alone changes members."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC
from typing import Any

from pydantic import BaseModel, Field

from ..errors import FirelaunchError, InvalidCursor
from ..paging import iso_time, page_after, page_cursor
from ..store.base import Order, Query
from ..worker.tasks.rollup import ROLLUP, Rollup
from .base import PageQuery, Time, admins_only, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_MEMBER = {
    "uid": "ada",
    "role": "member",
    "joined": "2026-03-01T09:30:00.000000Z",
    "updated_at": "2026-03-01T09:30:00.000000Z",
}
_LATEST = (Order("updated_at", descending=True),)


class OpsApp(BaseModel):
    """The facts about the app that the page shows."""

    model_config = example(
        {
            "app_id": "my-app",
            "name": "My app",
            "development": False,
            "project": "my-project",
            "membership_url": "https://firelaunch-membership-1234567890.europe-west1.run.app",
            "roles": ["viewer", "member", "editor", "admin"],
            "plans": ["free", "pro"],
            "job": None,
        }
    )
    app_id: str
    name: str
    development: bool = Field(description="Whether the app runs on a laptop.")
    project: str = Field(description="The Google Cloud project; empty if there is none.")
    membership_url: str = Field(description="Address of the membership function; empty if the settings don't name it.")
    roles: list[str] = Field(description="The app's roles, the least first.")
    plans: list[str]
    job: str | None = Field(
        description="On a laptop, where nobody calls the nightly job: the app's job that sums up the days so far."
    )


class OpsMember(BaseModel):
    """A member of the app."""

    model_config = example(_MEMBER)
    uid: str
    role: str
    joined: Time | None = Field(description="When they joined; null if that is not known.")
    updated_at: Time | None = Field(description="When they joined, or their role last changed.")


class OpsMemberPage(BaseModel):
    """Members, whoever changed last first."""

    model_config = example({"items": [_MEMBER], "next_cursor": None})
    items: list[OpsMember]
    next_cursor: str | None


api = Routes("ops_app", "ops", prefix="/v1")


@api.get(
    "/ops/app",
    rate="ops",
    responses={200: OpsApp, **errors()},
    operation_id="getOpsApp",
    summary="Show the page the facts about the app (admins)",
)
def about() -> dict[str, Any]:
    """Show the page the facts about the app (admins)."""
    admins_only()
    settings = services().settings
    return {
        "app_id": settings.app.id,
        "name": settings.app.name,
        "development": settings.environment.development,
        "project": settings.cloud.project,
        "membership_url": settings.membership.url.rstrip("/"),
        "roles": list(settings.membership.roles),
        "plans": list(services().metering.plans),
        "job": _summing_up() if settings.environment.development else None,
    }


def _summing_up() -> str | None:
    """Enqueue the nightly job once an hour, and return its id; None if it cannot be enqueued now."""
    own = services()
    with suppress(FirelaunchError):
        hour = f"ops-{own.clock().astimezone(UTC):%Y-%m-%dT%H}"
        return own.jobs.enqueue(own.store.scope, ROLLUP, Rollup(days=31), key=hour).id
    return None


@api.get(
    "/ops/members",
    rate="ops",
    responses={200: OpsMemberPage, **errors(InvalidCursor)},
    operation_id="listMembers",
    summary="List the app's members (admins)",
    description="As the membership function recorded them. On a laptop there are none: tokens name their own role.",
)
def members(query: PageQuery) -> dict[str, Any]:
    """List the app's members (admins)."""
    admins_only()
    store = services().store
    after = page_after(query.cursor)
    found = store.query(Query(store.scope.members(), order=_LATEST, limit=query.limit + 1, after=after))
    items = [
        {
            "uid": member.id,
            "role": str(member.data.get("role", "")),
            "joined": iso_time(member.data.get("joined")),
            "updated_at": iso_time(member.data.get("updated_at")),
        }
        for member in found[: query.limit]
    ]
    return {"items": items, "next_cursor": page_cursor(found, query.limit, "updated_at")}
