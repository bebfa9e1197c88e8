"""Build the Flask app: request ids, authentication, errors, limits, CORS and the routes of :mod:`firelaunch.api`.

Nothing is open by default: a request needs a verified token unless ``_PUBLIC`` names its endpoint.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from inspect import unwrap
from typing import TYPE_CHECKING, Any, get_type_hints

from flask import Flask, Request, Response, current_app, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from flask_openapi3 import APIBlueprint, OpenAPI
from flask_openapi3.models import Info
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_jsonable_python
from werkzeug.exceptions import HTTPException

from ..api import (
    account,
    answers,
    batches,
    billing,
    chats,
    dev,
    devices,
    documents,
    exports,
    extract,
    files,
    groups,
    health,
    internal,
    jobs,
    mcp,
    memory,
    ops,
    ops_app,
    ops_audit,
    ops_contents,
    ops_page,
    ops_sums,
    ratings,
    reference,
    search,
    tryout,
    use_chat,
    web_client,
)
from ..api.base import CALLER_KEY, LOCALHOST, OwnTool, ViewContext
from ..api.openapi import Document, describe
from ..api.own_routes import OwnRoutes
from ..api.routes import Routes
from ..chats.ui_events import UI_HEADERS
from ..errors import BadRequest, FirelaunchError, NotFound, ScopeViolation, StoreUnavailable, TooLarge
from ..identity import Caller, bearer
from ..identity.known_callers import known
from ..metering.refusals import Refusals
from ..scope import Scope
from ..services.bundle import Services
from ..services.upload_limits import Uploads
from ..settings.app import Settings
from ..shutdown import Shutdown
from ..store.fence import BEGAN
from ..store.machine_faults import machine_fault
from ..store.schema import SchemaCheck
from ..telemetry import REQUEST_ID, TRACE, configure_logs
from ..telemetry.spans import Tracer
from ..turns.admit import Turns
from ..turns.batch import batch_handlers
from ..turns.guardrails import logged, moderated
from ..turns.resume import Answers, follower_slots
from ..turns.turn import Workflow
from ..worker import Handlers, Runner
from ..worker.tasks.ingest import document_handlers
from ..worker.tasks.meters import meter_handlers
from ..worker.tasks.reconcile import billing_handlers
from ..worker.tasks.reembed import reembed_handlers
from .background import Background, background
from .declared import Declared
from .request_spans import begin_span, finish_span, leave_span
from .tasks import upkeep_handlers
from .unreadable import refusal_of
from .url_rule import UrlRule

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["App", "handle_errors", "init_app", "invalid", "trust_hops"]

log = logging.getLogger(__name__)

_QUIET = frozenset({"health.live", "health.ready", "health.healthz", "health.readyz"})
_PUBLIC = _QUIET | {
    "reference.openapi_json",
    "reference.page",
    "reference.asset",
    "dev.token",
    "dev_stripe.receive",  # which asks for a signature
    "tryout.page",
    "tryout.asset",
    "web_client.config",
    "web_client.asset",
    "web_client.beside_page",
    "ops_page.page",
    "ops_page.asset",
}
_INTERNAL = frozenset({"internal.run", "internal.sweep", "internal.tick", "internal.event"})
"""Endpoints whose own blueprint verifies the token before any of its routes runs, as it is a token of another kind."""

_NOUNS = (
    chats,
    use_chat,
    files,
    ratings,
    answers,
    jobs,
    batches,
    documents,
    search,
    account,
    exports,
    billing,
    extract,
    mcp,
    devices,
    memory,
    ops,
    ops_app,
    ops_audit,
    ops_contents,
    ops_page,
    ops_sums,
    health,
    reference,
)
"""The modules with the API's routes, in the order of the OpenAPI document."""

_BODILESS = frozenset({204, 304})
_CODES = {405: "method_not_allowed", 413: "too_large"}


