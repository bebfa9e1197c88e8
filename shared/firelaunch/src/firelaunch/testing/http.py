"""Provide a small JSON server on a real socket, the base of the servers that replace cloud services."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["HttpAnswer", "JsonServer", "RequestRefused", "parsed"]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer: ``body`` is sent as JSON, unchanged if it is bytes, or piece by piece if it is an iterator of bytes.

    Status 0 cuts the connection.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestRefused(Exception):
    """Raised by ``answer`` for an error in the format that Google's and OpenAI's APIs share."""

    def __init__(self, status: int, message: str, name: str = "INVALID_ARGUMENT") -> None:
        self.status = status
        self.message = message
        self.name = name
        super().__init__(message)


class JsonServer:
    """A server that answers POSTs, as a context manager. Subclasses implement ``answer``.

    Attributes:
        url: the server's address.
        requests: path and body of each request, in order.
        headers: the headers of each request, their names in lower case.
        script: answers to give first, one for each request, before ``answer`` is called.
        hung_up: the number of clients that left before their stream had ended.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.script: list[HttpAnswer] = []
        self.hung_up = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, body: Any) -> Any:
        """Return the JSON (or :class:`HttpAnswer`) for ``body`` at ``path`` (without its first "/").

        Raises:
            Refused: the service would refuse the request.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _respond(self, path: str, headers: Mapping[str, str], raw: bytes) -> HttpAnswer:
        return self._answered(path, headers, json.loads(raw))

    def _answered(self, path: str, headers: Mapping[str, str], body: Any) -> HttpAnswer:
        with self._lock:
            self.requests.append((path, body))
            self.headers.append(headers)
            if self.script:
                return self.script.pop(0)
            try:
                result = self.answer(path, body)
                return result if isinstance(result, HttpAnswer) else HttpAnswer(200, result)
            except RequestRefused as refused:
                error = {"code": refused.status, "message": refused.message, "status": refused.name}
                return HttpAnswer(refused.status, {"error": error})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _handler(owner: JsonServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = owner._respond(
                self.path.lstrip("/"), {name.lower(): value for name, value in self.headers.items()}, raw
            )
            if answer.status == 0:
                self.close_connection = True
                return
            if isinstance(answer.body, Iterator):
                self._stream(answer)
                return
            sent = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(sent)), **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def _stream(self, answer: HttpAnswer) -> None:
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Transfer-Encoding": "chunked"}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in answer.body:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # whoever asked has left
                owner.hung_up += 1
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler


def parsed(kind: Any, body: Any) -> Any:
    """Parse ``body`` as Google's message ``kind`` (of proto-plus), as a service would.

    Raises:
        Refused: a field is unknown, or of another type.
    """
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(body, kind.pb()())
    except json_format.ParseError as error:
        raise RequestRefused(400, f"Invalid JSON payload received. {error}") from None
