"""Give views their shared parts: services, the caller, request bodies, pages and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, cast

from flask import Request, Response, current_app, g, request, url_for
from pydantic import BaseModel, ConfigDict, Field

from ..chats.events import Paused
from ..errors import BadRequest, FeatureMissing, Forbidden, SettingsError, Unauthenticated
from ..identity import Caller
from ..llm.client_connection import CLIENT_KEY, STREAM_KEY, ClientConnection
from ..services.bundle import Services
from ..services.upload_limits import Uploads
from ..telemetry.spans import Span
from ..turns.admit import Turns
from ..turns.resume import Answers

if TYPE_CHECKING:
    from ..documents.kept_files import KeptFiles
    from ..jobs import Job, Kind
    from ..jobs.base import HasKind
    from ..records.collection import Collection
    from ..records.data import Data
    from ..records.record import Record
    from ..records.records import Records
    from .openapi import Document

__all__ = [
    "CALLER_KEY",
    "IN_A_GROUP",
    "KEY_HEADER",
    "LOCALHOST",
    "OF_A_GROUP",
    "Body",
    "Date",
    "GroupPath",
    "GroupQuery",
    "OptionalGroup",
    "OwnTool",
    "PageQuery",
    "Path",
    "Time",
    "ViewContext",
    "admins_only",
    "app_services",
    "backend",
    "caller",
    "caller_services",
    "client",
    "data",
    "enqueue",
    "event_stream",
    "example",
    "file_response",
    "idempotency_key",
    "link_address",
    "need_feature",
    "services",
    "stored_response",
    "streamed",
]

CALLER_KEY = "firelaunch.caller"
"""The key of a WSGI environment with the caller of a request that is made inside the process. No client can set it."""

LOCALHOST = r"^https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$"
"""The origins of pages on this machine."""

_KEY_CHARACTERS = 255
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The client's own name for this request: repeated, it gives the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _KEY_CHARACTERS, "pattern": "^[ -~]+$"},
}
"""The header's entry for a route's ``x-headers`` in the OpenAPI document."""


class Body(BaseModel):
    """A request's body: no key beyond those named, no value converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Path(BaseModel):
    """A path's parameters; ids are checked where they become part of a database path."""

    # Only the OpenAPI document uses this pattern. The store checks ids itself and answers invalid_id.
    id: str = Field(description="The resource's id.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})


OptionalGroup = Annotated[str | None, Field(max_length=64, json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"})]
"""A group's id in a body or a query, which is checked where it becomes part of a path; empty or None for no group."""


IN_A_GROUP, OF_A_GROUP = "For this group; its editors and owners may.", "Of this group, rather than the caller's own."


class GroupPath(BaseModel):
    """A group's path. The id is checked where it becomes part of a database path."""

    group: str = Field(description="The group's id.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})


class QueryModel(BaseModel):
    """A query's parameters."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **more: Any) -> dict[str, Any]:
        """Return the JSON Schema. The plain one is made once, since flask-openapi3 asks for it at each request."""
        return super().model_json_schema(*arguments, **more) if arguments or more else _plain_schema(cls)


class GroupQuery(QueryModel):
    """Names a group."""

    model_config = ConfigDict(extra="forbid")
    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)


@cache
def _plain_schema(model: type[QueryModel]) -> dict[str, Any]:
    return super(QueryModel, model).model_json_schema()


class PageQuery(QueryModel):
    """Names a page of a list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=50, ge=1, le=100, description="Items at most.")
    cursor: str | None = Field(default=None, max_length=500, description="next_cursor of the page before.")


Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in ISO 8601, in UTC, as views write it: "2026-03-01T09:30:00.000000Z"."""

Date = Annotated[str, Field(json_schema_extra={"format": "date"})]
"""A day in UTC: "2026-03-01"."""

_WHOLE_BYTES = 31 * 2**20
"""The bytes from which Cloud Run takes no answer that says its length
(https://cloud.google.com/run/quotas#request_limits)."""

M = TypeVar("M", bound="Record")
P = TypeVar("P", bound=BaseModel)


def example(value: Any, *, stream: str | None = None) -> ConfigDict:
    """Return a model config with an example for the OpenAPI document.

    Args:
        value: the example.
        stream: an example of the answer as server-sent events, for routes that can also stream it.
    """
    config: dict[str, Any] = {"json_schema_extra": {"example": value}}
    if stream is not None:
        streamed = {"schema": {"type": "string", "description": _STREAMED}, "example": stream}
        config["openapi_extra"] = {"content": {"text/event-stream": streamed}}
    return cast("ConfigDict", config)


def streamed(example: str) -> dict[str, Any]:
    """Return the ``responses`` entry of a route that always answers with a stream."""
    # No type: tools disagree on whether the schema describes the whole stream or one event.
    stream = {"schema": {"description": "Server-sent events in UTF-8."}, "example": example}
    return {"description": "The answer, as it comes.", "content": {"text/event-stream": stream}}


_STREAMED = (
    "Server-sent events in UTF-8, each with a line of JSON as its data. `start`: `request_id`, `chat_id`, "
    "`user_message`. `delta`, any number of times: `text`, the next piece of the answer. Then one of `done`: `message` "
    "and `usage`, as in the answer that comes whole; or `error`: `error`, as in every error's body."
)


class OwnTool(Protocol):
    """A tool that agents can call."""

    @property
    def name(self) -> str:
        """The name that the agent calls it by."""

    def described(self) -> dict[str, Any]:
        """Return the tool's entry for ``tools/list``."""

    def call(self, call: Any, arguments: dict[str, Any]) -> dict[str, Any] | Iterator[Any]:
        """Return the result for ``tools/call``, or the steps to it."""


@dataclass(frozen=True, slots=True)
class ViewContext:
    """The objects that the views of one app work with.

    Attributes:
        document: returns the OpenAPI document, with or without the routes of admins. The first call of each takes a
            part of a second.
        tools: the app's own tools for agents.
    """

    services: Services
    turns: Turns
    answers: Answers
    uploads: Uploads
    document: Callable[[bool], Document]
    tools: Sequence[OwnTool] = ()


def backend() -> ViewContext:
    """Return the current app's backend."""
    value: ViewContext = current_app.extensions["firelaunch"]
    return value


def services() -> Services:
    """Return the current app's services."""
    return backend().services


def caller() -> Caller:
    """Return the user who sent the request.

    :mod:`firelaunch.server.app` verifies the token before any route runs that is not public.

    Raises:
        Unauthenticated: the route is public, so nobody's token was verified.
    """
    verified: Caller | None = g.get("caller")
    if verified is None:
        raise Unauthenticated(
            "This needs a signed-in user.",
            reason="a public route has no caller, and asked for one or for a user's own records: do without, or take "
            "public=True from it",
        )
    return verified


def caller_services() -> Services:
    """Return the app's services within the caller's scope: they reach no other user's data.

    In a public route they reach the app's own data and no user's. If the route says that it calls a model, the plan of
    guests pays for that, under an id that depends on the client's address.
    """
    bound: Services | None = g.get("services")
    if bound is None:
        bound = services().within(_scope())
        if "visitor" in g:
            bound = replace(bound, llm=services().within(g.visitor).llm)
        g.services = bound
    return bound


def app_services() -> Services:
    """Return the app's services within the app's own scope: its files and jobs, and what all users share.

    Whoever may call the view may do what it does with these, so check that first, as with :func:`admins_only`.
    """
    bound: Services | None = g.get("app_services")
    if bound is None:
        bound = g.app_services = services().within(services().store.scope)
    return bound


def _scope() -> Any:
    """Return the scope of the request's data: the caller's, or in a public route the app's."""
    return caller().scope if "caller" in g else services().store.scope


def data(collection: Collection[M], group: str | None = None) -> Records[M]:
    """Return the records of ``collection`` that the caller may reach: their own, those of a group, or the app's.

    Args:
        group: the id of the group, for a collection of groups: that of the request's path. Whether the caller is a
            member of it, and may write, is checked with the first read and with each write.

    Raises:
        Unauthenticated: the route is public, and the collection is users' or groups' own.
        ScopeViolation: the collection is groups' own, and ``group`` is None.
    """
    if group is not None:
        return _group_data(group)(collection)
    if "caller" not in g and getattr(collection, "owner", None) in {"user", "group"}:
        caller()
    return services().data.within(_scope())(collection)


def _group_data(group: str) -> Data:
    from ..services.groups import guard_of  # an app without groups starts without it

    user = caller()
    place = user.scope.of_group(group)
    return services().data.for_member(place, user.uid, guard_of(place, user.uid))


def enqueue(job: Kind[P] | HasKind[P], payload: P | None = None, *, key: str | None = None, delay: float = 0.0) -> Job:
    """Enqueue a job for the caller; in a public route, for the app. Return the stored job.

    The arguments and errors are those of :meth:`Services.enqueue <firelaunch.services.bundle.Services.enqueue>`.
    """
    return caller_services().enqueue(job, payload, key=key, delay=delay)


def leave_place() -> None:
    """Give up the place that the request has among those that are bounded, if it has one."""
    place = g.pop("place", None)
    if place is not None:
        place.close()


def link_address(endpoint: str, **values: str) -> str:
    """Return the whole address of one of this app's routes, for a link that is opened elsewhere."""
    # Google's front end brings every request by HTTP, and takes none of a browser's but by HTTPS.
    scheme = "https" if services().settings.environment.on_cloud_run else None
    return url_for(endpoint, _external=True, _scheme=scheme, **values)


def file_response(files: KeptFiles, id: str, *, max_age: int | None = None) -> Response:  # noqa: A002 - as callers say
    """Return a response with a file that the app keeps: ``file_response(caller_services().files, "avatar")``.

    Browsers show pictures, sound and films, and download everything else. None runs as a page of your app's. A request
    for a range of bytes is answered with that range.

    Args:
        max_age: the seconds for which the answer may be kept without asking again; None to ask each time. It may be
            kept by the caller's browser, and if the route is public by everybody's and by caches between.

    Raises:
        NotFound: there is no file with ``id``.
    """
    file, pieces = files.read(id)
    shown = file.content_type.partition("/")[0] in {"image", "audio", "video"}
    disposition = "inline" if shown else "attachment"
    return stored_response(pieces, file.content_type, file.bytes, file.version, disposition, max_age=max_age)


def stored_response(
    pieces: Iterator[bytes],
    content_type: str,
    size: int,
    version: str,
    disposition: str,
    *,
    max_age: int | None = None,
) -> Response:
    """Return a response with a stored file, which runs as no page of the app's. A range of its bytes may be asked for.

    Args:
        pieces: the content; they can ``seek`` to a byte before the first one is read.
        version: changes with the content.
        disposition: the header ``Content-Disposition``.
        max_age: as for :func:`file_response`.
    """
    response = Response(pieces, content_type=content_type)
    if size < _WHOLE_BYTES:  # larger ones go in pieces without it
        response.content_length = size
    response.headers["Content-Disposition"] = disposition
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"  # an SVG picture is a page, too
    response.set_etag(version)
    if max_age is not None and "caller" not in g:
        response.cache_control.public = True
    else:
        response.cache_control.private = True
    if max_age is None:
        response.cache_control.no_cache = True
    else:
        response.cache_control.max_age = max_age
    response.make_conditional(_with_one_range(request, size), accept_ranges=True, complete_length=size)
    if (response.content_length or 0) >= _WHOLE_BYTES:
        del response.headers["Content-Length"]
    return response


def _with_one_range(request: Request, size: int) -> dict[str, Any]:
    """Return a request's environment, with its range only if that is one part of the file. Else all is sent."""
    wanted = request.range
    if wanted is not None and wanted.range_for_length(size) is not None:
        return dict(request.environ)
    return {name: value for name, value in request.environ.items() if name != "HTTP_RANGE"}


def admins_only() -> None:
    """Check that the caller is an admin of the app.

    Raises:
        Forbidden: the caller is not an admin.
    """
    if caller().role != "admin":
        raise Forbidden("Only the app's admins may do this.", reason=f"role {caller().role!r}")


def need_feature(feature: str) -> None:
    """Check that the caller's plan has ``feature``, for a view that needs it for some requests only.

    Raises:
        FeatureMissing: it does not. The message names the plans that do.
        SettingsError: no plan has it.
        Unauthenticated: the route is public.
    """
    caller()
    entitlements = services().metering.entitlements
    with_it = [name for name, plan in entitlements.plans.items() if feature in plan.features]
    if not with_it:
        raise SettingsError(
            f"no plan switches on the feature {feature!r}. Add it to a plan in firelaunch.toml: "
            f'features = ["{feature}"]'
        )
    if len(with_it) == len(entitlements.plans):
        return  # whichever plan the caller has
    if feature not in caller_services().features:
        raise FeatureMissing(f"Your plan does not include {feature!r}. These plans do: {', '.join(with_it)}.")


def idempotency_key() -> str | None:
    """Return the request's Idempotency-Key, or None.

    Raises:
        BadRequest: the key is empty, too long, or not printable ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise BadRequest(f"An Idempotency-Key has 1 to {_KEY_CHARACTERS} printable ASCII characters.")
    return key


def client() -> ClientConnection | None:
    """Return the current request's client connection, or None if the server can't tell when a client leaves."""
    return cast("ClientConnection | None", request.environ.get(CLIENT_KEY))


def event_stream(items: Iterator[bytes | Paused], more: Mapping[str, str] = {}) -> Response:
    """Return a response of server-sent events.

    The default headers keep proxies from storing the stream and from waiting for its end.

    Args:
        items: the events. Firelaunch's own server sends them itself; other servers iterate over the response.
        more: additional headers.
    """
    request_span: Span | None = g.get("span")
    if request_span is not None:
        items = _until_its_end(items, request_span)
    # The gunicorn worker takes the stream from the environment, to relay it without a thread while the model is silent.
    request.environ[STREAM_KEY] = items
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **more}
    return Response(cast("Iterator[bytes]", items), mimetype="text/event-stream", headers=headers)


def _until_its_end(items: Iterator[bytes | Paused], request_span: Span) -> Iterator[bytes | Paused]:
    """Yield a stream's items, and end the request's span after the last one, before the response ends."""
    try:
        yield from items
    finally:
        request_span.tracer.end_request(request_span)
