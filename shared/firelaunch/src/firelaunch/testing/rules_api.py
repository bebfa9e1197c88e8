"""Serve the reading part of the Firebase Rules REST API, and Google's token endpoint, on a real socket."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

__all__ = ["RulesApi"]

_TOKEN = "rules-api-token"  # noqa: S105 - it is valid for this server only
_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


class RulesApi:
    """A server of released rules, as a context manager. ``url`` is the endpoint.

    Attributes:
        rights: whether the account may read rules; if not, every answer is a 403.
        paths: the paths of the requests, in order.
    """

    def __init__(self) -> None:
        self.rights = True
        self.paths: list[str] = []
        self._releases: dict[str, str] = {}
        self._rulesets: dict[str, list[dict[str, str]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def release(self, project: str, *sources: str, name: str = "cloud.firestore") -> None:
        """Release rules, one file for each source. Another database's ``name`` is "cloud.firestore/<database>"."""
        ruleset = f"projects/{project}/rulesets/{len(self._rulesets):08}"
        self._rulesets[ruleset] = [{"name": "firestore.rules", "content": source} for source in sources]
        self._releases[f"projects/{project}/releases/{name}"] = ruleset

    def credentials_file(self, folder: Path) -> Path:
        """Write a service account's key for GOOGLE_APPLICATION_CREDENTIALS; this server issues its tokens."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "project_id": "demo-rules",
            "private_key_id": "1",
            "private_key": key.decode(),
            "client_email": "rules@demo-rules.iam.gserviceaccount.com",
            "token_uri": f"{self.url}/token",
        }
        path = folder / "account.json"
        path.write_text(json.dumps(account))
        return path

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        self.paths.append(path)
        if authorization != f"Bearer {_TOKEN}":
            return _error(401, "Request is missing required authentication credential.")
        if not self.rights:
            return _error(403, "The caller does not have permission")
        name = path.removeprefix("/v1/")
        if name in self._releases:
            return 200, {"name": name, "rulesetName": self._releases[name]}
        if name in self._rulesets:
            return 200, {"name": name, "source": {"files": self._rulesets[name]}}
        return _error(404, "Requested entity was not found.")


def _error(code: int, message: str) -> tuple[int, Any]:
    return code, {"error": {"code": code, "message": message, "status": _STATUS[code]}}


def _handler(owner: RulesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*owner._answer(unquote(self.path), self.headers.get("Authorization", "")))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(200, {"access_token": _TOKEN, "expires_in": 3600, "token_type": "Bearer"})

        def _send(self, status: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler
