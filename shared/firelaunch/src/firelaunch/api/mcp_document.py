"""Describe ``POST /mcp`` for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from ..errors import TooLarge
from .base import example
from .jsonrpc import Notification, RpcAnswer, RpcId
from .refusals import ErrorAnswer, errors

__all__ = ["HEADERS", "body", "responses"]

_VERSION = "2026-07-28"
_CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask", "arguments": {"text": "Which river is longest?"}},
}


_UNREAD = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "The body is not valid JSON."}}


class RpcMessage(Notification):
    """A message that wants an answer, or without an id one that wants none."""

    model_config = example(_CALL)
    params: Any = Field(default={}, description="An object, as the method has it.")
    id: RpcId = Field(default="", description="Any of the client's own; the answer has it, too.")


class RpcRefusal(RootModel[ErrorAnswer | RpcAnswer]):
    """Why a message was not taken: JSON-RPC's error, or the API's where there was no message to answer."""

    model_config = example(_UNREAD)


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


HEADERS = [
    _header("MCP-Protocol-Version", f"The revision of MCP: {_VERSION}, or an older one after its handshake."),
    _header("Mcp-Method", f"From {_VERSION} on: the method that the body names."),
    _header("Mcp-Name", f"From {_VERSION} on, for tools/call: the tool that the body names."),
    _header("Mcp-Session-Id", "Before 2026-07-28: the session that the answer to initialize names."),
    _header("Origin", "Sent by browsers: a page's origin, which cors.origins must name."),
]


def body() -> dict[str, Any]:
    """Return the description of the request's body."""
    return {"required": True, "content": {"application/json": {"schema": RpcMessage}}}


_STREAM = """\
: still here

event: message
data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 4.0}}

event: message
data: {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "The Volga."}], "isError": false}}

"""


def _answer() -> dict[str, Any]:
    """Return the answer to a request: a message, or a stream that ends with it."""
    schema = {"type": "string", "description": "Server-sent events in UTF-8. The last one is the answer."}
    result = {"content": [{"type": "text", "text": "The Volga."}], "isError": False}
    example = {"jsonrpc": "2.0", "id": 1, "result": result}
    whole = {"schema": {"$ref": "#/components/schemas/RpcAnswer"}, "example": example}
    streamed = {"schema": schema, "example": _STREAM}
    return {"description": "The answer.", "content": {"application/json": whole, "text/event-stream": streamed}}


def responses() -> dict[Any, Any]:
    """Return the responses: JSON-RPC's, and the usual error form if there is no message to answer."""
    refusals = errors(TooLarge)
    unread = refusals["400"]["content"]["application/json"]
    unread["schema"] = RpcRefusal
    unread["examples"]["parse_error"] = {"value": _UNREAD}
    return {200: _answer(), 202: {"description": "A notification: taken."}, 404: RpcAnswer, **refusals}
