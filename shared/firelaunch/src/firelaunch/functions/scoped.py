"""Limit a function to the scope of its resource: ``@scoped("apps/{app}/users/{uid}/...")``.

The pattern says which resources the function is for. A call for another resource, or for an app that is not served
here, never reaches the function: deny by default.

An event gets a 2xx when it is handled, and also when it never can be: it is no CloudEvent, or of another resource,
app, bucket or database, or of a type that the function does not take. Eventarc and Pub/Sub send all other events again
for a day, so an event that will never succeed must not get an error. It is logged and dropped.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from ..errors import FirelaunchError, InvalidId, NotFound, ScopeViolation, StoreError, TooLarge
from ..identity import bearer
from ..scope import Scope, split
from ..services.bundle import Services
from ..store.fence import BEGAN, begun_at
from .events import Malformed, Received, received
from .host import Host
from .http import function_app

__all__ = ["EVERY_APP", "Call", "Ignored", "scoped"]

log = logging.getLogger(__name__)

EVERY_APP = "-"
"""The app in the path of an HTTP call that is for each served app in turn."""

MAX_EVENT = 16 * 1024 * 1024
"""Most bytes of an event. A document has at most 1 MiB (https://firebase.google.com/docs/firestore/quotas), an event
holds two documents, and JSON with base64 takes a few times as much."""

MAX_BODY = 64 * 1024
"""Most bytes of a call's body."""

_GIVE_UP = timedelta(hours=1)
"""The age from which an event is dropped after an unexpected error, so that a fault in the code does not repeat for a
day. While the database is down, events are sent again for as long as their sender does."""

_VARIABLE = re.compile(r"\{([a-z]+)\}")


class Ignored(Exception):
    """Raise this in a function if there is nothing to do for an event. The message is logged."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Args:
        scope: the scope, derived from the resource's path.
        services: the app's services, limited to paths and jobs within ``scope``.
        names: the pattern's other variables.
        data: a ``StorageObject``, a ``Change``, or the body of an HTTP call.
        id: an id that repeated deliveries of the same event, or the same run of Cloud Scheduler, share; "" if a
            repeated call can't be recognized.
    """

    scope: Scope
    services: Services
    names: Mapping[str, str]
    data: Any
    id: str = ""


Function = Callable[[Call], Any]
View = Callable[[Request], BaseResponse]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A resource path whose segments in braces are variables."""

    segments: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> _Pattern:
        """Parse a pattern.

        Raises:
            ValueError: the pattern is not valid.
        """
        segments = tuple(text.split("/"))
        names = [match[1] for segment in segments if (match := _VARIABLE.fullmatch(segment))]
        if segments[:2] != ("apps", "{app}") or len(set(names)) < len(names) or "" in segments:
            raise ValueError(f"{text!r} is no pattern: it begins with apps/{{app}}, and its names differ")
        if "uid" in names and segments[2:4] != ("users", "{uid}"):
            raise ValueError(f"{text!r} is no pattern: a user's path begins with apps/{{app}}/users/{{uid}}")
        return cls(segments)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the variables of ``path``, or None if the path does not match."""
        try:
            path_segments = split(path)
        except ScopeViolation:
            return None
        if len(path_segments) != len(self.segments):
            return None
        names = {}
        for expected, segment in zip(self.segments, path_segments, strict=True):
            variable = _VARIABLE.fullmatch(expected)
            if variable:
                names[variable[1]] = segment
            elif expected != segment:
                return None
        return names


def scoped(pattern: str, *types: str, host: Callable[[], Host] | None = None) -> Callable[[Function], View]:
    """Decorate a function that takes a :class:`Call`, to run it with functions-framework.

    Args:
        pattern: the function's resources, such as ``apps/{app}/users/{uid}/uploads/{name}``. With ``{uid}`` the
            function gets that user's scope, otherwise the app's.
        types: the types of the CloudEvents that the function takes. Without types it is called over HTTP with the
            resource as the URL's path, and its results are the answer, by app.
        host: returns the host, and is called with the first request; by default the environment describes the host.

    Raises:
        ValueError: the pattern is not valid.
    """
    parsed = _Pattern.of(pattern)

    def decorate(function: Function) -> View:
        from functions_framework import http

        @functools.cache
        def app() -> Flask:
            built_host = (host or _host_of_environment)()
            return _events(function, parsed, types, built_host) if types else _calls(function, parsed, built_host)

        @functools.wraps(function)
        def view(request: Request) -> BaseResponse:
            return Response.from_app(app(), request.environ)

        # functions_framework looks for a plain function of this name, so the view is returned and not http's wrapper.
        http(view)
        return view

    return decorate


def _host_of_environment() -> Host:
    from .wiring import build_host

    return build_host()


def _events(function: Function, pattern: _Pattern, types: tuple[str, ...], host: Host) -> Flask:
    app = function_app(function.__name__, MAX_EVENT)

    @app.route("/", methods=["POST"])
    def receive() -> tuple[str, int]:
        _verify(host)
        event: Received | None = None
        try:
            event = _event(types)
            # Writes count as of the event's time, so an old event can't recreate a user who was erased since.
            with begun_at(event.time or BEGAN.get()):
                function(_call_of(event, pattern, host))
        except (Malformed, Ignored) as error:
            log.warning("%s let an event go: %s", function.__name__, error)
        except FirelaunchError as error:
            if error.status >= 500 or error.retry_after is not None or isinstance(error, StoreError):
                _raise_unless_old(error, event, function.__name__, expected=True)
            log.warning("%s let an event go: %s", function.__name__, error)
        except Exception as error:
            _raise_unless_old(error, event, function.__name__, expected=False)
        return "", 204

    return app


def _event(types: tuple[str, ...]) -> Received:
    try:
        body = request.get_data()
    except (TooLarge, RequestEntityTooLarge):
        raise Malformed(f"it is over {MAX_EVENT} bytes") from None
    event = received(dict(request.headers), body)
    if event.type not in types:
        raise Ignored(f"it is a {event.type[:100]!r}")
    return event


def _raise_unless_old(error: Exception, event: Received | None, name: str, *, expected: bool) -> None:
    """Raise ``error``, so that the sender repeats the event, unless an unexpected error meets an old event."""
    is_old = event is not None and event.time is not None and datetime.now(UTC) - event.time > _GIVE_UP
    if expected or not is_old:
        raise error
    log.error("%s gave up on an event: %s", name, type(error).__name__, exc_info=error)


def _call_of(event: Received, pattern: _Pattern, host: Host) -> Call:
    names = pattern.match(event.resource)
    if names is None:
        raise Ignored("its resource is none that this function is for")
    app = host.apps.get(names["app"])
    if app is None:
        raise Ignored("its app is not served here")
    _check_home(event.home, app)
    try:
        return _bound_call(app, names, event.data, event.id)
    except InvalidId as error:
        raise Ignored(f"its path is not valid: {error.message}") from None


def _check_home(home: Mapping[str, str], app: Services) -> None:
    """Refuse a resource whose name matches but that lies in another bucket, database or project."""
    cloud = app.settings.cloud
    database = app.settings.database
    if home.get("database", database) != database:
        raise Ignored("it is of another database")
    bucket = app.settings.documents.bucket or (f"{cloud.project}.firebasestorage.app" if cloud.project else "")
    if bucket and home.get("bucket", bucket) != bucket:
        raise Ignored("it is of another bucket")
    if cloud.project and home.get("project", cloud.project) != cloud.project:
        raise Ignored("it is of another project")


def _bound_call(app: Services, names: Mapping[str, str], data: Any, call_id: str) -> Call:
    scope = Scope(names["app"], names.get("uid"))
    other_names = {name: value for name, value in names.items() if name not in {"app", "uid"}}
    return Call(scope, app.within(scope), other_names, data, call_id)


def _calls(function: Function, pattern: _Pattern, host: Host) -> Flask:
    app = function_app(function.__name__, MAX_BODY)

    @app.route("/<path:resource>", methods=["POST"])
    def call(resource: str) -> dict[str, Any]:
        _verify(host)
        names = pattern.match(resource)
        if names is None:
            raise NotFound
        app_ids = sorted(host.apps) if names["app"] == EVERY_APP else [names["app"]]
        body = request.get_json() if request.get_data() else {}
        results: dict[str, Any] = {}
        for app_id in app_ids:
            if app_id not in host.apps:
                raise NotFound("That app is not served here.")
            results[app_id] = function(_bound_call(host.apps[app_id], {**names, "app": app_id}, body, _run_id()))
        return {"apps": results}

    return app


def _run_id() -> str:
    # https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget
    return request.headers.get("X-CloudScheduler-ScheduleTime", "")[:64]


def _verify(host: Host) -> None:
    if host.caller is not None:
        host.caller.verify(bearer(request.headers.get("Authorization")))
