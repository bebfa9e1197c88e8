"""Serve membership over HTTP. A verified ID token names the caller, and the path names the app.

:mod:`firelaunch.membership.members` has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from flask import g, request
from flask_cors import CORS
from pydantic import Field

from ..api.base import Body
from ..errors import InvalidId, Unauthenticated
from ..identity import bearer
from ..identity.base import check_not_anonymous, tenant_of
from ..identity.known_callers import known
from ..membership.members import Membership, Requester
from ..scope import check_uid
from ..server.app import App
from .http import function_app

__all__ = ["ProjectTokens", "membership_app"]

BodyModel = TypeVar("BodyModel", bound=Body)

MAX_BODY = 4096
"""Most bytes of a request's body; valid bodies are far smaller."""


class ProjectTokens(Protocol):
    """A verifier of the project's ID tokens, of any tenant and app."""

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return all claims of a token.

        Raises:
            Unauthenticated: the token is not valid.
        """


class JoinBody(Body):
    """The optional body of a request to join."""

    invite: str | None = Field(default=None, min_length=1, max_length=100)


class RoleBody(Body):
    """The body of a request to change a role."""

    role: str = Field(max_length=32)


class InviteBody(Body):
    """The body of a request for an invitation."""

    role: str = Field(default="member", max_length=32)
    uses: int = Field(default=1, ge=1, le=10_000)
    hours: int = Field(default=72, ge=1, le=24 * 90)


def membership_app(membership: Membership, tokens: ProjectTokens) -> App:
    """Return the Flask app that serves ``membership``; docs/membership.md describes its routes."""
    app = function_app("membership", MAX_BODY)
    # Any page may call: the rights come from the token, which browsers don't send by themselves.
    CORS(app, origins="*", send_wildcard=True, expose_headers=["X-Request-Id", "Retry-After"], max_age=3600)

    @app.before_request
    def identify() -> None:
        if request.method != "OPTIONS":
            claims = tokens.claims(bearer(request.headers.get("Authorization")))
            g.requester = _requester(claims)
            known(request.environ, g.requester.uid)
            if request.endpoint != "leave":
                check_not_anonymous(claims)

    _routes(app, membership)
    return app


def _routes(app: App, membership: Membership) -> None:
    @app.route("/apps/<app_id>/join", methods=["POST"])
    def join(app_id: str) -> dict[str, Any]:
        body = _body(JoinBody)
        return {"app": app_id, "role": membership.join(g.requester, app_id, body.invite)}

    @app.route("/apps/<app_id>/leave", methods=["POST"])
    def leave(app_id: str) -> dict[str, Any]:
        membership.leave(g.requester, app_id)
        return {"app": app_id, "role": None}

    @app.route("/apps/<app_id>/members/<uid>", methods=["PUT"])
    def set_role(app_id: str, uid: str) -> dict[str, Any]:
        role = _body(RoleBody).role
        membership.set_role(g.requester, app_id, uid, role)
        return {"app": app_id, "uid": uid, "role": role}

    @app.route("/apps/<app_id>/members/<uid>", methods=["DELETE"])
    def remove(app_id: str, uid: str) -> dict[str, Any]:
        membership.remove(g.requester, app_id, uid)
        return {"app": app_id, "uid": uid, "role": None}

    @app.route("/apps/<app_id>/removals/<uid>", methods=["DELETE"])
    def readmit(app_id: str, uid: str) -> dict[str, Any]:
        membership.readmit(g.requester, app_id, uid)
        return {"app": app_id, "uid": uid, "removed": False}

    @app.route("/apps/<app_id>/invites", methods=["POST"])
    def invite(app_id: str) -> tuple[dict[str, Any], int]:
        body = _body(InviteBody)
        invitation = membership.invite(
            g.requester, app_id, body.role, uses=body.uses, valid_for=timedelta(hours=body.hours)
        )
        answer = {"app": app_id, "invite": invitation.code, "role": invitation.role, "uses": invitation.uses}
        return {**answer, "expires_at": invitation.expires_at.isoformat(timespec="seconds")}, 201


def _body(kind: type[BodyModel]) -> BodyModel:
    """Parse the request's body. An empty body means the defaults, if every field has one."""
    return kind.model_validate(request.get_json() if request.get_data() else {})


def _requester(claims: Mapping[str, Any]) -> Requester:
    try:
        uid = check_uid(claims.get("sub", ""))
    except InvalidId:
        raise Unauthenticated(reason="the token's subject is no valid user id") from None
    tenant, issued_at = tenant_of(claims), claims.get("iat")
    if not isinstance(tenant, str | None) or not isinstance(issued_at, int | float):
        raise Unauthenticated(reason="the token's tenant or its time of issue is not valid")
    return Requester(uid, tenant, float(issued_at))
