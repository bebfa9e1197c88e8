"""Describe errors for the OpenAPI document's ``responses``: each status with the codes that a route may give."""

from __future__ import annotations

from http import HTTPStatus
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import (
    AnswerFiltered,
    AnswerWithheld,
    AppBudgetExceeded,
    BadRequest,
    BudgetExceeded,
    Contention,
    ContentRefused,
    CreditExceeded,
    DocumentUnreadable,
    EmptyAnswer,
    ExtractionFailed,
    FileNotTaken,
    FirelaunchError,
    Forbidden,
    IdempotencyMismatch,
    IndexFailed,
    IndexUnavailable,
    Interrupted,
    InvalidId,
    InvalidSchema,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoGroupChats,
    NotFound,
    NoUploadRoom,
    OutputLimitReached,
    Overloaded,
    PreconditionFailed,
    RateLimited,
    RequestInProgress,
    StoreError,
    StoreUnavailable,
    TooLarge,
    ToolLimitReached,
    TooManyUploads,
    Unauthenticated,
)
from ..identity import AppCheckFailed, IdentityUnavailable
from ..identity.base import AnonymousAccount
from ..membership.removals import Removed

__all__ = [
    "OF_AN_EXTRACTION",
    "OF_A_CHAT",
    "OF_A_MODEL_CALL",
    "OF_A_PLACE",
    "OF_A_TURN",
    "OF_FILES",
    "OF_THE_INDEX",
    "OF_THE_STORE",
    "ErrorAnswer",
    "errors",
    "errors_of_anyone",
]

OF_THE_STORE = (StoreError, Contention, StoreUnavailable)
"""Errors of every access to the database."""

OF_THE_INDEX = (IndexFailed, IndexUnavailable)
"""Errors of every access to the document index."""

OF_A_PLACE = (InvalidId, NotFound, NoGroupChats)
"""Errors of every route that may be about a group's chats: the group's id is none, or the caller is no member."""

OF_A_CHAT = OF_A_PLACE
"""Errors of every route that takes a chat's id."""

OF_A_MODEL_CALL = (
    *(TooLarge, RateLimited, BudgetExceeded, AppBudgetExceeded, CreditExceeded, ContentRefused, PreconditionFailed),
    *(ModelError, ModelRefused, ModelUnavailable, ModelTimeout, ExtractionFailed),
    *(EmptyAnswer, OutputLimitReached, AnswerFiltered, ToolLimitReached),
)
"""Errors of a model call."""

OF_A_TURN = (*OF_A_CHAT, *OF_A_MODEL_CALL, RequestInProgress, IdempotencyMismatch, Interrupted, AnswerWithheld)
"""Errors of every route that sends a message."""

OF_FILES = (TooManyUploads, NoUploadRoom, FileNotTaken, DocumentUnreadable)
"""Errors of a message with files."""

OF_AN_EXTRACTION = (InvalidSchema, *OF_A_MODEL_CALL)
"""Errors of an extraction."""

_SIGNED_IN = (
    *(Unauthenticated, AppCheckFailed, AnonymousAccount, Removed, Forbidden, IdentityUnavailable, RateLimited),
    *OF_THE_STORE,
)
"""Errors of every route that needs a token: before the view runs, and from the database."""

_UNREAD = {"414": "The path is over 4,094 bytes.", "431": "A header is over 8,190 bytes, or there are over 100."}
"""Answers of gunicorn to requests that it does not read to the end, with gunicorn's default limits
(https://gunicorn.org/reference/settings/#security)."""

_WAIT = ("Retry-After", "Seconds after which to try again, where that may help.", "integer")
_HEADERS = {
    "401": ("WWW-Authenticate", "Bearer", "string"),
    **dict.fromkeys(("409", "429", "502", "503", "504"), _WAIT),
}

_SOME_ID = "req_0123456789abcdef0123"


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable; to be compared.")
    message: str = Field(description="For people; may change.")
    request_id: str = Field(description="Quote it when asking for help; the log has the rest.")


class ErrorAnswer(BaseModel):
    """The form of every error."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": {"code": NotFound.code, "message": NotFound.message, "request_id": _SOME_ID}}
        }
    )
    error: ErrorDetail


def errors(*kinds: type[FirelaunchError]) -> dict[Any, Any]:
    """Return the ``responses`` of these errors and of those that every route with a token may give."""
    return errors_of_anyone(*_SIGNED_IN, *kinds)


def errors_of_anyone(*kinds: type[FirelaunchError]) -> dict[Any, Any]:
    """Return the ``responses`` of these errors and of those that every route may give.

    The examples are of all error codes; all of them have one schema, so that a generated client has one type of them.
    """
    unread = {status: _refusal(status, {BadRequest.code: why}) for status, why in _UNREAD.items()}
    kinds_of_route: set[type[FirelaunchError]] = {FirelaunchError, BadRequest, Overloaded, StoreUnavailable, *kinds}
    ordered = sorted(kinds_of_route, key=lambda kind: (kind.status, kind.code))
    by_status = groupby(ordered, key=lambda kind: str(kind.status))
    answered = {status: _refusal(status, {kind.code: kind.message for kind in group}) for status, group in by_status}
    return dict(sorted((unread | answered).items()))


def _refusal(status: str, messages: dict[str, str]) -> dict[str, Any]:
    examples = {
        code: {"value": {"error": {"code": code, "message": message, "request_id": _SOME_ID}}}
        for code, message in messages.items()
    }
    answer: dict[str, Any] = {
        "description": HTTPStatus(int(status)).phrase,
        "content": {"application/json": {"schema": ErrorAnswer, "examples": examples}},
    }
    if status in _HEADERS:
        name, description, kind = _HEADERS[status]
        answer["headers"] = {name: {"description": description, "schema": {"type": kind}}}
    return answer
