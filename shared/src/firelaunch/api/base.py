"""What the blueprints share: the error's form in the OpenAPI document, the caller of a request, pages."""

from __future__ import annotations

from typing import Any

from flask import g, request
from flask_openapi3 import APIBlueprint
from flask_openapi3.models import Tag
from pydantic import BaseModel, ConfigDict, Field

from ..errors import BadRequest
from ..identity import Caller

__all__ = ["Body", "ErrorAnswer", "PageQuery", "Path", "blueprint", "caller", "errors", "idempotency_key"]

_KEY_CHARACTERS = 255
_BEARER: list[dict[str, list[str]]] = [{"bearer": []}]


class Body(BaseModel):
    """A request's body: no key beyond those named, no value converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Path(BaseModel):
    """A path's parameters; ids are checked where they become part of a database path."""

    id: str = Field(description="The resource's id.")


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=50, ge=1, le=100, description="Items at most.")
    cursor: str | None = Field(default=None, max_length=500, description="next_cursor of the page before.")


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable; to be compared.")
    message: str = Field(description="For people; may change.")
    request_id: str = Field(description="Quote it when asking for help; the log has the rest.")


class ErrorAnswer(BaseModel):
    """The form of every error."""

    error: ErrorDetail


def errors(*statuses: int) -> dict[Any, Any]:
    """The ``responses`` of these error statuses, and of those that every signed-in route may give."""
    return dict.fromkeys(sorted({400, 401, 403, 500, 503, *statuses}), ErrorAnswer)


def blueprint(name: str, tag: str, *, documented: bool) -> APIBlueprint:
    """A blueprint under /v1 whose routes all want a bearer token.

    Args:
        documented: collect what the OpenAPI document says of the routes. It takes longer than to serve them, so it is
            done when the document is first asked for, on blueprints that serve nothing.
    """
    return APIBlueprint(
        name, __name__, url_prefix="/v1", abp_tags=[Tag(name=tag)], abp_security=_BEARER, doc_ui=documented
    )


def caller() -> Caller:
    """Who sent the request; :mod:`firelaunch.web` has verified the token before any route under /v1 runs."""
    found: Caller = g.caller
    return found


def idempotency_key() -> str | None:
    """The request's Idempotency-Key, where it has one.

    Raises:
        BadRequest: it is empty, too long, or not printable ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise BadRequest(f"An Idempotency-Key has 1 to {_KEY_CHARACTERS} printable ASCII characters.")
    return key
