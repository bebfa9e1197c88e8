"""Describe routes: their views, what they answer, and who may call them. :mod:`.base` has what views work with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from types import NoneType, UnionType
from typing import Any, TypedDict, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from flask import request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, create_model
from werkzeug.wrappers import Response

from ..errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    FeatureMissing,
    Fenced,
    FirelaunchError,
    InvalidCursor,
    InvalidId,
    JobsUnavailable,
    NotFound,
    NoUploadRoom,
    PreconditionFailed,
    RateLimited,
    TooLarge,
    TooManyUploads,
)
from ..paging import Page
from ..settings.sections import RateName
from .refusals import OF_A_MODEL_CALL, errors, errors_of_anyone
from .schemas import whole_example

__all__ = ["Route", "RouteOptions", "Routes", "place_of"]

_OF_A_VIEW: tuple[type[FirelaunchError], ...] = (
    *(TooLarge, InvalidId, InvalidCursor, NotFound),
    *(Conflict, AlreadyExists, PreconditionFailed, Fenced, JobsUnavailable),
)
"""Errors of every view that works with the app's data or enqueues jobs."""

_KNOWN = ("public", "guests", "feature", "status", "body_bytes", "calls_model", "rate")

View = TypeVar("View", bound=Callable[..., Any])


class RouteOptions(TypedDict, total=False):
    """What a route may be given beside its rule.

    ``summary`` is its line in the OpenAPI document; the first line of the view's docstring if left out. ``feature``
    is a feature that the caller's plan has to switch on. ``public`` says whether it needs no token, and ``guests``
    whether users without an account may call it, where the app has a plan for them; both as its ``Routes`` if left out.
    ``status`` is that of an answer that names none. ``body_bytes`` are the most bytes of a request's
    body; ``limits.body_bytes`` of the settings if left out. ``calls_model`` says whether the view calls a model,
    whose errors it then documents. ``errors`` are further errors that the view may raise, beside those of all routes.
    ``responses`` describes answers by status; the view's return annotation does if left out. With errors among them,
    they are all there are. ``operation_id`` names the operation in generated clients; made of the names of the routes
    and the view if left out. ``consumes`` are the media types of a body that is no JSON, which the view reads from
    Flask's ``request``: any other is a 400. ``produces`` are those of an answer that is no JSON.
    ``rate`` is the name in ``[rates]`` of the settings under which a user's requests are counted.
    ``openapi_extensions`` are put into the operation as they are.
    """

    summary: str
    description: str
    feature: str
    public: bool
    guests: bool
    status: int
    body_bytes: int
    calls_model: bool
    rate: RateName
    errors: Sequence[type[FirelaunchError]]
    responses: Any
    operation_id: str
    consumes: Sequence[str]
    produces: Sequence[str]
    deprecated: bool
    endpoint: str
    openapi_extensions: Any


