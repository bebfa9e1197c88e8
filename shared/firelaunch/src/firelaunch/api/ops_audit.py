"""Show an app's admins the audit log."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ..errors import InvalidCursor, InvalidId
from ..services.audit_log import audit_page
from .base import PageQuery, Time, admins_only, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_ENTRY: dict[str, Any] = {
    "id": "a202603010930000123456789abcdef01234",
    "at": "2026-03-01T09:30:00.000000Z",
    "by": "root",
    "what": "plan.granted",
    "whom": "ada",
    "before": {"plan": None},
    "after": {"plan": "pro"},
    "request_id": "req_0123456789abcdef0123",
}


class AuditQuery(PageQuery):
    """The filter and the page of entries."""

    whom: str | None = Field(default=None, max_length=128, description="Only those that concern this user.")


class AuditEntry(BaseModel):
    """Who did what, and when."""

    model_config = example(_ENTRY)
    id: str
    at: Time
    by: str = Field(description='A user id, "operator" for a command with the owner\'s credentials, or "stripe".')
    what: str
    whom: str | None = Field(description="The user whom it concerns; a hash once their data is erased.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None = Field(description="Of the request that did it; the log has the rest.")


class AuditPage(BaseModel):
    """Entries, newest first."""

    model_config = example({"items": [_ENTRY], "next_cursor": None})
    items: list[AuditEntry]
    next_cursor: str | None


api = Routes("ops_audit", "ops", prefix="/v1")


@api.get(
    "/ops/audit",
    rate="ops",
    responses={200: AuditPage, **errors(InvalidCursor, InvalidId)},
    operation_id="listAudit",
    summary="Who changed what? (admins)",
)
def audit(query: AuditQuery) -> dict[str, Any]:
    """Who changed what? (admins)."""
    admins_only()
    page = audit_page(services(), query.limit, query.cursor, query.whom)
    return {"items": page.items, "next_cursor": page.next_cursor}
