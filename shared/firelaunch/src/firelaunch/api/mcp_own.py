"""Offer an app's own routes and functions to agents: what the app declares as ``mcp``.

A route as a tool is a request to the route, made inside the process: the same gates, limits, checks and errors hold as
for a client that calls it. A function runs within its caller's request, as a view does.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import NoneType
from typing import Any
from urllib.parse import unquote

from flask import Flask, current_app, g, request
from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import models_json_schema
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BuildError
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from ..errors import BadRequest, FirelaunchError, NotFound, SettingsError, TooLarge
from ..identity import Caller
from ..llm.shapes import Misfit
from ..llm.tool_threads import ToolThreads
from ..llm.tools import PreparedTool, Tool, ToolError, prepare
from ..telemetry.spans import SPAN
from .base import CALLER_KEY
from .mcp_stream import Call, Step
from .mcp_tools import TOOL_NAMES, error_result
from .own_routes import OwnRoutes
from .routes import Route, Routes, place_of

__all__ = ["FunctionTool", "RouteTool", "own_tools"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_PARTS = ("path", "query", "body")
_FORWARDED = ("Authorization", "X-Cloud-Trace-Context")

_PICTURES_AND_SOUND = ("image/", "audio/")
_READABLE = ("application/json", "text/", *_PICTURES_AND_SOUND)
"""Beginnings of the types of answers that an agent can be given."""

_ANSWER_BYTES = 1_000_000
"""The most bytes of a route's answer. An agent's model reads all of it, and no model reads more."""

Place = Callable[[Caller], AbstractContextManager[None]]


@dataclass(frozen=True)
class RouteTool:
    """A route of the app's own as a tool. Its arguments are the fields of the view's path, query and body."""

    name: str
    route: Route
    endpoint: str

    @cached_property
    def _models(self) -> dict[str, type[BaseModel]]:
        parameters = inspect.signature(self.route.view).parameters
        return {part: self.route.hints[part] for part in _PARTS if part in parameters}

    @cached_property
    def _schemas(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """The schema of each part, and the definitions that they share."""
        models = list(dict.fromkeys(self._models.values()))
        references, shared = models_json_schema([(model, "validation") for model in models])
        definitions: dict[str, Any] = shared.get("$defs", {})
        named = {part: references[model, "validation"]["$ref"] for part, model in self._models.items()}
        return {part: definitions[name.rpartition("/")[2]] for part, name in named.items()}, definitions

    def problems(self) -> Iterator[str]:
        """Yield why the route can't be a tool."""
        others = [name for name in inspect.signature(self.route.view).parameters if name not in _PARTS]
        if others:
            yield f"an agent cannot send the view's {others[0]!r}: a tool's view takes path, query and body"
            return
        if (beyond := _beyond_agents(self.route)) is not None:
            yield beyond
        seen: dict[str, str] = {}
        for part, schema in self._schemas[0].items():
            if "properties" not in schema:
                yield f"its {part} has no fields, which would be the tool's arguments. Give it a model with fields"
            for name in schema.get("properties", {}):
                if seen.setdefault(name, part) != part:
                    yield f"its {seen[name]} and its {part} both have a field {name!r}. Rename one of them"
        try:
            self._answer_schema  # noqa: B018 - made once, here
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
            yield f"its answer has no JSON schema: {error.message}"

    @cached_property
    def _answer_schema(self) -> tuple[dict[str, Any] | None, bool]:
        return _output_schema(self.route.answer)

    def described(self) -> dict[str, Any]:
        """Return the tool's entry for ``tools/list``."""
        parts, definitions = self._schemas
        properties: dict[str, Any] = {}
        required: list[str] = []
        for schema in parts.values():
            properties |= schema["properties"]
            required += schema.get("required", [])
        arguments = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        method, docstring = self.route.method.upper(), inspect.getdoc(self.route.view) or ""
        title = str(self.route.options.get("summary") or docstring.partition("\n")[0] or self.name)
        description = str(self.route.options.get("description") or docstring or title)
        hints = {
            "readOnlyHint": method == "GET",
            "destructiveHint": method in {"DELETE", "PATCH", "PUT"},
            "idempotentHint": method in {"DELETE", "GET", "PUT"},
            "openWorldHint": False,
        }
        return _entry(
            self.name, title, description, _with_definitions(arguments, definitions), self._answer_schema[0], hints
        )

    def call(self, call: Call, arguments: dict[str, Any]) -> dict[str, Any] | Iterator[Step]:
        """Make the request, and return the result for ``tools/call``, or the steps to it."""
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        return _within(call, lambda: self._result(self._response(app, call.caller, headers, arguments)))

    def _response(
        self, app: Flask, caller: Caller, headers: Mapping[str, str], arguments: Mapping[str, Any]
    ) -> Response:
        parts = self._taken_apart(arguments)
        path = self._path(app, parts.get("path", {}))
        query = {name: _query_value(value) for name, value in parts.get("query", {}).items() if value is not None}
        environ = EnvironBuilder(
            method=self.route.method.upper(), query_string=query, headers=list(headers.items()), json=parts.get("body")
        ).get_environ()
        # Set here, as the builder would take a "?" in a value for the beginning of a query.
        environ |= {"PATH_INFO": unquote(path).encode().decode("latin-1"), "REQUEST_URI": path, "RAW_URI": path}
        environ[CALLER_KEY] = caller
        span = SPAN.get()
        if span is not None:
            environ["HTTP_TRACEPARENT"] = span.traceparent
        # In a context of its own: it shares nothing with the request that brought the call.
        return Context().run(Response.from_app, app, environ, True)

    def _taken_apart(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of each part.

        Raises:
            BadRequest: there is no such argument.
        """
        parts: dict[str, Any] = {}
        left = dict(arguments)
        for part, schema in self._schemas[0].items():
            parts[part] = {name: left.pop(name) for name in schema["properties"] if name in left}
        if left:
            raise BadRequest(f"{next(iter(left))}: there is no such argument.")
        return parts

    def _path(self, app: Flask, values: Mapping[str, Any]) -> str:
        """Return the path of the request.

        Raises:
            BadRequest: a value is neither a string nor a number.
            NotFound: a value would lead elsewhere, such as one with a slash.
        """
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise BadRequest(f"{name}: give a string.")
        adapter = app.url_map.bind("localhost")
        texts = {name: str(value) for name, value in values.items()}
        try:
            path = adapter.build(self.endpoint, texts, method=self.route.method.upper())
            endpoint, found = adapter.match(unquote(path), method=self.route.method.upper())
        except (BuildError, HTTPException, ValueError):
            raise NotFound from None
        if endpoint != self.endpoint or {name: str(value) for name, value in found.items()} != texts:
            raise NotFound
        return path

    def _result(self, response: Response) -> dict[str, Any]:
        kind, body = response.mimetype or "", response.get_data()
        if response.status_code >= 400:
            return _refusal(response, body)
        if len(body) > _ANSWER_BYTES:
            raise TooLarge("The answer is too large for an agent: ask for less.")
        if kind == "application/json" or not body:
            return _success(json.loads(body) if body else None, *self._answer_schema)
        if kind.startswith("text/"):
            return {"content": [{"type": "text", "text": response.get_data(as_text=True)}], "isError": False}
        if kind.startswith(_PICTURES_AND_SOUND):
            data = base64.b64encode(body).decode()
            return {"content": [{"type": kind.partition("/")[0], "data": data, "mimeType": kind}], "isError": False}
        raise BadRequest(f"The answer is of the type {kind!r}, which an agent cannot read.")


@dataclass(frozen=True)
class FunctionTool:
    """A function of the app's own as a tool. It may use ``caller()``, ``data()`` and ``caller_services()``, as a view.

    Args:
        place: holds a place for a call of a user's, within the limits of the app's own routes.
    """

    prepared: PreparedTool
    place: Place
    threads: ToolThreads = field(repr=False)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.prepared.spec.name

    @cached_property
    def _answer(self) -> tuple[TypeAdapter[Any], dict[str, Any] | None, bool]:
        hint = inspect.get_annotations(self.prepared.tool.function, eval_str=True).get("return", Any)
        return TypeAdapter(hint), *_output_schema(hint)

    def problems(self) -> Iterator[str]:
        """Yield why the function can't be a tool."""
        if self.prepared.tool.approve is not False:
            yield "it waits for the user's approval, which an agent cannot give. Offer it in a chat alone"
        try:
            self._answer  # noqa: B018 - made once, here
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, NameError) as error:
            yield f"its answer has no JSON schema: {error}"

    def described(self) -> dict[str, Any]:
        """Return the tool's entry for ``tools/list``."""
        spec = self.prepared.spec
        title = self.name.replace("_", " ").capitalize()
        hints = {"readOnlyHint": False, "destructiveHint": True, "openWorldHint": True}
        return _entry(self.name, title, spec.description, dict(self.prepared.schema), self._answer[1], hints)

    def call(self, call: Call, arguments: dict[str, Any]) -> dict[str, Any] | Iterator[Step]:
        """Run the function, and return the result for ``tools/call``, or the steps to it."""
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        context = copy_context()  # a stream goes on when the request is over, under the request's id and time
        return _within(call, lambda: context.run(self._result, app, call.caller, arguments))

    def _result(self, app: Flask, caller: Caller, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = self.prepared.arguments(json.dumps(arguments))
        except Misfit as misfit:
            raise BadRequest(f"The arguments do not fit: {misfit}") from None
        with self.place(caller), app.test_request_context("/mcp", method="POST"):
            g.caller = caller
            return self._run(values)

    def _run(self, values: Mapping[str, Any]) -> dict[str, Any]:
        tool = self.prepared.tool
        running = self.threads.start(partial(tool.function, **values))
        if running is None:
            return _text_error("Too many tools are running; try again later.")
        for _ in running.wait(tool.seconds, lambda: None):
            pass
        if not running.done:
            log.warning("tool %s took longer than %s s", self.name, tool.seconds)
            return _text_error("The tool did not answer in time.")
        adapter, schema, wrapped = self._answer
        try:
            return _success(
                adapter.dump_python(running.result(), mode="json", by_alias=True, warnings="error"), schema, wrapped
            )
        except ToolError as error:
            return _text_error(str(error))
        except FirelaunchError as error:
            return error_result(error)
        except Exception as error:
            log.error("tool %s failed: %s", self.name, type(error).__name__, exc_info=error)
            return _text_error("The tool failed.")


def own_tools(offered: Sequence[Any], own: OwnRoutes, most_threads: int) -> list[RouteTool | FunctionTool]:
    """Return the tools that an app offers.

    Args:
        offered: what the app was given as ``mcp``: its routes, views of theirs, functions and ``Tool``.
        most_threads: how many functions may run at a time.

    Raises:
        SettingsError: what the app offers can't be a tool. The message has the file and line.
    """
    tools: list[RouteTool | FunctionTool] = []
    problems: list[str] = []
    places = dict.fromkeys(TOOL_NAMES, "firelaunch")
    threads = ToolThreads(most_threads)
    for number, entry in enumerate(offered):
        try:
            found = list(_tools_of(entry, own, threads))
        except TypeError as error:
            problems.append(f"App(mcp=[...]): entry {number}: {error}.")
            continue
        for tool, place in found:
            problems += [f"App(mcp=[...]): {tool.name}, {place}: {problem}." for problem in tool.problems()]
            if not _NAME.fullmatch(tool.name):
                problems.append(
                    f"App(mcp=[...]): {place}: {tool.name!r} is no name of a tool: letters, digits, '_' and '-'."
                )
            if tool.name in places:
                problems.append(
                    f"App(mcp=[...]): {place}: {places[tool.name]} has a tool {tool.name!r} already. "
                    "Rename the function, or give the route an operation_id."
                )
            places.setdefault(tool.name, place)
            tools.append(tool)
    if problems:
        raise SettingsError("\n".join(problems))
    return tools


def _tools_of(entry: Any, own: OwnRoutes, threads: ToolThreads) -> Iterator[tuple[RouteTool | FunctionTool, str]]:
    declared = [(routes, route) for routes in own.declared for route in routes.routes]
    if isinstance(entry, Routes):
        if entry not in own.declared:
            raise TypeError(f"the app does not declare the routes {entry.name!r}. Add them: App(routes=[...])")
        views = [pair for pair in declared if pair[0] is entry and _offered(pair[1])]
    else:
        views = [pair for pair in declared if pair[1].view is entry]
    for routes, route in views:
        yield RouteTool(_route_name(routes, route), route, routes.endpoint(route)), place_of(route.view)
    if views or isinstance(entry, Routes):
        return
    if not callable(getattr(entry, "function", entry)):
        raise TypeError(f"it is a {type(entry).__name__}. Give routes, a view of theirs, a function or a Tool")
    tool = entry if isinstance(entry, Tool) else Tool(entry)
    place = place_of(tool.function)
    try:
        prepared = prepare(tool)
    except TypeError as error:
        raise TypeError(f"{place}: {error}") from None
    yield FunctionTool(prepared, own.place_of_user, threads), place


def _offered(route: Route) -> bool:
    """Return whether agents can use a route of those that are offered together, and log it if they can't."""
    beyond = _beyond_agents(route)
    if beyond is not None:
        log.info("mcp leaves out %s %s: %s", route.method.upper(), route.path, beyond)
    return beyond is None


def _beyond_agents(route: Route) -> str | None:
    """Return why no agent could use a route; None if one can."""
    if route.consumes:
        return f"an agent cannot send its body, which is {' or '.join(route.consumes)}"
    if route.produces and not any(each.startswith(_READABLE) for each in route.produces):
        return f"an agent cannot read its answer, which is {' or '.join(route.produces)}"
    return None


def _route_name(routes: Routes, route: Route) -> str:
    if operation := route.options.get("operation_id"):
        # Those of crud have the model's name in them: "add ToolItem" is "add_tool_item".
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", str(operation))
        return re.sub(r"\W+", "_", words).lower() if " " in operation else str(operation)
    name = route.view.__name__
    return name if routes.name in name else f"{routes.name}_{name}"


def _within(call: Call, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | Iterator[Step]:
    """Return what ``work`` returns, or the steps to it if the call streams: it may take its time."""

    def guarded() -> dict[str, Any]:
        try:
            return work()
        except FirelaunchError as error:
            return error_result(error)

    def steps() -> Iterator[Step]:
        yield None
        yield guarded()

    return steps() if call.streams else guarded()


def _entry(
    name: str, title: str, description: str, arguments: Any, answer: dict[str, Any] | None, hints: dict[str, bool]
) -> dict[str, Any]:
    entry = {"name": name, "title": title, "description": description, "inputSchema": arguments, "annotations": hints}
    return entry if answer is None else {**entry, "outputSchema": answer}


def _output_schema(hint: Any) -> tuple[dict[str, Any] | None, bool]:
    """Return the schema of a tool's answer, and whether its value is wrapped into an object, as MCP wants one."""
    if hint is Any or hint is NoneType or hint is None:
        return None, True
    schema = TypeAdapter(hint).json_schema(mode="serialization")
    definitions = schema.pop("$defs", {})
    if "$ref" in schema:
        schema = {**definitions[schema.pop("$ref").rpartition("/")[2]], **schema}
    if schema.get("type") == "object":
        return _with_definitions(schema, definitions), False
    wrapped = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return _with_definitions(wrapped, definitions), True


def _with_definitions(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Add the definitions that the schema refers to, or that one of those refers to."""
    used: dict[str, Any] = {}
    left = [schema]
    while left:
        for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(left.pop())):
            if name not in used:
                used[name] = definitions[name]
                left.append(definitions[name])
    return {**schema, "$defs": used} if used else schema


def _success(value: Any, schema: dict[str, Any] | None, wrapped: bool) -> dict[str, Any]:
    text = value if isinstance(value, str) else "Done." if value is None else json.dumps(value, ensure_ascii=False)
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    if schema is not None:
        result["structuredContent"] = {"result": value} if wrapped else value
    elif isinstance(value, dict):
        result["structuredContent"] = value
    return result


def _refusal(response: Response, body: bytes) -> dict[str, Any]:
    try:
        error = dict(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return _text_error(f"The route answered with the status {response.status_code}.")
    if retry_after := response.headers.get("Retry-After"):
        error["retry_after_seconds"] = int(retry_after)
    return _text_error(json.dumps({"error": error}, ensure_ascii=False))


def _text_error(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _query_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_query_value(item) for item in value]
    return json.dumps(value) if isinstance(value, bool | dict) else value if isinstance(value, str) else str(value)