class _Request(Request):
    """A request that parses JSON bodies strictly: a faulty body is a 400 with the reason, never None."""

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        """Return the body.

        Raises:
            TooLarge: the body is over the limit.
        """
        raw = super().get_data(cache=cache, as_text=as_text, parse_form_data=parse_form_data)  # type: ignore[call-overload]
        # werkzeug silently cuts a chunked body at the limit, so a body that reaches the limit counts as over it.
        if self.max_content_length is not None and len(raw) >= self.max_content_length:
            raise TooLarge
        return raw

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002 - Flask's signature
        """Return the body, which has to be a JSON object, or its text if ``silent``.

        flask-openapi3 asks silently. It validates a text in pydantic's JSON mode, in which strict models take times and
        enums, which have no type of their own in JSON.
        """
        raw = self.get_data(cache=cache)
        if not raw:
            raise BadRequest("The body is empty: send a JSON object.")
        if not self.is_json:
            raise BadRequest("Send the body as JSON, with Content-Type: application/json.")
        try:
            body = from_json(raw)
        except ValueError as error:
            raise BadRequest(f"The body is not valid JSON: {error}.") from None
        if not isinstance(body, dict):
            raise BadRequest("The body is not a JSON object.")
        return raw.decode() if silent else body


class _JSONProvider(DefaultJSONProvider):
    """Lets views return dicts that hold pydantic models, times and whatever else pydantic has a JSON form for."""

    default = staticmethod(to_jsonable_python)
    sort_keys = False


class App(OpenAPI):
    """A Flask app that describes its routes at ``/openapi.json``.

    Args:
        routes: the app's own routes.
        collections: the collections of the app's own data.
        jobs: the app's own jobs.
        events: what the app does when data is written or a file is uploaded.
        mcp: what agents may call beside the app's chat: routes of the app, single views of theirs, functions, ``Tool``.
    """

    request_class = _Request
    json_provider_class = _JSONProvider
    url_rule_class = UrlRule

    def __init__(
        self,
        import_name: str,
        title: str = "firelaunch app",
        version: str = "1",
        *,
        routes: Sequence[Routes] = (),
        collections: Sequence[Any] = (),
        jobs: Sequence[Any] = (),
        events: Sequence[Any] = (),
        mcp: Sequence[Any] = (),
    ) -> None:
        super().__init__(
            import_name,
            info=Info(title=title, version=version),
            # The library's documentation page scans all installed packages for add-ons, which would slow every start.
            doc_ui=False,
            validation_error_status=400,
            validation_error_callback=invalid,
            static_folder=None,
        )
        # A slash at the end of a path changes nothing: a redirect would fail a preflight, and lose some bodies.
        self.url_map.strict_slashes = False
        self.declared = Declared(tuple(routes), tuple(collections), tuple(jobs), tuple(events), tuple(mcp))
        self.shutdown = Shutdown()
        self.about = ""
        self.write_seconds = 30.0
        self.body_seconds = 300.0
        self.queue_seconds = 5.0
        self.start_jobs: Callable[[], None] = lambda: None
        self.end: Callable[[], None] = lambda: None
        self.runner: Runner | None = None
        self.tracer: Tracer | None = None
        self.background: Background | None = None


