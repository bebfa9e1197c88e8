"""Cloud Run's front end: it brings requests to a revision's container, and answers back as they come."""

from __future__ import annotations

import select
import socket
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from .base import Call

__all__ = ["Front"]

_SECONDS = 120.0
_PIECE = 65_536
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "transfer-encoding",
    "te",
    "content-length",
}


class Front:
    """How the front end behaves.

    Attributes:
        buffers: whether it holds an answer back until it is whole.
        strips_signatures: whether it takes the signature out of tokens, as Cloud Run does where it checks them itself
            (https://cloud.google.com/run/docs/troubleshooting#signature-removed).
        swallows: ends of paths whose requests are answered with 202 and reach nobody.
        notices_leaving: whether a container is told that its client has left.
    """

    def __init__(self) -> None:
        self.buffers = False
        self.strips_signatures = False
        self.swallows: set[str] = set()
        self.notices_leaving = True

    def relay(self, handler: BaseHTTPRequestHandler, call: Call, upstream: str) -> None:
        """Bring one request to ``upstream``; the connection ends with its answer."""
        handler.close_connection = True
        if call.path.endswith(tuple(self.swallows)):
            handler.send_response(202)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        place = urlsplit(upstream)
        try:
            with socket.create_connection((place.hostname or "", place.port or 80), _SECONDS) as container:
                container.sendall(self._request(handler, call))
                self._pump(container, handler.connection)
        except OSError:
            return

    def _request(self, handler: BaseHTTPRequestHandler, call: Call) -> bytes:
        headers = {name: value for name, value in call.headers.items() if name not in _HOP_BY_HOP}
        token = headers.get("authorization", "")
        if self.strips_signatures and token.count(".") == 2:
            headers["authorization"] = f"{token.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"
        headers |= {"host": call.host, "x-forwarded-proto": "https", "connection": "close"}
        headers |= {"content-length": str(len(call.body))} if call.body or call.method in ("POST", "PUT") else {}
        lines = [f"{call.method} {_target(handler)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + call.body

    def _pump(self, container: socket.socket, client: socket.socket) -> None:
        """Bring the answer's bytes until the container closes, or the client has left and that is noticed."""
        held, watched = b"", [container, client]
        while True:
            ready, _, _ = select.select(watched, [], [], _SECONDS)
            if client in ready:  # it sends nothing more: what is there to read is its goodbye
                if self.notices_leaving:
                    return
                watched = [container]
            if container not in ready:
                if not ready:
                    return
                continue
            piece = container.recv(_PIECE)
            held += piece
            if len(watched) == 2 and held and not (self.buffers and piece):
                client.sendall(held)
            if not self.buffers or not piece:
                held = b""
            if not piece:
                return


def _target(handler: BaseHTTPRequestHandler) -> str:
    parts = urlsplit(handler.path)
    return f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
