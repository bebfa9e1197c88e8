"""Serve ``POST /mcp``: the app as a tool for agents, over MCP's streamable HTTP, with the caller's token and budget.

The server keeps no state between requests, and every answer is one JSON object. Revision 2026-07-28 is designed for
that. Older revisions begin with a handshake (``initialize``), which they allow to be answered without a session:
https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http,
https://modelcontextprotocol.io/specification/2025-11-25/basic/transports.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from flask import Response, current_app, jsonify, request

from ..errors import BadRequest, Forbidden
from ..services.bundle import Services
from ..turns.admit import Turns
from .base import LOCALHOST, backend, caller, services
from .jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Notification,
    RpcError,
    RpcRequest,
    parse,
)
from .mcp_document import HEADERS, body, responses
from .mcp_tools import tools
from .routes import Routes

__all__ = ["api"]

_STATELESS = "2026-07-28"
_HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
"""The revisions with streamable HTTP and a handshake. A request that names no version uses the first one."""

_META = "io.modelcontextprotocol/"
_FRESH = {"ttlMs": 300_000, "cacheScope": "private"}
"""How long a client may keep the list of tools, which changes only with a deployment."""

_Method = Callable[[dict[str, Any]], dict[str, Any]]


api = Routes("mcp", "mcp", prefix=None)


@api.post(
    "/mcp",
    responses=responses,
    operation_id="callMcp",
    summary="Call the app as a tool",
    description="One JSON-RPC message of the Model Context Protocol; `tools/list` names the tools. A message "
    "without an `id` wants no answer and gets a 202.",
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
            return "", 202
        if stateless:
            _check_headers(message)
        handshake_methods, stateless_methods = _methods_of_app()
        method = (stateless_methods if stateless else handshake_methods).get(message.method)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "There is no such method here.")
        return jsonify({"jsonrpc": "2.0", "id": message.id, "result": method(message.params)})
    except RpcError as error:
        return _failed(error, message, stateless)


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
    if origin is None or origin in settings.cors.origins:
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


def _methods_of_app() -> tuple[dict[str, _Method], dict[str, _Method]]:
    """Return the current app's methods, which are built with its first request."""
    extensions = current_app.extensions
    if "firelaunch.mcp" not in extensions:
        extensions["firelaunch.mcp"] = _methods(services(), backend().turns)
    methods: tuple[dict[str, _Method], dict[str, _Method]] = extensions["firelaunch.mcp"]
    return methods


def _methods(services: Services, turns: Turns) -> tuple[dict[str, _Method], dict[str, _Method]]:
    """Return the methods of the revisions with a handshake, and those of the stateless revision."""
    app = services.settings.app
    tools_by_name = {tool.name: tool for tool in tools(services, turns)}
    server = {"name": app.id, "title": app.name, "version": "1"}
    about = {
        "capabilities": {"tools": {}},
        "instructions": app.description,
    }
    described = cache(lambda: [tool.described() for tool in tools_by_name.values()])

    def initialize(params: dict[str, Any]) -> dict[str, Any]:
        version = params.get("protocolVersion")
        if not isinstance(version, str):
            raise RpcError(INVALID_PARAMS, "params.protocolVersion must be a string.")
        return {"protocolVersion": version if version in _HANDSHAKE else _HANDSHAKE[-1], "serverInfo": server, **about}

    def discover(_params: dict[str, Any]) -> dict[str, Any]:
        return {"supportedVersions": [_STATELESS], **about}

    def list_tools(params: dict[str, Any]) -> dict[str, Any]:
        if params.get("cursor") is not None:
            raise RpcError(INVALID_PARAMS, "There is one page of tools, and no cursor leads to another.")
        return {"tools": described()}

    def call_tool(params: dict[str, Any]) -> dict[str, Any]:
        tool, arguments = tools_by_name.get(str(params.get("name"))), params.get("arguments", {})
        if tool is None:
            raise RpcError(INVALID_PARAMS, f"There is no such tool; there are {', '.join(tools_by_name)}.")
        if not isinstance(arguments, dict):
            raise RpcError(INVALID_PARAMS, "params.arguments must be an object.")
        return tool.call(caller(), arguments)

    def completed(method: _Method, more: Mapping[str, Any]) -> _Method:
        envelope = {"resultType": "complete", "_meta": {f"{_META}serverInfo": server}, **more}
        return lambda params: {**envelope, **method(params)}

    tool_methods: dict[str, _Method] = {"tools/list": list_tools, "tools/call": call_tool}
    handshake_methods = {"initialize": initialize, "ping": lambda _params: {}, **tool_methods}
    return handshake_methods, {
        "server/discover": completed(discover, _FRESH),
        "tools/list": completed(list_tools, _FRESH),
        "tools/call": completed(call_tool, {}),
    }
