"""Serve a web site on a real socket, to fetch and to crawl."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Site", "SiteReply"]


@dataclass(frozen=True, slots=True)
class SiteReply:
    """An answer. With ``parts`` it is sent chunk by chunk, while the client stays connected."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    parts: Callable[[], Any] | None = None

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> SiteReply:
        """Return a redirect. Characters outside ASCII are sent as UTF-8."""
        return cls(status=status, headers={"Location": location.encode().decode("latin-1")})


class Site:
    """A web site, as a context manager. ``pages`` maps paths to replies; other paths are a 404.

    Attributes:
        requests: path and headers of each request, in order.
        pages: the replies by path, which tests may change while the site runs.
    """

    def __init__(
        self, pages: dict[str, SiteReply] | None = None, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> None:
        self.pages = pages or {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.host = host
        self._server = _Server((host, 0), _handler(self))
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_port
        self.url = f"{'https' if context else 'http'}://{host}:{self.port}"

    @property
    def paths(self) -> list[str]:
        """The requested paths without robots.txt."""
        return [path for path, _ in self.requests if path != "/robots.txt"]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that leave: tests make them leave on purpose."""


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.requests.append((self.path, dict(self.headers)))
            reply = site.pages.get(self.path, SiteReply(status=404))
            self.send_response(reply.status)
            headers = dict(reply.headers)
            if reply.parts is None:
                headers.setdefault("Content-Length", str(len(reply.body)))
            else:
                headers["Transfer-Encoding"] = "chunked"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
            for part in reply.parts() if reply.parts else ():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if reply.parts is not None:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler
