"""What views share: their routes, the services they work with, the caller, bodies, pages and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from flask import Response, current_app, g, request
from flask_openapi3 import APIBlueprint
from flask_openapi3.models import Tag
from pydantic import BaseModel, ConfigDict, Field

from ..chats.events import Paused
from ..errors import BadRequest, Forbidden
from ..identity import Caller
from ..llm.client_connection import CLIENT_KEY, STREAM_KEY, ClientConnection
from ..services.bundle import Services
from ..services.upload_limits import Uploads
from ..turns.admit import Turns
from ..turns.resume import Answers

__all__ = [
    "BEARER",
    "KEY_HEADER",
    "LOCALHOST",
    "Backend",
    "Body",
    "PageQuery",
    "Path",
    "Routes",
    "admins_only",
    "backend",
    "caller",
    "client",
    "event_stream",
    "example",
    "idempotency_key",
    "services",
    "streamed",
]

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]

LOCALHOST = r"^https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$"
"""The origins of pages on this machine."""

_KEY_CHARACTERS = 255
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The client's own name for this request: repeated, it gives the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _KEY_CHARACTERS, "pattern": "^[ -~]+$"},
}
"""For a route's ``x-headers`` in the OpenAPI document."""


class Body(BaseModel):
    """A request's body: no key beyond those named, no value converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Path(BaseModel):
    """A path's parameters; ids are checked where they become part of a database path."""

    # The pattern is for the document alone: what does not fit it is refused as an invalid_id.
    id: str = Field(description="The resource's id.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=50, ge=1, le=100, description="Items at most.")
    cursor: str | None = Field(default=None, max_length=500, description="next_cursor of the page before.")


def example(value: Any, *, stream: str | None = None) -> ConfigDict:
    """A model's example in the OpenAPI document; with ``stream`` the answer may also come as server-sent events."""
    config: dict[str, Any] = {"json_schema_extra": {"example": value}}
    if stream is not None:
        streamed = {"schema": {"type": "string", "description": _STREAMED}, "example": stream}
        config["openapi_extra"] = {"content": {"text/event-stream": streamed}}
    return cast("ConfigDict", config)


def streamed(example: str) -> dict[str, Any]:
    """The ``responses`` entry of a route that answers with a stream and nothing else."""
    # No type: tools differ in whether the schema is of the whole stream, or of each event.
    stream = {"schema": {"description": "Server-sent events in UTF-8."}, "example": example}
    return {"description": "The answer, as it comes.", "content": {"text/event-stream": stream}}


_STREAMED = (
    "Server-sent events in UTF-8, each with a line of JSON as its data. `start`: `request_id`, `chat_id`, "
    "`user_message`. `delta`, any number of times: `text`, the next piece of the answer. Then one of `done`: `message` "
    "and `usage`, as in the answer that comes whole; or `error`: `error`, as in every error's body."
)


View = TypeVar("View", bound=Callable[..., Any])


class Routes:
    """The routes of one noun: module-level views, put onto a blueprint for each app that serves or describes them.

    Decorate views as on a Flask blueprint: ``@api.get("/chats", responses=..., summary=...)``. An option may be a
    function without arguments that makes its value; it is called when the OpenAPI document is made.

    Args:
        name: the blueprint's name, before the dot in an endpoint's.
        tag: the group in the OpenAPI document.
        prefix: before each rule.
        public: whether the routes take no bearer token.
    """

    def __init__(self, name: str, tag: str, *, prefix: str | None = "/v1", public: bool = False) -> None:
        self._name = name
        self._options: dict[str, Any] = {"url_prefix": prefix, "abp_tags": [Tag(name=tag)]}
        if not public:
            self._options["abp_security"] = BEARER
        self._views: list[tuple[str, str, dict[str, Any], Callable[..., Any]]] = []

    def get(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Answer GET requests of ``rule``."""
        return self._view("get", rule, options)

    def post(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Answer POST requests of ``rule``."""
        return self._view("post", rule, options)

    def put(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Answer PUT requests of ``rule``."""
        return self._view("put", rule, options)

    def patch(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Answer PATCH requests of ``rule``."""
        return self._view("patch", rule, options)

    def delete(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Answer DELETE requests of ``rule``."""
        return self._view("delete", rule, options)

    def _view(self, method: str, rule: str, options: dict[str, Any]) -> Callable[[View], View]:
        def note(view: View) -> View:
            self._views.append((method, rule, options, view))
            return view

        return note

    def blueprint(self, *, documented: bool) -> APIBlueprint:
        """Make the blueprint.

        Args:
            documented: collect what the OpenAPI document says of the routes. It takes longer than to serve them, so it
                is done when the document is first asked for, on blueprints that serve nothing.
        """
        made = APIBlueprint(self._name, __name__, doc_ui=documented, **self._options)
        for method, rule, options, view in self._views:
            known = {name: value() if callable(value) and documented else value for name, value in options.items()}
            getattr(made, method)(rule, **{name: value for name, value in known.items() if not callable(value)})(view)
        return made


@dataclass(frozen=True, slots=True)
class Backend:
    """What views work with.

    Attributes:
        document: makes the OpenAPI document; the first call takes about a second.
    """

    services: Services
    turns: Turns
    answers: Answers
    uploads: Uploads
    document: Callable[[], dict[str, Any]]


def backend() -> Backend:
    """What the current app's views work with."""
    found: Backend = current_app.extensions["firelaunch"]
    return found


def services() -> Services:
    """The current app's services."""
    return backend().services


def caller() -> Caller:
    """Who sent the request; :mod:`firelaunch.server.app` has verified the token before any route under /v1 runs."""
    found: Caller = g.caller
    return found


def admins_only() -> None:
    """Return if the caller is an admin of the app.

    Raises:
        Forbidden: it is not.
    """
    if caller().role != "admin":
        raise Forbidden("Only the app's admins may do this.", reason=f"role {caller().role!r}")


def idempotency_key() -> str | None:
    """The request's Idempotency-Key, where it has one.

    Raises:
        BadRequest: it is empty, too long, or not printable ASCII.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise BadRequest(f"An Idempotency-Key has 1 to {_KEY_CHARACTERS} printable ASCII characters.")
    return key


def client() -> ClientConnection | None:
    """The current request's client, where the server can tell when they leave."""
    return cast("ClientConnection | None", request.environ.get(CLIENT_KEY))


def event_stream(items: Iterator[bytes | Paused], more: Mapping[str, str] = {}) -> Response:
    """A response of server-sent events. Our own server sends ``items`` itself; others iterate over the response.

    Args:
        more: headers beside those that keep proxies from storing a stream, and from waiting for its end.
    """
    request.environ[STREAM_KEY] = items
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **more}
    return Response(cast("Iterator[bytes]", items), mimetype="text/event-stream", headers=headers)
