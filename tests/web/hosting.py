"""Serve a built web client as Firebase Hosting does: compressed, with headers, apart from the service."""

from __future__ import annotations

import gzip
import json
import mimetypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

__all__ = ["Host", "hosted"]


@dataclass
class Host:
    """A web client that is served.

    Attributes:
        folder: what was built; another one is a new deployment.
        config: what ``/config.json`` says.
        connect: the origins that the page may call.
        passed: where requests with a body go, as if the page's host were that server.
        answers: further paths, and what answers them.
    """

    folder: Path
    config: dict[str, Any]
    connect: list[str] = field(default_factory=list)
    url: str = ""
    passed: str = ""
    answers: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def policy(self) -> str:
        """Return the Content-Security-Policy, which allows no script and no style in the page itself."""
        return "; ".join(
            (
                "default-src 'none'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
                "script-src 'self' https://apis.google.com",
                "style-src 'self'",
                "font-src 'self'",
                "img-src 'self' blob: data: https: http:",
                "media-src 'self' blob:",
                " ".join(["connect-src 'self'", *self.connect]),
                " ".join(["frame-src", *self.connect]),
            )
        )


@contextmanager
def hosted(folder: Path, config: dict[str, Any], *connect: str) -> Iterator[Host]:
    """Serve ``folder`` on a port of its own."""
    host = Host(folder, config, list(connect))
    server = ThreadingHTTPServer(("localhost", 0), _handler(host))
    server.daemon_threads = True
    host.url = f"http://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


def _handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/config.json":
                self._send(200, json.dumps(host.config).encode(), "application/json", "no-store")
                return
            if path in host.answers:
                self._send(200, json.dumps(host.answers[path]()).encode(), "application/json", "no-store")
                return
            file = (host.folder / (path.lstrip("/") or "index.html")).resolve()
            if not file.is_file() or host.folder.resolve() not in file.parents:
                self._send(404, b"not found", "text/plain", "no-store")
                return
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            lasting = "public, max-age=31536000, immutable" if path.startswith("/assets/") else "no-cache"
            self._send(200, file.read_bytes(), kind, lasting)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = httpx.post(host.passed + self.path, content=body, headers=kind, trust_env=False)
            self._send(answer.status_code, answer.content, "application/json", "no-store")

        def _send(self, status: int, body: bytes, kind: str, cached: str) -> None:
            packed = gzip.compress(body, 9) if "gzip" in self.headers.get("Accept-Encoding", "") else body
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if packed is not body:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(packed)))
            self.send_header("Cache-Control", cached)
            self.send_header("Content-Security-Policy", host.policy())
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(packed)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    return Handler