def init_app(app: App, services: Services, workflow: Workflow, handlers: Handlers | None = None) -> None:
    """Add the routes, the error handling and the job runner to ``app``.

    Args:
        workflow: the app's function that answers a message.
        handlers: the handlers of the app's own kinds of jobs.

    Raises:
        SettingsError: what the app declares does not hold together. The message names each fault and its mend.
    """
    settings = services.settings
    services.data.declare(app.declared.collections)
    if app.declared.collections:
        from ..records.collection import check_collections, user_fields

        check_collections(app.declared.collections, groups=settings.has_groups)
        services.store.declare_users(user_fields(app.declared.collections))
        services.documents.declare_searchable(each.name for each in app.declared.collections if each.searchable)
    last_plan = services.metering.entitlements.last_of
    own = OwnRoutes(app.declared.routes, _routes(), settings, app.declared.collections, last_plan)
    app.info.title = settings.app.name
    app.tracer = services.tracer
    app.config["MAX_CONTENT_LENGTH"] = settings.limits.body_bytes
    app.write_seconds = settings.limits.write_seconds
    app.body_seconds = settings.limits.body_seconds
    app.queue_seconds = settings.limits.queue_seconds
    app.about = f": {settings.app.id}, {settings.environment.mode} mode, {settings.provider} model"
    if settings.environment.development:
        app.about += "; / to talk to it, /ops for its costs, /docs for its API"
    # As patterns: flask-cors would take the brackets of an IPv6 address for a pattern.
    origins = [origin if origin == "*" else f"^{re.escape(origin)}$" for origin in settings.page_origins]
    origins += [LOCALHOST] if settings.environment.development else []
    CORS(
        app,
        origins=origins,
        expose_headers=["X-Request-Id", "Retry-After", "Mcp-Session-Id", "WWW-Authenticate", *UI_HEADERS],
        max_age=3600,
    )
    configure_logs(
        structured=settings.environment.on_cloud_run,
        project=settings.cloud.project,
        content=settings.logs.content,
        laptop=settings.environment.development,
    )
    if settings.environment.on_cloud_run:
        trust_hops(app, settings.cloud.forwarded_hops)
    _warn(settings)
    refusals = Refusals(services.store, services.store.scope, services.clock)
    _handle_requests(app, services, own, refusals)
    handle_errors(app)
    workflow = _guarded(workflow, services)
    turns = Turns(services, workflow, app.shutdown)
    ours = document_handlers(reembed_handlers(handlers), app.declared.collections)
    job_handlers = meter_handlers(billing_handlers(upkeep_handlers(services, ours)))
    work = background(services, app.declared, batch_handlers(workflow, job_handlers), handlers)
    runner = Runner(services, work.handlers, app.shutdown)
    if settings.environment.development:
        work.observe(services)
    app.background = work

    def end() -> None:
        refusals.write()
        services.metering.close()

    app.end = end
    app.start_jobs = lambda: _start_jobs(app, services, runner, work)
    app.runner = runner
    slots = follower_slots(max(1, settings.cloud.concurrency // 2))

    app.extensions["firelaunch"] = ViewContext(
        services,
        turns,
        Answers(services, app.shutdown, slots),
        Uploads(services),
        _documents(app, services, own),
        _own_tools(app, own, settings),
    )
    for routes in [*_routes(services), *own.declared]:
        app.register_api(routes.blueprint())
    if own.public:
        log.info("public routes, which need no token: %s", ", ".join(own.public))
    for blueprint in _unlisted(services, runner, work):
        app.register_api(blueprint)


def _warn(settings: Settings) -> None:
    for said in settings.warnings:
        log.warning("%s", said)


def _documents(app: App, services: Services, own: OwnRoutes) -> Callable[[bool], Document]:
    """Return a function that returns the OpenAPI document, with or without the routes of admins."""
    # Making it takes part of a second, so those who ask meanwhile wait for it rather than make it again.
    making = threading.Lock()

    @cache
    def made(admins: bool) -> Document:
        return describe(app.info.title, app.info.version, _routes(services), own.declared, admins=admins)

    def document(admins: bool) -> Document:
        with making:
            return made(admins)

    return document


def _unlisted(services: Services, runner: Runner, work: Background) -> Iterator[APIBlueprint]:
    """The routes that no OpenAPI document shows, as no client calls them."""
    if services.checkout.webhooks is not None:
        from ..api import dev_stripe

        yield dev_stripe.api
    if services.internal is not None:
        yield internal.routes(services, runner, work.schedules, work.events)


def _own_tools(app: App, own: OwnRoutes, settings: Settings) -> Sequence[OwnTool]:
    if not app.declared.mcp:
        return ()
    from ..api.mcp_own import own_tools

    return own_tools(app.declared.mcp, own, max(1, settings.cloud.concurrency // 2))


def trust_hops(app: Flask, hops: int) -> None:
    """Make ``request.remote_addr`` the client's address when Google's front end forwards the connection.

    The front end appends the address of its caller to X-Forwarded-For, after whatever the client sent there. An
    external Application Load Balancer appends two addresses, the client's and its own
    (https://cloud.google.com/load-balancing/docs/https#x-forwarded-for_header).

    Args:
        hops: how many entries at the end of X-Forwarded-For trusted hops write.
    """
    from werkzeug.middleware.proxy_fix import ProxyFix

    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=0, x_host=0)  # type: ignore[method-assign]


def _start_jobs(app: App, services: Services, runner: Runner, work: Background) -> None:
    queue = services.jobs
    if services.settings.environment.development:
        work.start(services, app.shutdown)
    if queue.backend is not None:
        queue.backend.start(lambda most: [] if app.shutdown.begun else queue.due(most), runner.run)


def _guarded(workflow: Workflow, services: Services) -> Workflow:
    if services.moderate is not None:
        workflow = moderated(workflow, services.moderate)
    return logged(workflow) if services.settings.logs.content else workflow


def _routes(services: Services | None = None) -> list[Routes]:
    """Return the routes of the API: those that an app with ``services`` has, or all that any app may have."""
    with_groups = services is None or services.settings.has_groups
    routes = [noun.api for noun in (*_NOUNS, *((groups,) if with_groups else ()))]
    development = services is None or services.dev_identity is not None
    client = [web_client.api] if services is not None and services.settings.environment.web else []
    return [*routes, dev.api, tryout.api, *client] if development else routes


def _handle_requests(app: App, services: Services, own: OwnRoutes, refusals: Refusals) -> None:
    warming = services.warming
    check = SchemaCheck(services.store).begin if not services.settings.environment.development else lambda: None

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        BEGAN.set(datetime.now(UTC))
        REQUEST_ID.set("req_" + secrets.token_hex(10))
        TRACE.set(request.headers.get("X-Cloud-Trace-Context", "").partition("/")[0] or None)
        begin_span(None if request.endpoint in _QUIET else app.tracer)
        if request.method == "OPTIONS" or request.endpoint in _PUBLIC:
            return
        if own.is_public(request.endpoint):
            _enter_public(services, own)
            return
        warming.begin()
        check()
        if services.internal is not None and request.endpoint in _INTERNAL:
            return
        if request.endpoint is None:  # a 404 or 405. /openapi.json tells everybody which routes there are.
            return
        g.caller = request.environ.get(CALLER_KEY) or _verified(services)
        known(request.environ, g.caller.uid)
        own.check_guest()
        own.enter()
        _let_in(services, g.caller.scope, guest=g.caller.guest)
        own.check_feature()

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        BEGAN.set(None)
        leave_span()
        own.leave()

    @app.after_request
    def finish(response: Response) -> Response:
        own.leave_with(response)
        # Somebody waits for an instance's first answer, and mostly it is a health check's.
        response.call_on_close(warming.begin)
        if response.status_code == 401 and request.endpoint == mcp.ENDPOINT:
            response.headers["WWW-Authenticate"] = mcp.challenge()
        _drop_type_without_body(response)
        response.headers["X-Request-Id"] = REQUEST_ID.get() or ""
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        finish_span(response)
        _count_refusal(refusals)
        if request.endpoint not in _QUIET:
            # Log the rule and not the path, which holds a user's ids. For a stream this is the time to its headers.
            milliseconds = (time.monotonic() - g.began) * 1000
            log.info("%s %s %s %.0f ms", request.method, request.url_rule or "-", response.status_code, milliseconds)
        return response


def _count_refusal(refusals: Refusals) -> None:
    if "refused" in g and request.url_rule is not None:  # paths that strangers guess are no requests
        refusals.add(g.refused)


def _verified(services: Services) -> Caller:
    """Return the user that the request's token was issued to."""
    everybody = services.settings.identity.app_check_for == "all"
    if everybody:
        _check_client(services)
    identity = services.agents if request.endpoint == mcp.ENDPOINT else services.identity
    caller = identity.verify(bearer(request.headers.get("Authorization")))
    if caller.guest and not everybody:
        _check_client(services)
    return caller


def _enter_public(services: Services, own: OwnRoutes) -> None:
    """Take a place for a request without a token. One that calls a model is a guest's."""
    own.enter()
    visitor = g.get("visitor")
    if visitor is not None:
        _check_client(services)
        _let_in(services, visitor, guest=True)


def _let_in(services: Services, user: Scope, *, guest: bool) -> None:
    if services.guests is not None:
        services.guests.enter(user, guest=guest)


def _check_client(services: Services) -> None:
    if services.app_check is not None:
        services.app_check.verify(request.headers.get("X-Firebase-AppCheck"))


def _drop_type_without_body(response: Response) -> None:
    """Take Flask's default type from an answer that has no body, which a client would try to read."""
    if response.status_code in _BODILESS or (response.is_sequence and not any(response.response)):
        response.headers.pop("Content-Type", None)


def handle_errors(app: App) -> None:
    """Make ``app`` answer every error in one format, and log the details that the client doesn't see."""

    @app.errorhandler(FirelaunchError)
    def firelaunch_error(error: FirelaunchError) -> Response:
        if isinstance(error, ScopeViolation):
            log.error("security: %s", error)
        elif error.status >= 500:
            _log_failure(error)
        elif error.reason is not None:
            log.warning("%s: %s", error.code, error)
        return _answer(error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = error.get_response()
        status = error.code or 500
        if isinstance(response, Response) and status < 400:
            return response
        answer = _form(
            status,
            _CODES.get(status, "not_found" if status == 404 else "invalid_request"),
            NotFound.message if status == 404 else error.description or "The request is not valid.",
        )
        for name in ("Allow", "Retry-After"):
            if name in response.headers:
                answer.headers[name] = response.headers[name]
        return answer

    @app.errorhandler(Exception)
    def unexpected_error(error: Exception) -> Response:
        return _unexpected(error)


def _unexpected(error: Exception) -> Response:
    refusal = refusal_of(error)
    if refusal is not None:
        log.warning("a model could not read a request: %s", type(error).__name__, exc_info=error)
        return _answer(refusal)
    fault = machine_fault(error)
    if fault is not None:
        _log_failure(fault)
        return _answer(fault)
    log.error("unexpected: %s", type(error).__name__, exc_info=error)
    return _answer(FirelaunchError())


def _log_failure(error: FirelaunchError) -> None:
    """Log an error of the server's. For one of the machine its own words say all, and every request has the same."""
    log.error("%s: %s", error.code, error, exc_info=None if isinstance(error, StoreUnavailable) else error)


def _answer(error: FirelaunchError) -> Response:
    answer = _form(error.status, *error.for_client)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _form(status: int, code: str, message: str) -> Response:
    answer = jsonify({"error": {"code": code, "message": message, "request_id": REQUEST_ID.get() or ""}})
    answer.status_code = status
    if status < 500:
        g.refused = code
    return answer


def invalid(error: ValidationError) -> Response:
    """Return the response to a body, path or query that its model rejects."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    kind = TooLarge if problems[0]["type"] == "string_too_long" and problems[0]["loc"] == ("text",) else BadRequest
    first_of_each: dict[Any, ErrorDetails] = {}  # a field of a union has a problem for each of its types
    for problem in problems:
        first_of_each.setdefault(problem["loc"][:1], problem)
    said = [_said(problem, error.title) for problem in first_of_each.values()]
    more = f"; and {len(said) - _MOST_PROBLEMS} more" if len(said) > _MOST_PROBLEMS else ""
    return _answer(kind("; ".join(said[:_MOST_PROBLEMS]) + more))


_MOST_PROBLEMS = 5
"""The most problems of a request that its error names."""


def _said(problem: ErrorDetails, model_name: str) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "body"
    query = _query_model()
    if problem["type"] == "extra_forbidden" and query is not None and query.__name__ == model_name:
        names = ", ".join(field.alias or name for name, field in query.model_fields.items()) or "none"
        return f"{where}: there is no such parameter. There are: {names}{getattr(query, 'on_unknown', '')}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _query_model() -> type[BaseModel] | None:
    """Return the model of the query of the view that the request is for, if it has one."""
    view = unwrap(current_app.view_functions[request.endpoint or "static"])
    model = get_type_hints(view).get("query")
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None
