"""The membership function's HTTP side. Who calls is said by a verified ID token; the app by the path."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol, TypeVar

from flask import g, request
from flask_cors import CORS
from pydantic import Field

from ..api.base import Body
from ..errors import InvalidId, Unauthenticated
from ..identity import bearer
from ..identity.base import check_not_anonymous, tenant_of
from ..membership.members import Membership, Requester
from ..scope import check_uid
from ..server.app import App
from .http import function_app

__all__ = ["ProjectTokens", "door_app"]

Sent = TypeVar("Sent", bound=Body)

MAX_BODY = 4096
"""Bytes of a request's body at most; the largest that means something is far smaller."""


class ProjectTokens(Protocol):
    """Verifies ID tokens of the project, of any tenant and app."""

    def claims(self, token: str) -> dict[str, Any]:
        """All that a token says.

        Raises:
            Unauthenticated: it does not hold.
        """


class JoinBody(Body):
    """Body of a join; may be left out."""

    invite: str | None = Field(default=None, min_length=1, max_length=100)


class RoleBody(Body):
    """Body of a change of role."""

    role: str = Field(max_length=32)


class InviteBody(Body):
    """Body of an invitation."""

    role: str = Field(default="member", max_length=32)
    uses: int = Field(default=1, ge=1, le=10_000)
    hours: int = Field(default=72, ge=1, le=24 * 90)


def door_app(door: Membership, tokens: ProjectTokens) -> App:
    """The door as a Flask app; see docs/membership.md for its routes."""
    app = function_app("membership", MAX_BODY)
    # Any page may call it: what it may do is in the token, which no browser sends by itself.
    CORS(app, origins="*", send_wildcard=True, expose_headers=["X-Request-Id", "Retry-After"], max_age=3600)

    @app.before_request
    def identify() -> None:
        if request.method != "OPTIONS":
            claims = tokens.claims(bearer(request.headers.get("Authorization")))
            g.visitor = _visitor(claims)
            if request.endpoint != "leave":
                check_not_anonymous(claims)

    _routes(app, door)
    return app


def _routes(app: App, door: Membership) -> None:
    @app.route("/apps/<app_id>/join", methods=["POST"])
    def join(app_id: str) -> dict[str, Any]:
        body = _body(JoinBody)
        return {"app": app_id, "role": door.join(g.visitor, app_id, body.invite)}

    @app.route("/apps/<app_id>/leave", methods=["POST"])
    def leave(app_id: str) -> dict[str, Any]:
        door.leave(g.visitor, app_id)
        return {"app": app_id, "role": None}

    @app.route("/apps/<app_id>/members/<uid>", methods=["PUT"])
    def set_role(app_id: str, uid: str) -> dict[str, Any]:
        role = _body(RoleBody).role
        door.set_role(g.visitor, app_id, uid, role)
        return {"app": app_id, "uid": uid, "role": role}

    @app.route("/apps/<app_id>/members/<uid>", methods=["DELETE"])
    def remove(app_id: str, uid: str) -> dict[str, Any]:
        door.remove(g.visitor, app_id, uid)
        return {"app": app_id, "uid": uid, "role": None}

    @app.route("/apps/<app_id>/removals/<uid>", methods=["DELETE"])
    def readmit(app_id: str, uid: str) -> dict[str, Any]:
        door.readmit(g.visitor, app_id, uid)
        return {"app": app_id, "uid": uid, "removed": False}

    @app.route("/apps/<app_id>/invites", methods=["POST"])
    def invite(app_id: str) -> tuple[dict[str, Any], int]:
        body = _body(InviteBody)
        made = door.invite(g.visitor, app_id, body.role, uses=body.uses, valid_for=timedelta(hours=body.hours))
        answer = {"app": app_id, "invite": made.code, "role": made.role, "uses": made.uses}
        return {**answer, "expires_at": made.expires_at.isoformat(timespec="seconds")}, 201


def _body(kind: type[Sent]) -> Sent:
    """The request's body; an empty one has the defaults, where everything has one."""
    return kind.model_validate(request.get_json() if request.get_data() else {})


def _visitor(claims: dict[str, Any]) -> Requester:
    try:
        uid = check_uid(claims.get("sub", ""))
    except InvalidId:
        raise Unauthenticated(reason="the token's subject is no valid user id") from None
    tenant, issued_at = tenant_of(claims), claims.get("iat")
    if not isinstance(tenant, str | None) or not isinstance(issued_at, int | float):
        raise Unauthenticated(reason="the token's tenant or its time of issue is not valid")
    return Requester(uid, tenant, float(issued_at))