@dataclass(frozen=True)
class Route:
    """One route: a method, a path, and the view that answers.

    Attributes:
        path: the whole path, with Werkzeug's placeholders: "/api/meals/<id>".
        replaceable: whether a view that is registered later for the same method and path takes this one's place.
    """

    method: str
    rule: str
    path: str
    view: Callable[..., Any]
    options: Mapping[str, Any]
    public: bool
    guests: bool = False
    feature: str | None = None
    status: int | None = None
    body_bytes: int | None = None
    calls_model: bool = False
    rate: RateName | None = None
    errors: tuple[type[FirelaunchError], ...] = ()
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    replaceable: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The method and the path without the names of its placeholders: two routes of one key are one to a client.

        A slash at the end makes no other route: requests with it and without it are answered alike.
        """
        return self.method, re.sub(r"<[^>]*>", "<>", self.path).rstrip("/") or "/"

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The annotations of the view.

        Raises:
            NameError: one of them is not defined.
        """
        return get_type_hints(self.view)

    @cached_property
    def answer(self) -> Any:
        """The type of what the view answers, without a status beside it; Any where it is Flask's to send."""
        answer = _body_type(self.hints.get("return", Any))
        return Any if (get_origin(answer) or answer) is dict else answer

    def described(self) -> dict[str, Any]:
        """Return the options for the OpenAPI document."""
        options = {name: value() if callable(value) else value for name, value in self.options.items()}
        responses = options.get("responses") or {}
        if not any(str(status) >= "400" for status in responses):
            of_all = (*_OF_A_VIEW, *self.errors, *(OF_A_MODEL_CALL if self.calls_model else ()))
            of_all += (RateLimited, *((TooManyUploads, NoUploadRoom) if self.body_bytes else ()))
            faults = errors_of_anyone(*of_all) if self.public else errors(*of_all, FeatureMissing)
            options["responses"] = {**(responses or self._success()), **faults}
        if not options.get("summary") and not inspect.getdoc(self.view):
            options["summary"] = self.view.__name__.replace("_", " ").capitalize()
        return options

    def _success(self) -> dict[Any, Any]:
        hint = _body_type(self.hints.get("return", Any))
        if self.produces:
            content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in self.produces}
            return {self.status or 200: {"content": content}}
        if hint is NoneType:
            return {self.status or 204: None}
        if hint is Any:
            return {self.status or 200: {}}
        paired = get_origin(self.hints["return"]) is tuple and self.status is None
        something = _without_none(hint)
        answers = {"2XX" if paired else self.status or 200: _documented(something, self.view.__name__)}
        return {**answers, 204: None} if something is not hint and self.status in (None, 200) else answers

    def served(self) -> Callable[..., Any]:
        """Return the view, whose models and lists of models become JSON.

        What pydantic sends is what the annotation says: a model's subclass has no more fields in the answer.
        """
        view = _consuming(self.view, self.consumes) if self.consumes else self.view
        if self.answer is Any:
            return view if self.status is None else _with_status(view, self.status)
        adapter, usual = TypeAdapter(self.answer), self.status or 200

        @wraps(view, updated=())
        def serve(**arguments: Any) -> Any:
            value, *more = _unpaired(view(**arguments))
            if isinstance(value, Response):
                return (value, *more) if more else value
            status = next((part for part in more if isinstance(part, int)), usual)
            headers = next((part for part in more if not isinstance(part, int)), None)
            if value is None or value == "":
                return Response(status=204 if status == 200 else status, headers=headers)
            body = adapter.dump_json(value, by_alias=True, warnings="error")
            return Response(body, status, headers, mimetype="application/json")

        return serve


