"""Let clients call a :class:`.http.JsonServer` by gRPC too, as they call Google's services."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from .http import HttpAnswer, JsonServer

if TYPE_CHECKING:
    from ..rag.vertex_clients import VertexClients

__all__ = ["GrpcServer", "Method"]

Method = tuple[str, str, Any, Any, Callable[[Any], str]]
"""A service, its method, the proto-plus messages of request and response, and the path of the call in REST."""

_CODES = {
    0: "UNAVAILABLE",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The gRPC code of each HTTP status (https://cloud.google.com/apis/design/errors#handling_errors)."""

_MOST_SECONDS = 315_576_000_000
"""The most seconds of a google.protobuf.Duration: 10,000 years."""


class GrpcServer(JsonServer):
    """A server that answers gRPC calls on a Unix socket like REST calls. ``requests`` holds both."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.mkdtemp(prefix="grpc-")
        self.address = f"unix:{self._folder}/s"
        self._grpc: Any = None

    def methods(self) -> list[Method]:
        """Return the methods that clients can call."""
        raise NotImplementedError

    def clients(self, credentials: Any = None) -> VertexClients:
        """Return Vertex AI's clients, connected to this server."""
        import grpc
        from google.auth.credentials import AnonymousCredentials

        from ..rag.vertex_clients import VertexClients

        caller_credentials = credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
        return VertexClients(
            self.address, caller_credentials, lambda: grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        )

    def __enter__(self) -> Self:
        import grpc

        super().__enter__()
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=unlimited)
        for service, name, request, response, path in self.methods():
            handler = grpc.unary_unary_rpc_method_handler(self._handled(request, response, path))
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        self._grpc.add_secure_port(self.address, grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self._grpc.stop(None).wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _handled(self, request: Any, response: Any, path: Callable[[Any], str]) -> Callable[[bytes, Any], bytes]:
        from google.protobuf import json_format

        def handle(raw: bytes, context: Any) -> bytes:
            message = request.pb()()
            message.ParseFromString(raw)
            rest_path = path(message)
            # In REST a field that is part of the path is not in the body too.
            body = {k: v for k, v in json_format.MessageToDict(message).items() if not _names(v, rest_path)}
            headers = {str(name): str(value) for name, value in context.invocation_metadata()}
            answer = self._answered(rest_path, headers, body)
            if answer.status != 200:
                _abort(context, answer)
            return bytes(json_format.ParseDict(answer.body, response.pb()()).SerializeToString())

        return handle


def _names(value: Any, path: str) -> bool:
    return isinstance(value, str) and "/" in value and value in path


def _abort(context: Any, answer: HttpAnswer) -> None:
    import grpc
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2

    code = getattr(grpc.StatusCode, _CODES.get(answer.status, "UNKNOWN"))
    message = (
        str(answer.body.get("error", {}).get("message", "")) if isinstance(answer.body, Mapping) else str(answer.body)
    )
    if "Retry-After" in answer.headers:
        info = error_details_pb2.RetryInfo()
        seconds = float(answer.headers["Retry-After"])
        info.retry_delay.seconds = int(seconds) if seconds < _MOST_SECONDS else _MOST_SECONDS
        packed = any_pb2.Any()
        packed.Pack(info)
        status = status_pb2.Status(code=code.value[0], message=message, details=[packed])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)
