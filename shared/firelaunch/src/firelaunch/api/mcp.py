"""Serve ``POST /mcp``: the app as a tool for agents, over MCP's streamable HTTP, with the caller's token and budget.

The server keeps no state between requests. An answer is one JSON object, or a stream that ends with it. Revision
2026-07-28 is designed for that. Older revisions begin with a handshake (``initialize``). Its answer names a session,
which the server does not keep either: it tells one client's calls from another's when the client cancels one.
https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http,
https://modelcontextprotocol.io/specification/2025-11-25/basic/transports.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from flask import Response, current_app, jsonify, request
from pydantic import BaseModel

from ..chats.place import ChatPlace
from ..errors import BadRequest, Forbidden, NotFound, RateLimited
from ..services.bundle import Services
from ..turns.questions import AgentQuestions
from ..turns.send import request_id_of
from .base import LOCALHOST, OwnTool, ViewContext, backend, caller, client, event_stream, example, services
from .jsonrpc import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Notification,
    RpcError,
    RpcRequest,
    parse,
)
from .mcp_document import HEADERS, body, responses
from .mcp_stream import Call, Signs, Step, frames
from .mcp_tools import tools
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["ENDPOINT", "api", "challenge"]

ENDPOINT = "mcp.mcp"
"""The name by which Flask knows the route."""

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_METADATA = "/.well-known/oauth-protected-resource"

_STATELESS = "2026-07-28"
_HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
"""The revisions with streamable HTTP and a handshake. A request that names no version uses the first one."""

_META = "io.modelcontextprotocol/"
_FRESH = {"ttlMs": 300_000, "cacheScope": "private"}
"""How long a client may keep the list of tools, which changes only with a deployment."""

_FAULT = "Something went wrong on our side."

_SESSION = "Mcp-Session-Id"
_SESSION_CHARACTERS = 200

_KEY = "firelaunch/idempotency-key"
_KEY_CHARACTERS = _TOKEN_CHARACTERS = 255

_TIMED_OUT = re.compile(r"tim(ed?|ing)[ -]?out", re.IGNORECASE)
"""A cancellation's reason where the client gave up waiting: "timed out after 5.0s" of MCP's Python client 2,
"Request timed out" of its TypeScript client. Its user still wants the answer."""

_Method = Callable[[dict[str, Any]], dict[str, Any]]


api = Routes("mcp", "mcp", prefix=None)


@api.post(
    "/mcp",
    rate="mcp",
    responses=responses,
    operation_id="callMcp",
    summary="Call the app as a tool",
    description="One JSON-RPC message of the Model Context Protocol; `tools/list` names the tools. A message "
    "without an `id` wants no answer and gets a 202. With `text/event-stream` in `Accept`, a tool that takes its time "
    "answers as server-sent events: signs of life, and progress for a `progressToken`, then the answer.",
    openapi_extensions=lambda: {"x-headers": HEADERS, "requestBody": body()},
)
def mcp() -> Response | tuple[str, int]:
    """Answer one JSON-RPC message."""
    _check_origin()
    if not request.is_json:
        raise BadRequest("Send the body as JSON, with Content-Type: application/json.")
    message: Notification | None = None
    stateless = True
    try:
        message = parse(request.get_data())
        stateless = _is_stateless(message)
        if not isinstance(message, RpcRequest):
            if message.method == "notifications/cancelled":
                _cancel(message.params)
            return "", 202
        if stateless:
            _check_headers(message)
        if message.method == "tools/call":
            return _call_tool(message, stateless)
        handshake_methods, stateless_methods = _of_app()[1]
        method = (stateless_methods if stateless else handshake_methods).get(message.method)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "There is no such method here.")
        answer = jsonify({"jsonrpc": "2.0", "id": message.id, "result": method(message.params)})
        if message.method == "initialize":
            answer.headers[_SESSION] = secrets.token_hex(16)
        return answer
    except RpcError as error:
        return _failed(error, message, stateless)


def _call_tool(message: RpcRequest, stateless: bool) -> Response:
    tools_by_name, params = _of_app()[0], message.params
    tool, arguments = tools_by_name.get(str(params.get("name"))), params.get("arguments", {})
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"There is no such tool; there are {', '.join(tools_by_name)}.")
    if not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "params.arguments must be an object.")
    call = _call(message, closes=stateless)
    envelope = _envelope() if stateless else {}

    def wrap(result: dict[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": message.id, "result": {**envelope, **result}}

    def failed() -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": message.id, "error": {"code": INTERNAL_ERROR, "message": _FAULT}}

    result: dict[str, Any] | Iterator[Step] = tool.call(call, arguments)
    if isinstance(result, dict):
        return jsonify(wrap(result))
    return event_stream(frames(result, call, wrap, failed))


def _call(message: RpcRequest, *, closes: bool) -> Call:
    meta = message.params.get("_meta")
    meta = meta if isinstance(meta, Mapping) else {}
    token, key = meta.get("progressToken"), meta.get(_KEY)
    if not (token is None or type(token) is int or (isinstance(token, str) and len(token) <= _TOKEN_CHARACTERS)):
        raise RpcError(
            INVALID_PARAMS,
            f"params._meta.progressToken is a string of at most {_TOKEN_CHARACTERS} characters, or an integer.",
        )
    if not (key is None or (isinstance(key, str) and 0 < len(key) <= _KEY_CHARACTERS)):
        raise RpcError(INVALID_PARAMS, f"params._meta[{_KEY!r}] is a string of 1 to {_KEY_CHARACTERS} characters.")
    # A wildcard does not count: clients that know MCP name the type.
    streams = any(kind.lower() == "text/event-stream" and quality > 0 for kind, quality in request.accept_mimetypes)
    connection = client() if streams else None
    return Call(caller(), _call_id(message.id), key, closes, streams, connection, Signs(token))


def _call_id(message_id: int | str) -> str:
    """Return the id of a call of this client's, which no call of another user or session has."""
    session = request.headers.get(_SESSION, "")[:_SESSION_CHARACTERS]
    return request_id_of(ChatPlace.own(caller()), f"mcp call\n{session}\n{type(message_id).__name__}\n{message_id}")


