"""Parse JSON-RPC 2.0 as MCP's streamable HTTP carries it: one message per POST body, the answer in the response."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from typing_extensions import TypeAliasType

from .base import example

__all__ = [
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "UNSUPPORTED_VERSION",
    "Notification",
    "RpcAnswer",
    "RpcError",
    "RpcId",
    "RpcRequest",
    "parse",
]

# https://www.jsonrpc.org/specification#error_object
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
# https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

_SAFE_INTEGER = 2**53 - 1  # JSON readers that use doubles would return another id for a larger one

RpcId = TypeAliasType("RpcId", int | str)


class Notification(BaseModel):
    """A message that wants no answer."""

    model_config = ConfigDict(strict=True)
    jsonrpc: Literal["2.0"]
    method: str = Field(max_length=200)
    params: dict[str, Any] = {}


class RpcRequest(Notification):
    """A message that wants one."""

    id: RpcId


class RpcAnswer(BaseModel):
    """A result or an error, under the request's own id (null where it could not be read)."""

    model_config = example({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "The Volga."}]}})
    jsonrpc: Literal["2.0"]
    id: RpcId | None
    # Objects, both. Generators would make a model of each.
    result: Any = Field(default=None, description="An object, as the method has it.")
    error: Any = Field(default=None, description="An object: `code`, `message`, and for some errors `data`.")


class RpcError(Exception):
    """The error to answer a message with.

    Args:
        code: an error code of JSON-RPC or MCP.
        id: the request's id, or None if it could not be read.
    """

    def __init__(self, code: int, message: str, *, data: Any = None, id: RpcId | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.id = id


def parse(raw: bytes) -> RpcRequest | Notification:
    """Return the one message in a body.

    Raises:
        RpcError: the body holds no message, or several. MCP dropped batches with revision 2025-06-18.
    """
    try:
        body = from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise RpcError(PARSE_ERROR, "The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise RpcError(INVALID_REQUEST, "Send one JSON-RPC message in a request, as an object; batches are not taken.")
    message_id = body.get("id")
    if type(message_id) is int and abs(message_id) > _SAFE_INTEGER:
        raise RpcError(INVALID_REQUEST, "id: an integer has at most 53 bits.")
    try:
        return (RpcRequest if "id" in body else Notification).model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        valid_id = message_id if type(message_id) in (int, str) else None
        raise RpcError(INVALID_REQUEST, f"{problem['loc'][0]}: {problem['msg']}.", id=valid_id) from None
