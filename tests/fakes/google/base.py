"""What the parts of the server share: calls, routes and refusals, in the form of Google's APIs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TOKEN", "Call", "Refusal", "Route", "done", "exists", "not_found", "service_disabled", "violation"]

TOKEN = "a-token-for-tests"


@dataclass(slots=True)
class Call:
    """One request. ``path`` is decoded; header names are in lower case."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    answer_headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body or b"{}")

    @property
    def token(self) -> str:
        """The bearer's token."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Refusal(Exception):
    """An error of Google's form."""

    def __init__(self, status: int, code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details

    def body(self) -> dict[str, Any]:
        """https://cloud.google.com/apis/design/errors"""
        error = {"code": self.status, "message": str(self), "status": self.code}
        return {"error": {**error, "details": [*self.details]} if self.details else error}


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a method of a host's paths; ``open`` where no token is asked for. ``guarded`` says, for a service
    account that calls, the role that it needs, the resource's name, and the prefix of a list."""

    method: str
    where: str
    answer: Callable[..., Any]
    permission: str = ""
    open: bool = False
    guarded: Callable[..., tuple[str, str, str | None]] | None = None

    def matches(self, call: Call) -> tuple[str, ...] | None:
        """The pattern's groups; None where it is another's call."""
        if call.method != self.method:
            return None
        found = re.fullmatch(self.where, call.host + call.path)
        return found.groups() if found else None


def not_found(what: str) -> Refusal:
    """404."""
    return Refusal(404, "NOT_FOUND", f"{what} was not found.")


def exists(what: str) -> Refusal:
    """409."""
    return Refusal(409, "ALREADY_EXISTS", f"{what} exists already.")


def service_disabled(api: str, project: str) -> Refusal:
    """An API that is off in the project that a call counts for, by its number
    (https://cloud.google.com/service-infrastructure/docs/service-management/reference/rpc/google.api#errorreason)."""
    page = f"https://console.developers.google.com/apis/api/{api}/overview?project={project}"
    said = (
        f"{api.partition('.')[0]} API has not been used in project {project} before or it is disabled. Enable it by "
        f"visiting {page} then retry. If you enabled this API recently, wait a few minutes for the action to propagate "
        "to our systems and retry."
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": api, "consumer": f"projects/{project}"},
    }
    return Refusal(403, "PERMISSION_DENIED", said, [info])


def violation(constraint: str, said: str) -> Refusal:
    """What an organization's policy forbids
    (https://cloud.google.com/knowledge/kb/organization-policy-violation-when-setting-iam-policy-000004666)."""
    found = {"type": constraint, "description": "User is not in permitted organization."}
    detail = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [found]}
    return Refusal(400, "FAILED_PRECONDITION", said, [detail])


def done(response: dict[str, Any], kind: str = "type.googleapis.com/google.protobuf.Struct") -> dict[str, Any]:
    """An operation that is finished."""
    return {"name": "operations/done", "done": True, "response": {"@type": kind, **response}}