def _cancel(params: Mapping[str, Any]) -> None:
    """End a call of this client's. What names no such call is ignored, as the protocol wants it."""
    message_id = params.get("requestId")
    if not isinstance(message_id, int | str) or isinstance(message_id, bool):
        return
    gave_up = _TIMED_OUT.search(str(params.get("reason", ""))[:200]) is not None
    after = services().settings.mcp.wait_seconds if gave_up else None
    backend().answers.cancel(caller(), _call_id(message_id), after)


class ProtectedResource(BaseModel):
    """Where agents get tokens for the app (RFC 9728)."""

    model_config = example(
        {
            "resource": "https://my-app.example.com/mcp",
            "authorization_servers": ["https://auth.example.com"],
            "bearer_methods_supported": ["header"],
            "resource_name": "My app",
        }
    )
    resource: str
    authorization_servers: list[str]
    bearer_methods_supported: list[str]
    resource_name: str


_ABOUT_METADATA = "OAuth 2.0 Protected Resource Metadata. A 404 where the settings name no `mcp.authorization_server`."


@api.get(
    _METADATA,
    responses={200: ProtectedResource, **errors_of_anyone(NotFound, RateLimited)},
    operation_id="getProtectedResource",
    summary="Where agents get tokens",
    description=_ABOUT_METADATA,
    public=True,
)
def metadata() -> Response:
    """Say where agents get tokens."""
    settings = services().settings
    if not settings.mcp.authorization_server:
        raise NotFound
    answer = jsonify(
        {
            "resource": _resource(),
            "authorization_servers": [settings.mcp.authorization_server],
            "bearer_methods_supported": ["header"],
            "resource_name": settings.app.name,
        }
    )
    answer.headers["Cache-Control"] = "public, max-age=300"
    answer.headers["Vary"] = "Host"  # without a setting, the address is the one that the client calls
    return answer


@api.get(
    f"{_METADATA}/mcp",
    responses={200: ProtectedResource, **errors_of_anyone(NotFound, RateLimited)},
    operation_id="getProtectedResourceOfMcp",
    summary="Where agents get tokens, at the address for /mcp",
    description=_ABOUT_METADATA,
    public=True,
)
def metadata_of_mcp() -> Response:
    """Say where agents get tokens, at the address that RFC 9728 makes of /mcp."""
    return metadata()


def _resource() -> str:
    """Return the address of ``POST /mcp``: of the settings, or as this request's client calls the app."""
    settings = services().settings
    scheme = "https" if settings.environment.on_cloud_run else request.scheme
    return settings.mcp_resource or f"{scheme}://{request.host}/mcp"


def challenge() -> str:
    """Return the WWW-Authenticate header for a request to ``/mcp`` whose token is missing or invalid."""
    if not services().settings.mcp.authorization_server:
        return "Bearer"
    address = urlsplit(_resource())
    if not _HOST.fullmatch(address.netloc):  # a client's own Host, which would end the quoted string
        return "Bearer"
    metadata = f'resource_metadata="{address.scheme}://{address.netloc}{_METADATA}/mcp"'
    return f'Bearer error="invalid_token", {metadata}' if "Authorization" in request.headers else f"Bearer {metadata}"


def _failed(error: RpcError, message: Notification | None, stateless: bool) -> Response:
    detail = {"code": error.code, "message": error.message}
    if error.data is not None:
        detail["data"] = error.data
    message_id = message.id if isinstance(message, RpcRequest) else error.id
    answer = jsonify({"jsonrpc": "2.0", "id": message_id, "error": detail})
    if not stateless:
        return answer  # older clients treat a status over 399 as a broken connection
    answer.status_code = 404 if error.code == METHOD_NOT_FOUND else 400
    return answer


