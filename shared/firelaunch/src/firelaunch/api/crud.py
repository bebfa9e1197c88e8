"""Make the five usual routes of a collection: list, add, get, update and delete."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from collections.abc import Collection as AnyCollection
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ..errors import BadRequest, PreconditionFailed, SettingsError
from ..paging import Page
from ..records.collection import Collection
from ..records.fields import field_type
from ..records.record import Record, time_of
from .base import PageQuery, admins_only, data
from .routes import RouteOptions, Routes

__all__ = ["Action", "crud"]

M = TypeVar("M", bound=Record)

Action = Literal["list", "add", "get", "update", "delete"]
_ACTIONS: tuple[Action, ...] = ("list", "add", "get", "update", "delete")

_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The record's `revision`: with another one, nothing is changed and the answer is a 409.",
    "schema": {"type": "string", "maxLength": 18, "pattern": '^([*]|"[0-9a-f]{1,16}"|[0-9a-f]{1,16})$'},
}
_REVISION = re.compile(r'[*]|"([0-9a-f]{1,16})"|([0-9a-f]{1,16})')
_CURSOR_CHARACTERS = 3_000
"""The most characters of a cursor: it holds the last record's id, and the values that the list is sorted by.

It is a part of the request's first line, which has at most 4,094 bytes (gunicorn's ``limit_request_line``).
"""

_BOUNDS = {"_from": ">=", "_before": "<"}
"""Endings of parameters that compare a field, and how they compare."""


class RecordPath(BaseModel):
    """A record's path. The id is checked where it becomes part of a database path."""

    id: str = Field(description="The record's id.", json_schema_extra={"pattern": "^[^/]+$", "maxLength": 1500})


def crud(
    collection: Collection[Any],
    *,
    prefix: str = "/api",
    only: AnyCollection[Action] | tuple[Action, ...] = _ACTIONS,  # mypy takes ("list",) for a tuple[str] else
    name: str = "",
    feature: str | None = None,
) -> Routes:
    """Return routes that list, add, read, change and delete the records of a collection.

    A user reaches their own records. All members read an app-wide collection, and admins write it. A view that you
    register for one of the routes takes its place: ``@routes.post("/meals")``.

    Args:
        prefix: the path in front of the collection's name.
        only: the routes to make: "list", "add", "get", "update", "delete".
        name: the name of the routes and their group in the OpenAPI document; the collection's if left out.
        feature: a feature that the caller's plan has to switch on, for all of the routes.

    Raises:
        SettingsError: ``collection`` is none, or ``only`` names something else.
    """
    if not isinstance(collection, Collection):
        raise SettingsError(f"crud({collection!r}): give a Collection.")
    for action in only:
        if action not in _ACTIONS:
            raise SettingsError(f"crud({collection.name!r}): only={action!r} is none of {', '.join(_ACTIONS)}.")
    caller_frame = sys._getframe(1)
    place = f"crud({collection.name!r}) ({caller_frame.f_code.co_filename}:{caller_frame.f_lineno})"
    routes = Routes(name or collection.name, prefix=prefix)
    routes.collection = collection
    for view in _Views(collection).views():
        if view.action in only:
            view.function.__name__ = f"{view.action}_{collection.name}"
            view.function.__dict__["place"] = place
            noun = collection.name if view.action == "list" else collection.model.__name__
            options: RouteOptions = {"summary": view.summary, "operation_id": f"{view.action} {noun}", **view.options}
            if feature is not None:
                options["feature"] = feature
            routes.default(view.method, f"/{collection.name}{view.rule}", **options)(view.function)
    return routes


@dataclass(frozen=True, slots=True)
class _View:
    action: Action
    method: str
    rule: str
    summary: str
    function: Callable[..., Any]
    options: RouteOptions


class _Views(Generic[M]):
    """The views of one collection."""

    def __init__(self, collection: Collection[M]) -> None:
        self._collection = collection
        self._query = _ListQuery(collection)

    def views(self) -> Iterator[_View]:
        model, noun = self._collection.model, self._collection.name.replace("_", " ")
        matched: RouteOptions = {"openapi_extensions": {"x-headers": [_IF_MATCH]}}
        yield _View("list", "get", "", f"List {noun}", self._list(model), {})
        yield _View("add", "post", "", f"Add to {noun}", self._add(model), {"status": 201})
        yield _View("get", "get", "/<id>", f"Read one of {noun}", self._get(model), {})
        yield _View("update", "patch", "/<id>", f"Change one of {noun}", self._update(model), matched)
        yield _View("delete", "delete", "/<id>", f"Delete one of {noun}", self._delete(), matched)

    def _list(self, model: type[M]) -> Callable[..., Any]:
        def view(query: Any) -> Page[M]:
            return self._query.run(query)

        return _annotated(view, query=self._query.model, answer=Page[model])  # type: ignore[valid-type]

    def _add(self, model: type[M]) -> Callable[..., Any]:
        def view(body: Any) -> M:
            self._check_writer()
            fields = {name: getattr(body, name) for name in model.model_fields}
            return data(self._collection).add(model.model_construct(body.model_fields_set, **fields))

        return _annotated(view, body=_new(model), answer=model)

    def _get(self, model: type[M]) -> Callable[..., Any]:
        def view(path: RecordPath) -> M:
            return data(self._collection).get(path.id)

        return _annotated(view, path=RecordPath, answer=model)

    def _update(self, model: type[M]) -> Callable[..., Any]:
        def view(path: RecordPath, body: BaseModel) -> M:
            self._check_writer()
            fields = {name: getattr(body, name) for name in body.model_fields_set}
            if not fields:
                raise BadRequest("Name at least one field to change.")
            return data(self._collection).update(path.id, fields, revision=_revision())

        return _annotated(view, path=RecordPath, body=_change(model), answer=model)

    def _delete(self) -> Callable[..., Any]:
        def view(path: RecordPath) -> None:
            self._check_writer()
            records, revision = data(self._collection), _revision()
            if revision is None:
                records.delete(path.id)
                return
            record = records.find(path.id)
            if record is not None:
                if record.revision != revision:
                    raise PreconditionFailed
                records.delete(record)

        return _annotated(view, path=RecordPath, answer=None)

    def _check_writer(self) -> None:
        if self._collection.owner == "app":
            admins_only()