class Routes:
    """Routes of an app, or of one noun of firelaunch's own API.

    Views are module-level functions. Decorate them as on a Flask blueprint: ``@routes.get("/meals", summary=...)``. A
    view takes ``body``, ``query`` and ``path``, each annotated with a pydantic model, and returns what its annotation
    says: a pydantic model, a list of them, either with a status as in ``return meal, 201``, or None. Each route needs a
    token unless it is public.

    Args:
        name: the name in front of the views' in operation ids.
        tag: the group in the OpenAPI document; the name if left out.
        prefix: the path in front of each rule.
        public: whether the routes need no bearer token.
        guests: whether users without an account may call them, where the app has a plan for them.
    """

    def __init__(
        self, name: str, tag: str = "", *, prefix: str | None = "/api", public: bool = False, guests: bool = False
    ) -> None:
        self.name = name
        self.tag = tag or name
        self.prefix = prefix or ""
        self.public = public
        self.guests = guests
        self.routes: list[Route] = []
        self._blueprint: APIBlueprint | None = None
        self.collection: object = None
        """The collection that :func:`.crud.crud` made these of, which the app has to declare, too."""

    def get(self, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view for GET requests to ``rule``."""
        return self._view("get", rule, options)

    def post(self, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view for POST requests to ``rule``."""
        return self._view("post", rule, options)

    def put(self, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view for PUT requests to ``rule``."""
        return self._view("put", rule, options)

    def patch(self, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view for PATCH requests to ``rule``."""
        return self._view("patch", rule, options)

    def delete(self, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view for DELETE requests to ``rule``."""
        return self._view("delete", rule, options)

    def default(self, method: str, rule: str, **options: Unpack[RouteOptions]) -> Callable[[View], View]:
        """Register a view whose place another one takes that is registered later for the same method and path."""
        return self._view(method, rule, options, replaceable=True)

    def _view(
        self, method: str, rule: str, options: RouteOptions, *, replaceable: bool = False
    ) -> Callable[[View], View]:
        own: dict[str, Any] = {"public": self.public, "guests": self.guests, **options}
        known = {name: own.pop(name) for name in _KNOWN if name in own}
        several: Any = {name: tuple(own.pop(name, ())) for name in ("errors", "consumes", "produces")}

        def register(view: View) -> View:
            path = self.prefix + rule
            route = Route(method, rule, path, view, own, **known, **several, replaceable=replaceable)
            self.routes = [each for each in self.routes if not (each.replaceable and each.key == route.key)]
            self.routes.append(route)
            self._blueprint = None
            return view

        return register

    def endpoint(self, route: Route) -> str:
        """Return the name by which Flask knows a route of these."""
        name = route.options.get("endpoint", route.view.__name__)
        namesakes = [each for each in self.routes if each.options.get("endpoint", each.view.__name__) == name]
        number = namesakes.index(route)
        return f"{self.name}.{name}" if number == 0 else f"{self.name}.{name}_{number + 1}"

    def blueprint(self) -> APIBlueprint:
        """Return the blueprint that serves the routes, one for any number of apps. :mod:`.document` describes them."""
        if self._blueprint is not None:
            return self._blueprint
        blueprint = APIBlueprint(self.name, __name__, doc_ui=False, url_prefix=self.prefix or None)
        for route in self.routes:
            endpoint = self.endpoint(route).partition(".")[2]
            getattr(blueprint, route.method)(route.rule, endpoint=endpoint)(route.served())
        self._blueprint = blueprint
        return blueprint


def place_of(view: Callable[..., Any]) -> str:
    """Return the name of a view and where it is written, for messages to the app's developer."""
    if hasattr(view, "place"):
        return str(view.place)
    code = getattr(inspect.unwrap(view), "__code__", None)
    name = getattr(view, "__name__", repr(view))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def _consuming(view: Callable[..., Any], media_types: Sequence[str]) -> Callable[..., Any]:
    """Wrap a view so that it runs for bodies of these media types alone."""

    @wraps(view, updated=())
    def serve(**arguments: Any) -> Any:
        if request.mimetype not in media_types:
            raise BadRequest(f"Send a body with one of these as its Content-Type: {', '.join(media_types)}.")
        return view(**arguments)

    return serve


def _with_status(view: Callable[..., Any], status: int) -> Callable[..., Any]:
    """Wrap a view whose answers Flask sends, so that those without a status of their own have ``status``."""

    @wraps(view, updated=())
    def serve(**arguments: Any) -> Any:
        value = view(**arguments)
        return value if isinstance(value, tuple | Response) else (value, status)

    return serve


def _unpaired(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _body_type(hint: Any) -> Any:
    """Return the type of an answer's body: without a status or headers beside it, and without responses of Flask's."""
    origin = get_origin(hint)
    if origin is tuple:
        return _body_type(get_args(hint)[0])
    if origin in {Union, UnionType}:
        kinds = list(dict.fromkeys(_body_type(part) for part in get_args(hint)))
        kinds = [kind for kind in kinds if kind is not Any] or [Any]
        return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 - made of a list
    return Any if isinstance(hint, type) and issubclass(hint, Response) else hint


def _without_none(hint: Any) -> Any:
    """Return the type of an answer that has a body: None has none, and is a 204."""
    if get_origin(hint) not in {Union, UnionType} or NoneType not in get_args(hint):
        return hint
    kinds = tuple(kind for kind in get_args(hint) if kind is not NoneType)
    return Union[kinds]  # noqa: UP007 - made of a list


def _documented(hint: Any, view: str) -> type[BaseModel]:
    """Return a model for the OpenAPI document, which names each."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    origin, item = get_origin(hint), next(iter(get_args(hint)), None)
    if origin in {list, Page} and isinstance(item, type) and issubclass(item, BaseModel):
        shown = whole_example(item)
        examples = None if shown is None else [shown]
        if origin is list:
            return _root_model(f"{item.__name__}List", hint, examples)
        page: Any = None if examples is None else {"items": examples, "next_cursor": None}
        fields: Any = {"items": (list[item], ...), "next_cursor": (str | None, ...)}  # type: ignore[valid-type]
        config = ConfigDict(json_schema_extra={} if page is None else {"example": page})
        return create_model(f"{item.__name__}Page", __config__=config, __doc__="A page of a list.", **fields)
    return _root_model(f"{view.title().replace('_', '')}Answer", hint, None)


def _root_model(name: str, hint: Any, shown: Any) -> type[BaseModel]:
    config = ConfigDict(json_schema_extra={} if shown is None else {"example": shown})
    return type(name, (RootModel[hint],), {"__module__": __name__, "model_config": config})
