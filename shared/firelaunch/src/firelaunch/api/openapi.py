"""Describe routes as an OpenAPI document, which tools, people and generators of clients read.

Each model has one name, each operation one short id, and each error the schema ``ErrorAnswer``.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from .routes import Route, Routes
from .schemas import Schemas, Use

__all__ = ["Document", "describe"]

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A Firebase ID token whose custom claim `apps` names a role in this app; on a laptop, a token of "
    "`POST /dev/token`. Where the settings have `identity.app_check`, an App Check token is wanted beside it, as the "
    "header `X-Firebase-AppCheck`.",
}
_ABOUT = (
    "Times are UTC, amounts of money whole micro-dollars. Every error has the form of `ErrorAnswer`; its `code` is "
    "stable, and each response's examples have the codes that it may have. A method that a path does not have is a "
    "405, `method_not_allowed`, whose `Allow` lists those it has."
)
_BODIES = {"body": "application/json", "form": "multipart/form-data"}
_ADMINS = "/v1/ops/"
"""The beginning of the paths that are for admins alone."""

_BINARY = {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class Document:
    """An OpenAPI document, and the bytes in which it is sent."""

    content: dict[str, Any]

    @cached_property
    def plain(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def compressed(self) -> bytes:
        """The JSON, compressed by gzip. Its bytes are the same on each instance."""
        return gzip.compress(self.plain, mtime=0)

    @cached_property
    def tag(self) -> str:
        """The document's ETag, without quotes."""
        return hashlib.sha256(self.plain).hexdigest()[:32]


def describe(
    title: str, version: str, ours: Sequence[Routes], own: Sequence[Routes], *, admins: bool = True
) -> Document:
    """Return the document of an app.

    Args:
        title: the app's name.
        version: the version of the app's API.
        ours: firelaunch's own routes. Those of the app leave their part of the document as it is.
        own: the app's routes.
        admins: whether routes for admins are described, too. Clients of users call none of them.
    """
    schemas = Schemas()
    paths: dict[str, Any] = {}
    ids: set[str] = set()
    for group in (ours, own):
        described = [
            (routes, route, route.described())
            for routes in group
            for route in routes.routes
            if admins or not route.path.startswith(_ADMINS)
        ]
        for routes, route, options in described:
            operation = _operation(routes, route, options, schemas)
            operation["operationId"] = _free_id(routes, route, ids)
            paths.setdefault(_path(route), {})[route.method] = operation
        # Bodies come last, so that of two forms of a model the one in answers has the model's own name.
        for _, route, options in described:
            operation = paths[_path(route)][route.method]
            operation.update(_request(route, options, schemas))
            operation["responses"] = operation.pop("responses")
    tags = dict.fromkeys(tag for path in paths.values() for operation in path.values() for tag in operation["tags"])
    return Document(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version, "description": _ABOUT},
            "servers": [{"url": "/", "description": "The service that this document is from."}],
            "tags": [{"name": tag} for tag in tags],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(schemas.named.items())),
                "securitySchemes": {"bearer": _BEARER},
            },
        }
    )


def _path(route: Route) -> str:
    """Return a route's path as OpenAPI writes it: "/v1/chats/{id}"."""
    return re.sub(r"<(?:[^>]*:)?([^>:]*)>", r"{\1}", route.path)


def _operation(routes: Routes, route: Route, options: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    text = inspect.getdoc(route.view) or ""
    summary = options.get("summary") or text.partition("\n")[0]
    description = options.get("description") or (text if options.get("summary") else text.partition("\n")[2].strip())
    operation: dict[str, Any] = {"tags": [routes.tag], "summary": summary}
    if description.rstrip(".") != summary.rstrip("."):
        operation |= {"description": description} if description else {}
    if options.get("deprecated"):
        operation["deprecated"] = True
    operation["security"] = [] if route.public else [{"bearer": []}]
    use: Use = "answer" if route.options.get("responses") else "whole answer"
    operation["responses"] = {
        str(status): _response(str(status), answer, use, schemas) for status, answer in options["responses"].items()
    }
    return operation


def _response(status: str, answer: Any, use: Use, schemas: Schemas) -> dict[str, Any]:
    about = {"description": HTTPStatus(int(status)).phrase if status.isdigit() else "Success"}
    if answer is None:
        return about
    if isinstance(answer, dict):
        return {**about, **_with_references(answer, use, schemas)}
    extra: Any = answer.model_config.get("openapi_extra", {})
    schema = {"schema": schemas.reference(answer, use)}
    return {**about, "content": {"application/json": schema, **extra.get("content", {})}}


def _request(route: Route, options: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    """Return what an operation's request has: parameters, a body, and what the route says of both itself."""
    said: dict[str, Any] = _with_references(dict(options.get("openapi_extensions") or {}), "request", schemas)
    taken = {name: route.hints[name] for name in inspect.signature(route.view).parameters if name in route.hints}
    parameters = [
        parameter
        for place in ("path", "query", "header", "cookie")
        if place in taken
        for parameter in _parameters(place, schemas.fields(taken[place]))
    ]
    parameters += said.pop("x-headers", [])
    request: dict[str, Any] = {"parameters": parameters} if parameters else {}
    contents = {
        media_type: {"schema": schemas.reference(taken[name], "request")}
        for name, media_type in _BODIES.items()
        if name in taken
    }
    contents |= {media_type: {"schema": _BINARY} for media_type in route.consumes}
    if contents:
        request["requestBody"] = {"required": True, "content": contents}
    return request | said


def _parameters(place: str, schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        shown = _present(field)
        parameter: dict[str, Any] = {"name": name.replace("_", "-") if place == "header" else name, "in": place}
        if "description" in shown:
            parameter["description"] = shown.pop("description")
        if shown.pop("deprecated", False):
            parameter["deprecated"] = True
        yield {**parameter, "required": place == "path" or name in required, "schema": shown}


def _present(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without null: a parameter that is left out has no value at all."""
    shown = {key: value for key, value in field.items() if not (key == "default" and value in (None, [], {}))}
    kinds = [kind for kind in shown.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del shown["anyOf"]
        return {**kinds[0], **shown}
    return shown | ({"anyOf": kinds} if kinds else {})


def _free_id(routes: Routes, route: Route, taken: set[str]) -> str:
    """Return the operation's id, which no other operation has."""
    name = routes.endpoint(route).partition(".")[2]
    chosen = route.options.get("operation_id")
    words = f"{routes.name} {name}"
    short = name if _camel(routes.name).lower() in _camel(name).lower() else words
    wanted = [_camel(each) for each in (chosen, short, words) if each]
    numbered = (f"{wanted[-1]}{number}" for number in range(2, len(taken) + 3))
    found = next(each for each in (*wanted, *numbered) if each not in taken)
    taken.add(found)
    return found


def _camel(text: str) -> str:
    first, *others = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word] or ["call"]
    return first[0].lower() + first[1:] + "".join(word[0].upper() + word[1:] for word in others)


def _with_references(value: Any, use: Use, schemas: Schemas) -> Any:
    """Return a part of the document with references in place of models."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return schemas.reference(value, use)
    if isinstance(value, dict):
        return {key: _with_references(item, use, schemas) for key, item in value.items()}
    return [_with_references(item, use, schemas) for item in value] if isinstance(value, list) else value