class _ListQuery(Generic[M]):
    """The query string of a collection's list: filters and orders of the queries that the collection declares."""

    def __init__(self, collection: Collection[M]) -> None:
        self._collection = collection
        declared = [tuple(query) for query in collection.queries]
        sorted_by = dict.fromkeys(query[-1] for query in declared if query)
        compared = dict.fromkeys(name.removeprefix("-") for name in sorted_by)
        self._orders = (*sorted_by, "-created_at")
        orders = tuple(dict.fromkeys((*self._orders, "created_at")))
        self._filters = {name: name for query in declared for name in (part.removeprefix("-") for part in query)}
        self._filters |= {f"{name}{end}": f"{name} {op}" for name in compared for end, op in _BOUNDS.items()}
        fields: dict[str, Any] = {
            _python_name(parameter): (
                self._type(key.partition(" ")[0]),
                Field(default=None, alias=parameter, description=f"Only records with {key} this."),
            )
            for parameter, key in self._filters.items()
        }
        names: Any = [f"{order.removeprefix('-')}_descending" if order.startswith("-") else order for order in orders]
        fields["order"] = (
            # The names are for generated clients, in which "-" has none.
            Annotated[Literal[orders], Field(json_schema_extra={"x-enum-varnames": names})] | None,
            Field(default=None, description='What to sort by; "-" is descending.'),
        )
        fields["cursor"] = (
            str | None,
            Field(default=None, max_length=_CURSOR_CHARACTERS, description="next_cursor of the page before."),
        )
        self.model = create_model(f"{collection.model.__name__}Query", __base__=PageQuery, **fields)

    def _type(self, name: str) -> Any:
        kind = field_type(self._collection.model, name) | None
        return Annotated[kind, BeforeValidator(_written_out)] if datetime in get_args(kind) else kind

    def run(self, query: Any) -> Page[M]:
        """Return the page that a query string asks for."""
        given = {key: getattr(query, _python_name(parameter)) for parameter, key in self._filters.items()}
        where = {key: value for key, value in given.items() if value is not None}
        orders = (*self._orders, None) if query.order is None else (query.order,)
        for order in orders:
            try:
                return data(self._collection).list(where, order, query.limit, query.cursor)
            except SettingsError:  # no index: the collection does not declare this query
                continue
        raise BadRequest("order: records cannot be sorted by this and filtered by these fields at once.")


def _python_name(parameter: str) -> str:
    return parameter.replace(".", "__")


def _annotated(view: Callable[..., Any], *, answer: Any, **arguments: type[BaseModel]) -> Callable[..., Any]:
    view.__annotations__ = {**arguments, "return": answer}
    return view


def _revision() -> str | None:
    """Return the revision that the request's If-Match names, or None.

    Raises:
        BadRequest: the header is no revision of ours.
    """
    match = _REVISION.fullmatch(request.headers.get("If-Match", "*"))
    if match is None:
        raise BadRequest("If-Match: send the record's revision in quotes.")
    revision = match[1] or match[2]
    if revision is not None:
        time_of(revision)
    return revision


def _written_out(value: Any) -> Any:
    """Refuse a number in place of a time, which pydantic would take for seconds since 1970."""
    if isinstance(value, str) and "-" not in value[1:]:
        raise ValueError("write a time such as 2026-03-01T12:00:00Z")
    return value


def _new(model: type[M]) -> type[M]:
    """Return the model of a new record's body: no field that is kept by firelaunch, no value of another type."""
    config = ConfigDict(strict=True)
    members = {"__doc__": model.__doc__, "__module__": model.__module__, "model_config": config}
    return type(f"New{model.__name__}", (model,), members)


def _change(model: type[Record]) -> type[BaseModel]:
    """Return the model of a change's body: all fields may be left out, and each is checked as in the record."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        optional = copy(info)
        optional.default, optional.default_factory = None, None
        fields[name] = (info.annotation, optional)
    config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_without_defaults)
    return create_model(f"{model.__name__}Change", __config__=config, __doc__="What is to change.", **fields)


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
