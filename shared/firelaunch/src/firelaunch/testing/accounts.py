"""Replace the part of Firebase Auth's REST API (Identity Toolkit) that sets custom claims.

The server answers at Google's paths, and under ``/identitytoolkit.googleapis.com`` like the Auth emulator, so you can
set FIREBASE_AUTH_EMULATOR_HOST to it. It refuses what the emulator refuses, with the same messages.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

__all__ = ["AccountServer", "RecordedCall", "refused"]

_PATH = re.compile(
    r"(?:/identitytoolkit\.googleapis\.com)?/v1/projects/(?P<project>[^/]+)(?:/tenants/(?P<tenant>[^/]+))?"
    r"/accounts:(?P<action>lookup|update)"
)
_MAX_CLAIMS = 1000
_RESERVED = frozenset({"aud", "auth_time", "exp", "firebase", "iat", "iss", "nbf", "sub", "user_id"})


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One request that reached the server."""

    action: str
    tenant: str | None
    body: dict[str, Any]


@dataclass
class AccountServer:
    """A server of accounts, as a context manager. It keeps users in memory, by tenant (None: the project) and uid.

    Attributes:
        fail: statuses with which to refuse the next updates; 0 closes the connection without an answer.
        slow: seconds that an update waits after its arrival, in which another may overtake it.
    """

    project: str
    fail: list[int] = field(default_factory=list)
    slow: float = 0.0
    calls: list[RecordedCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._users: dict[tuple[str | None, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.toolkit_url = f"http://{self.host}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, uid: str, tenant: str | None = None, **fields: Any) -> None:
        """Add a user, with the API's fields such as ``email``, ``emailVerified``, ``disabled`` and ``validSince``."""
        claims = fields.pop("claims", None)
        if claims is not None:
            fields["customAttributes"] = json.dumps(claims)
        self._users[tenant, uid] = {"localId": uid, "validSince": "0", **fields}

    def claims(self, uid: str, tenant: str | None = None) -> dict[str, Any]:
        """Return a user's current custom claims."""
        claims: dict[str, Any] = json.loads(self._users[tenant, uid].get("customAttributes") or "{}")
        return claims

    def answer(self, path: str, authorization: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and body of the answer to a request."""
        target = _PATH.fullmatch(path)
        if target is None or target["project"] != self.project:
            return refused(404, "PROJECT_NOT_FOUND")
        if not (authorization or "").startswith("Bearer "):
            return refused(403, "The request is missing a valid API key.")
        self.calls.append(RecordedCall(target["action"], target["tenant"], body))
        if target["action"] == "lookup":
            with self._lock:
                looked_up = [self._users.get((target["tenant"], uid)) for uid in body.get("localId", [])]
            users = [user for user in looked_up if user]
            return 200, {"kind": "identitytoolkit#GetAccountInfoResponse", **({"users": users} if users else {})}
        if self.fail:
            return refused(self.fail.pop(0), "BACKEND_ERROR")
        time.sleep(self.slow)
        return self._update(target["tenant"], body)

    def _update(self, tenant: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            user = self._users.get((tenant, str(body.get("localId"))))
            if user is None:
                return refused(400, "USER_NOT_FOUND")
            claims = body.get("customAttributes")
            if claims is not None:
                if len(claims) > _MAX_CLAIMS:
                    return refused(400, "CLAIMS_TOO_LARGE")
                try:
                    decoded = json.loads(claims)
                except ValueError:
                    decoded = None
                if not isinstance(decoded, dict):
                    return refused(400, "INVALID_CLAIMS")
                if reserved := sorted(_RESERVED & decoded.keys()):
                    return refused(400, f"FORBIDDEN_CLAIM : {reserved[0]}")
                user["customAttributes"] = claims
            return 200, {"kind": "identitytoolkit#SetAccountInfoResponse", "localId": user["localId"]}


def refused(status: int, message: str) -> tuple[int, dict[str, Any]]:
    """Return an error in the format of Identity Toolkit."""
    return status, {
        "error": {"code": status, "message": message, "errors": [{"message": message, "reason": "invalid"}]}
    }


def _handler(owner: AccountServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            form = "form-urlencoded" in self.headers.get("Content-Type", "")
            request = dict(parse_qsl(raw.decode())) if form else json.loads(raw)
            status, answer = owner.answer(self.path, self.headers.get("Authorization"), request)
            if status == 0:
                self.close_connection = True
                return
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler
