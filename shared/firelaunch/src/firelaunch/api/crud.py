"""Make the five usual routes of a collection: list, add, get, update and delete."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from collections.abc import Collection as AnyCollection
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ..errors import BadRequest, PreconditionFailed, SettingsError
from ..paging import Page
from ..records.collection import Collection
from ..records.fields import field_type
from ..records.record import Record, time_of
from .base import GroupPath, PageQuery, admins_only, data
from .routes import RouteOptions, Routes

if TYPE_CHECKING:
    from ..records.records import Records

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


class GroupRecordPath(GroupPath, RecordPath):
    """The path of a record of a group."""


def crud(
    collection: Collection[Any],
    *,
    prefix: str = "/api",
    only: AnyCollection[Action] | tuple[Action, ...] = _ACTIONS,  # mypy takes ("list",) for a tuple[str] else
    name: str = "",
    feature: str | None = None,
) -> Routes:
    """Return routes that list, add, read, change and delete the records of a collection.

    A user reaches their own records. All members read an app-wide collection, and admins write it. Records of groups
    have the group in the path, ``/api/groups/{group}/meals``: its members read them, and its editors and owners write
    them. A view that you register for one of the routes takes its place: ``@routes.post("/meals")``.

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
            place_of_all = "/groups/<group>" if collection.owner == "group" else ""
            routes.default(view.method, f"{place_of_all}/{collection.name}{view.rule}", **options)(view.function)
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
        self._of_groups = collection.owner == "group"
        self._path = GroupRecordPath if self._of_groups else RecordPath

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
            return self._query.run(query, self._records())

        return self._annotated(view, query=self._query.model, answer=Page[model])  # type: ignore[valid-type]

    def _add(self, model: type[M]) -> Callable[..., Any]:
        def view(body: Any) -> M:
            self._check_writer()
            fields = {name: getattr(body, name) for name in model.model_fields}
            return self._records().add(model.model_construct(body.model_fields_set, **fields))

        return self._annotated(view, body=_new(model, self._collection.written_by), answer=model)

    def _get(self, model: type[M]) -> Callable[..., Any]:
        def view(path: RecordPath) -> M:
            return self._records().get(path.id)

        return self._annotated(view, path=self._path, answer=model)

    def _update(self, model: type[M]) -> Callable[..., Any]:
        def view(path: RecordPath, body: BaseModel) -> M:
            self._check_writer()
            fields = {name: getattr(body, name) for name in body.model_fields_set}
            if not fields:
                raise BadRequest("Name at least one field to change.")
            return self._records().update(path.id, fields, revision=_revision())

        body = _change(model, self._collection.written_by)
        return self._annotated(view, path=self._path, body=body, answer=model)

    def _delete(self) -> Callable[..., Any]:
        def view(path: RecordPath) -> None:
            self._check_writer()
            records, revision = self._records(), _revision()
            if revision is None:
                records.delete(path.id)
                return
            record = records.find(path.id)
            if record is not None:
                if record.revision != revision:
                    raise PreconditionFailed
                records.delete(record)

        return self._annotated(view, path=self._path, answer=None)

    def _annotated(self, view: Callable[..., Any], *, answer: Any, **arguments: type[BaseModel]) -> Callable[..., Any]:
        if self._of_groups and "path" not in arguments:
            return _annotated(_with_path(view), answer=answer, path=GroupPath, **arguments)
        return _annotated(view, answer=answer, **arguments)

    def _records(self) -> Records[M]:
        """Return the records that the request may reach: those of the group in its path, or the caller's."""
        return data(self._collection, group=(request.view_args or {})["group"] if self._of_groups else None)

    def _check_writer(self) -> None:
        if self._collection.owner == "app":
            admins_only()


class _ListParameters(PageQuery):
    on_unknown: ClassVar[str] = ". A collection's filters come from its queries"


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
        self.model = create_model(f"{collection.model.__name__}Query", __base__=_ListParameters, **fields)

    def _type(self, name: str) -> Any:
        kind = field_type(self._collection.model, name) | None
        return Annotated[kind, BeforeValidator(_written_out)] if datetime in get_args(kind) else kind

    def run(self, query: Any, records: Records[M]) -> Page[M]:
        """Return the page of ``records`` that a query string asks for."""
        given = {key: getattr(query, _python_name(parameter)) for parameter, key in self._filters.items()}
        where = {key: value for key, value in given.items() if value is not None}
        orders = (*self._orders, None) if query.order is None else (query.order,)
        for order in orders:
            try:
                return records.list(where, order, query.limit, query.cursor)
            except SettingsError:  # no index: the collection does not declare this query
                continue
        raise BadRequest("order: records cannot be sorted by this and filtered by these fields at once.")


def _python_name(parameter: str) -> str:
    return parameter.replace(".", "__")


def _with_path(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return a view that is given the request's path, too, and leaves it to what reads it from the request."""

    def in_group(path: Any, **arguments: Any) -> Any:  # noqa: ARG001 - its model is what the OpenAPI document shows
        return view(**arguments)

    own = signature(view).parameters.values()
    path = Parameter("path", Parameter.POSITIONAL_OR_KEYWORD)
    in_group.__signature__ = Signature([path, *own])  # type: ignore[attr-defined]
    return in_group


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


def _new(model: type[M], kept: str) -> type[M]:
    """Return the model of a new record's body: no field that is kept by firelaunch, no value of another type.

    Args:
        kept: the field that says who wrote the record; empty if there is none.
    """
    config = ConfigDict(strict=True)
    members: dict[str, Any] = {"__doc__": model.__doc__, "__module__": model.__module__, "model_config": config}
    if kept:
        members |= {"__annotations__": {kept: None}, kept: Field(default=None, description="The service sets it.")}
    return type(f"New{model.__name__}", (model,), members)


def _change(model: type[Record], kept: str) -> type[BaseModel]:
    """Return the model of a change's body: all fields may be left out, and each is checked as in the record."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name == kept:
            continue
        optional = copy(info)
        optional.default, optional.default_factory = None, None
        fields[name] = (info.annotation, optional)
    config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_without_defaults)
    return create_model(f"{model.__name__}Change", __config__=config, __doc__="What is to change.", **fields)


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
