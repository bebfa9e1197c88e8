"""Limit a function to the scope of its resource: ``@scoped("apps/{app}/users/{uid}/...")``.

The pattern says which resources the function is for. A call for another resource, or for an app that is not served
here, never reaches the function: deny by default.

An event gets a 2xx when it is handled, and also when it never can be: it is no CloudEvent, or of another resource,
app, bucket or database, or of a type that the function does not take. Eventarc and Pub/Sub send all other events again
for a day, so an event that will never succeed must not get an error. It is logged and dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from ..errors import InvalidId, NotFound, TooLarge
from ..events import MAX_EVENT, Ignored, Malformed, PathPattern, Received, acknowledge, check_home, received
from ..identity import bearer
from ..identity.known_callers import known
from ..scope import Scope
from ..services.bundle import Services
from ..store.fence import BEGAN, begun_at
from ..telemetry.spans import consumed
from .host import Host
from .http import function_app

__all__ = ["EVERY_APP", "Call", "Ignored", "scoped"]

EVERY_APP = "-"
"""The app in the path of an HTTP call that is for each served app in turn."""

MAX_BODY = 64 * 1024
"""Most bytes of a call's body."""


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


def _pattern(text: str) -> PathPattern:
    pattern = PathPattern.of(text)
    if pattern.segments[:2] != ("apps", "{app}"):
        raise ValueError(f"{text!r} is no pattern: it begins with apps/{{app}}")
    if "uid" in pattern.variables and pattern.segments[2:4] != ("users", "{uid}"):
        raise ValueError(f"{text!r} is no pattern: a user's path begins with apps/{{app}}/users/{{uid}}")
    return pattern


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
    parsed = _pattern(pattern)

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


def _events(function: Function, pattern: PathPattern, types: tuple[str, ...], host: Host) -> Flask:
    app = function_app(function.__name__, MAX_EVENT)
    app.tracer = host.tracer

    @app.route("/", methods=["POST"])
    def receive() -> tuple[str, int]:
        _verify(host)
        event: Received | None = None
        try:
            event = _event(types)
            # Writes count as of the event's time, so an old event can't recreate a user who was erased since.
            with begun_at(event.time or BEGAN.get()), consumed(host.tracer, f"event {function.__name__}", event.trace):
                function(_call_of(event, pattern, host))
        except Exception as error:
            acknowledge(error, event, function.__name__)
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


def _call_of(event: Received, pattern: PathPattern, host: Host) -> Call:
    names = pattern.match(event.resource)
    if names is None:
        raise Ignored("its resource is none that this function is for")
    app = host.apps.get(names["app"])
    if app is None:
        raise Ignored("its app is not served here")
    check_home(event.home, app.settings)
    try:
        return _bound_call(app, names, event.data, event.id)
    except InvalidId as error:
        raise Ignored(f"its path is not valid: {error.message}") from None


def _bound_call(app: Services, names: Mapping[str, str], data: Any, call_id: str) -> Call:
    scope = Scope(names["app"], names.get("uid"))
    other_names = {name: value for name, value in names.items() if name not in {"app", "uid"}}
    return Call(scope, app.within(scope), other_names, data, call_id)


def _calls(function: Function, pattern: PathPattern, host: Host) -> Flask:
    app = function_app(function.__name__, MAX_BODY)
    app.tracer = host.tracer

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
        known(request.environ, "/caller")