def _check_origin() -> None:
    """Refuse pages of other origins, so that they can't reach an app on their visitor's machine.

    Programs other than browsers send no Origin.
    """
    origin, settings = request.headers.get("Origin"), services().settings
    if origin is None or origin in settings.page_origins:
        return
    if not (settings.environment.development and re.fullmatch(LOCALHOST, origin)):
        raise Forbidden("Pages of this origin may not call the app; cors.origins names those that may.", reason=origin)


def _is_stateless(message: Notification) -> bool:
    version = request.headers.get("MCP-Protocol-Version")
    meta = message.params.get("_meta")
    if version is None and not (isinstance(meta, Mapping) and f"{_META}protocolVersion" in meta):
        return False
    if version in _HANDSHAKE:
        return False
    if version in (None, _STATELESS):
        return True
    supported = {"supported": [_STATELESS, *_HANDSHAKE], "requested": version}
    raise RpcError(UNSUPPORTED_VERSION, "That revision of MCP is not supported.", data=supported)


def _check_headers(message: RpcRequest) -> None:
    """Check that the headers, which proxies read, agree with the body, which the app reads."""
    meta = message.params.get("_meta")
    needed = [f"{_META}protocolVersion", f"{_META}clientCapabilities"]
    if not isinstance(meta, dict) or any(key not in meta for key in needed):
        raise RpcError(INVALID_PARAMS, f"params._meta must have {' and '.join(needed)}.")
    expected = {"MCP-Protocol-Version": meta[needed[0]], "Mcp-Method": message.method}
    if message.method == "tools/call":
        expected["Mcp-Name"] = message.params.get("name")
    for name, value in expected.items():
        if _decoded(request.headers.get(name)) != value:
            raise RpcError(HEADER_MISMATCH, f"The header {name} is missing, or says something else than the body.")


def _decoded(header: str | None) -> str | None:
    """Return a header's value; values that are not plain ASCII come as ``=?base64?...?=``."""
    if header is None or not (header.startswith("=?base64?") and header.endswith("?=")):
        return header
    try:
        return base64.b64decode(header[9:-2], validate=True).decode()
    except ValueError:
        return None


def _of_app() -> tuple[dict[str, OwnTool], tuple[dict[str, _Method], dict[str, _Method]]]:
    """Return the current app's tools and methods, which are built with its first request."""
    extensions = current_app.extensions
    if "firelaunch.mcp" not in extensions:
        extensions["firelaunch.mcp"] = _built(backend())
    built: tuple[dict[str, OwnTool], tuple[dict[str, _Method], dict[str, _Method]]] = extensions["firelaunch.mcp"]
    return built


def _built(context: ViewContext) -> tuple[dict[str, OwnTool], tuple[dict[str, _Method], dict[str, _Method]]]:
    questions = AgentQuestions(context.services, context.turns, context.answers)
    of_all: tuple[OwnTool, ...] = tools(context.services, questions)
    tools_by_name = {tool.name: tool for tool in [*of_all, *context.tools]}
    return tools_by_name, _methods(context.services, tools_by_name)


def _server(services: Services) -> dict[str, str]:
    return {"name": services.settings.app.id, "title": services.settings.app.name, "version": "1"}


def _envelope() -> dict[str, Any]:
    """Return what every result of the stateless revision has."""
    return {"resultType": "complete", "_meta": {f"{_META}serverInfo": _server(services())}}


def _methods(services: Services, tools_by_name: Mapping[str, OwnTool]) -> tuple[dict[str, _Method], dict[str, _Method]]:
    """Return the methods of the revisions with a handshake, and those of the stateless revision."""
    app = services.settings.app
    about = {
        "capabilities": {"tools": {}},
        "instructions": app.description,
    }
    described = cache(lambda: [tool.described() for tool in tools_by_name.values()])

    def initialize(params: dict[str, Any]) -> dict[str, Any]:
        version = params.get("protocolVersion")
        if not isinstance(version, str):
            raise RpcError(INVALID_PARAMS, "params.protocolVersion must be a string.")
        version = version if version in _HANDSHAKE else _HANDSHAKE[-1]
        return {"protocolVersion": version, "serverInfo": _server(services), **about}

    def discover(_params: dict[str, Any]) -> dict[str, Any]:
        return {"supportedVersions": [_STATELESS], **about}

    def list_tools(params: dict[str, Any]) -> dict[str, Any]:
        if params.get("cursor") is not None:
            raise RpcError(INVALID_PARAMS, "There is one page of tools, and no cursor leads to another.")
        return {"tools": described()}

    def completed(method: _Method) -> _Method:
        return lambda params: {**_envelope(), **_FRESH, **method(params)}

    return {"initialize": initialize, "ping": lambda _params: {}, "tools/list": list_tools}, {
        "server/discover": completed(discover),
        "tools/list": completed(list_tools),
    }
