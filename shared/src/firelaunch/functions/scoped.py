"""``@scoped("apps/{app}/users/{uid}/...")``: a function that reaches the scope its resource lies in, and nothing else.

The pattern says which resources the function is for. Whatever it does not match, and whatever is of an app that is not
served here, never reaches the function: deny by default.

An event is answered with 2xx when it is done, and also when it can never be done: no CloudEvent, of another resource,
another app, another bucket or database, or of a kind the function refuses. Eventarc and Pub/Sub send everything else
again for a day, so what cannot get better must not be refused with an error; it is logged and let go.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from flask import Flask, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from ..errors import FirelaunchError, InvalidId, NotFound, ScopeViolation, StoreError, TooLarge
from ..identity import bearer
from ..scope import Scope, split
from ..services import Services
from ..store.fence import BEGAN, begun_at
from .events import Malformed, Received, received
from .http import function_app

__all__ = ["EVERY_APP", "Call", "Caller", "Host", "Ignored", "scoped"]

log = logging.getLogger(__name__)

EVERY_APP = "-"
"""As the app of an HTTP call: each of the apps that are served, in turn."""

MAX_EVENT = 16 * 1024 * 1024
"""Bytes. A document has 1 MiB at most (https://firebase.google.com/docs/firestore/quotas), an event holds two, and JSON
with base64 takes a few times as much."""

MAX_BODY = 64 * 1024
"""Bytes of a call's body at most."""

_GIVE_UP = timedelta(hours=1)
"""How old an event is when an error that nobody expected is the last one. A fault in the code ends there; a database
that is down has the event sent again for as long as its sender does."""

_VARIABLE = re.compile(r"\{([a-z]+)\}")


class Ignored(Exception):
    """For functions to raise: there is nothing to be done for this event. The message is logged."""


class Caller(Protocol):
    """Verifies who calls."""

    def verify(self, token: str) -> None:
        """Return if ``token`` is of the one that may.

        Raises:
            Unauthenticated: it is not.
        """


@dataclass(frozen=True, slots=True)
class Host:
    """What functions run on: the apps that they serve, by id, and who may call (anybody, where that is None)."""

    apps: Mapping[str, Services]
    caller: Caller | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Args:
        scope: derived from the resource's path.
        services: bound to ``scope``: no path and no job outside of it can be reached.
        names: the pattern's other variables.
        data: a ``StorageObject``, a ``Change``, or the body of an HTTP call.
        id: the same for each delivery of the same event, or of the same run of Cloud Scheduler; "" where nothing is
            known that would tell a repeated call.
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
    segments: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> _Pattern:
        segments = tuple(text.split("/"))
        names = [found[1] for segment in segments if (found := _VARIABLE.fullmatch(segment))]
        if segments[:2] != ("apps", "{app}") or len(set(names)) < len(names) or "" in segments:
            raise ValueError(f"{text!r} is no pattern: it begins with apps/{{app}}, and its names differ")
        if "uid" in names and segments[2:4] != ("users", "{uid}"):
            raise ValueError(f"{text!r} is no pattern: a user's path begins with apps/{{app}}/users/{{uid}}")
        return cls(segments)

    def match(self, path: str) -> dict[str, str] | None:
        """The variables of ``path``, if it is one of these."""
        try:
            given = split(path)
        except ScopeViolation:
            return None
        if len(given) != len(self.segments):
            return None
        names = {}
        for wanted, there in zip(self.segments, given, strict=True):
            variable = _VARIABLE.fullmatch(wanted)
            if variable:
                names[variable[1]] = there
            elif wanted != there:
                return None
        return names


def scoped(pattern: str, *types: str, host: Callable[[], Host] | None = None) -> Callable[[Function], View]:
    """A decorator: makes a function of functions-framework out of one that takes a :class:`Call`.

    Args:
        pattern: the resources that it is for, such as ``apps/{app}/users/{uid}/uploads/{name}``. With ``{uid}`` it is
            handed that user's scope, else the app's.
        types: of the CloudEvents that it takes. Without any it is called over HTTP, with the resource as the URL's
            path; what it returns is the answer, by app.
        host: made at the first call; from the environment where it is left out.

    Raises:
        ValueError: the pattern is none.
    """
    parsed = _Pattern.of(pattern)

    def decorate(function: Function) -> View:
        from functions_framework import http

        @functools.cache
        def app() -> Flask:
            on = (host or _host_of_environment)()
            return _events(function, parsed, types, on) if types else _calls(function, parsed, on)

        @functools.wraps(function)
        def view(asked: Request) -> BaseResponse:
            return Response.from_app(app(), asked.environ)

        # functions_framework looks for a plain function of this name, so it is handed ours and not its own wrapper.
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
            # An event tells of what was; a user who was erased since is not made anew by it.
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
    """Have the event sent again, but not for ever."""
    old = event is not None and event.time is not None and datetime.now(UTC) - event.time > _GIVE_UP
    if expected or not old:
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
        return _bound(app, names, event.data, event.id)
    except InvalidId as error:
        raise Ignored(f"its path is not valid: {error.message}") from None


def _check_home(home: Mapping[str, str], app: Services) -> None:
    """A resource of the right name in another bucket, database or project is not this app's."""
    cloud = app.settings.cloud
    database = app.settings.database
    if home.get("database", database) != database:
        raise Ignored("it is of another database")
    bucket = app.settings.documents.bucket or (f"{cloud.project}.firebasestorage.app" if cloud.project else "")
    if bucket and home.get("bucket", bucket) != bucket:
        raise Ignored("it is of another bucket")
    if cloud.project and home.get("project", cloud.project) != cloud.project:
        raise Ignored("it is of another project")


def _bound(app: Services, names: Mapping[str, str], data: Any, call_id: str) -> Call:
    scope = Scope(names["app"], names.get("uid"))
    others = {name: value for name, value in names.items() if name not in {"app", "uid"}}
    return Call(scope, app.within(scope), others, data, call_id)


def _calls(function: Function, pattern: _Pattern, host: Host) -> Flask:
    app = function_app(function.__name__, MAX_BODY)

    @app.route("/<path:resource>", methods=["POST"])
    def call(resource: str) -> dict[str, Any]:
        _verify(host)
        names = pattern.match(resource)
        if names is None:
            raise NotFound
        served = sorted(host.apps) if names["app"] == EVERY_APP else [names["app"]]
        body = request.get_json() if request.get_data() else {}
        told: dict[str, Any] = {}
        for app_id in served:
            if app_id not in host.apps:
                raise NotFound("That app is not served here.")
            told[app_id] = function(_bound(host.apps[app_id], {**names, "app": app_id}, body, _run_id()))
        return {"apps": told}

    return app


def _run_id() -> str:
    # https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget
    return request.headers.get("X-CloudScheduler-ScheduleTime", "")[:64]


def _verify(host: Host) -> None:
    if host.caller is not None:
        host.caller.verify(bearer(request.headers.get("Authorization")))
