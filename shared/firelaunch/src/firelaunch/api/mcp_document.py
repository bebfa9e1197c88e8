"""Describe ``POST /mcp`` for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ..errors import TooLarge
from .jsonrpc import RpcAnswer, RpcRequest
from .refusals import errors

__all__ = ["HEADERS", "body", "responses"]

_VERSION = "2026-07-28"
_CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask", "arguments": {"text": "Which river is longest?"}},
}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


HEADERS = [
    _header("MCP-Protocol-Version", f"The revision of MCP: {_VERSION}, or an older one after its handshake."),
    _header("Mcp-Method", f"From {_VERSION} on: the method that the body names."),
    _header("Mcp-Name", f"From {_VERSION} on, for tools/call: the tool that the body names."),
    _header("Origin", "Sent by browsers: a page's origin, which cors.origins must name."),
]


def body() -> dict[str, Any]:
    """Return the description of the request's body."""
    schema = RpcRequest.model_json_schema()
    schema["required"] = ["jsonrpc", "method"]  # without an id it is a notification
    return {"required": True, "content": {"application/json": {"schema": schema, "example": _CALL}}}


def responses() -> dict[Any, Any]:
    """Return the responses: JSON-RPC's, and the usual error form if there is no message to answer."""
    refusals = errors(TooLarge)
    unread = refusals["400"]["content"]["application/json"]
    rpc = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "The body is not valid JSON."}}
    unread["schema"] = {"anyOf": [unread["schema"], {"$ref": "#/components/schemas/RpcAnswer"}]}
    unread["examples"]["parse_error"] = {"value": rpc}
    return {200: RpcAnswer, 202: {"description": "A notification: taken."}, 404: RpcAnswer, **refusals}
