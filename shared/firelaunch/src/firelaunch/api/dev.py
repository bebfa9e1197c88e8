"""Issue dev tokens on a laptop. The app registers these routes only in embedded and emulators modes."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from flask import request
from pydantic import BaseModel, Field

from ..errors import Forbidden, InvalidId, NotFound, TooLarge
from ..identity import DevIdentity
from .base import Body, example, services
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api"]


class DevUser(Body):
    """Who to be."""

    model_config = example({"uid": "ada"})
    uid: str = Field(min_length=1, max_length=128, description="Any user id; the user need not exist.")
    role: str = Field(default="member", pattern=r"^[a-z0-9_-]{1,32}$", description='"member", or "admin".')
    email: str | None = Field(default=None, max_length=320)
    guest: bool = Field(
        default=False, description="Whether to be a user without an account, as Firebase's anonymous users are."
    )


class DevToken(BaseModel):
    """A token for the Authorization header."""

    model_config = example({"token": "eyJhbGciOiJIUzI1NiJ9..."})
    token: str


def _refuse_other_names() -> None:
    """Refuse requests whose Host is neither localhost nor an IP address.

    A foreign page can point its own domain to this machine (DNS rebinding). The browser then treats its scripts as
    same-origin, and only the Host header tells them apart.
    """
    name = urlsplit(f"//{request.host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise Forbidden("Dev tokens are handed out under localhost or an IP address alone.", reason=name) from None


def _identity() -> DevIdentity:
    identity = services().dev_identity
    if identity is None:  # these routes are registered only where dev tokens exist
        raise NotFound
    return identity


api = Routes("dev", "development", prefix="/dev", public=True)


@api.post(
    "/token",
    responses={200: DevToken, **errors_of_anyone(Forbidden, InvalidId, TooLarge)},
    operation_id="createDevToken",
    summary="Sign in as anyone, on a laptop",
)
def token(body: DevUser) -> dict[str, Any]:
    """Sign in as anyone, on a laptop."""
    _refuse_other_names()
    if body.guest:
        return {"token": _identity().issue_to_guest(body.uid)}
    return {"token": _identity().issue(body.uid, role=body.role, email=body.email)}
