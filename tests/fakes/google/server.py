"""The server: a proxy that every tool is told to use, so that each request arrives under the real host's name.

A host that it does not play is refused and noted as unexpected: nothing reaches the real one.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Iterator, Set
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from firelaunch.testing.emulator import Emulator

from .base import TOKEN, Call, Refusal, Route, service_disabled
from .billing import Billing
from .build import Build
from .credentials import Credentials
from .documents import Documents
from .events import Events
from .firebase import Firebase
from .firestore import Firestore
from .front import Front
from .hosting import Hosting
from .monitoring import Monitoring
from .project import Project
from .quotas import Quotas
from .run import Run
from .sign_in import SignIn
from .users import Users
from .vertex import Vertex
from .work import Work

__all__ = ["GoogleCloud", "ServiceAccount"]

_OVERRIDES = (
    *("artifactregistry", "cloudbilling", "cloudbuild", "iam", "run", "secretmanager", "serviceusage", "storage"),
    *("cloudscheduler", "cloudtasks", "eventarc", "pubsub", "runapps"),
)
_LOOPBACK = (
    "aiplatform",
    "billingbudgets",
    "cloudquotas",
    "cloudresourcemanager",
    "firestore",
    "firebase",
    "firebasehosting",
    "firebaserules",
    "firebasestorage",
    "identitytoolkit",
    "logging",
    "monitoring",
    "vectorsearch",
)
"""Requests of firelaunch's own go there too, and it sends a token without TLS to this machine alone."""

_QUOTA = (
    *("billingbudgets.", "cloudquotas.", "firebase.", "firebasehosting.", "firebaserules.", "firebasestorage."),
    "identitytoolkit.",
)
"""Hosts that refuse a person's token without the header X-Goog-User-Project."""


_OF_THE_CALLER = ("cloudbilling.googleapis.com", "cloudresourcemanager.googleapis.com")
"""APIs whose calls count for the project of whoever calls, not for the one that the call is about
(https://cloud.google.com/docs/quotas/quota-project)."""

_NUMBER = "1234"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Whoever calls, where that is a service account: the number of its own project, and the APIs that are on there."""

    project: str
    apis: Set[str]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a client that was killed."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class GoogleCloud:
    """One project, empty at first.

    Attributes:
        project: its id.
        exhausted: permissions whose quota is used up.
        caller: the service account that calls; None for a person, whose calls to Cloud Billing and the Resource Manager
            count for gcloud's own project, where these are on.
        requests: each request to an API, as "METHOD host/path", in order.
        unexpected: those that nothing here plays.
    """

    def __init__(self, project: str = "demo-project") -> None:
        self.project = project
        self.exhausted: set[str] = set()
        self.caller: ServiceAccount | None = None
        self.requests: list[str] = []
        self.unexpected: list[str] = []
        self.account = Project(project)
        self.quotas = Quotas(project, self.account)
        self.billing = Billing(project)
        self.monitoring = Monitoring(project)
        self.firestore = Firestore(project)
        self.firestore.billing = lambda: self.account.billing
        self.run = Run(project, self.account, self.quotas)
        self.build = Build(project, self.run)
        self.firebase = Firebase(project, self.account)
        self.hosting = Hosting(project)
        self.sign_in = SignIn(project, self.account, self.firebase)
        self.users = Users(project, self.sign_in)
        self.credentials = Credentials(project, self.account, self.users, self.sign_in)
        self.work = Work(project, self.account)
        self.vertex = Vertex(project, self.account)
        self.events = Events(project, self.account, self.firestore, self.run, self.build)
        parts = (
            self.account,
            self.billing,
            self.monitoring,
            self.quotas,
            self.firestore,
            self.run,
            self.build,
            self.firebase,
            self.hosting,
            self.sign_in,
            self.users,
            self.credentials,
            self.work,
            self.events,
            self.vertex,
        )
        self.routes: list[Route] = [route for part in parts for route in part.routes()]
        self.tls: ssl.SSLContext | None = None
        """With the certificate of an authority that clients trust, https is answered too, whatever the host."""
        self.front = Front()
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def keep_documents(self, emulator: Emulator) -> Documents:
        """Have the emulator keep Firestore's documents from now on."""
        documents = Documents(self.project, emulator, self.credentials, self.firestore)
        self.routes[:0] = documents.routes()
        return documents

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environ(self, home: Path) -> dict[str, str]:
        """What has gcloud and firelaunch's own requests come here, with a login of their own in ``home``."""
        home.mkdir(parents=True, exist_ok=True)
        token = home / "access-token"
        token.write_text(TOKEN)
        return {
            "CLOUDSDK_CONFIG": str(home / "gcloud"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
            **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}": f"http://{api}.googleapis.com/" for api in _OVERRIDES},
            **{
                f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}": f"{self.url}/{api}.googleapis.com/"
                for api in _LOOPBACK
            },
            "HOME": str(home),
            "http_proxy": self.url,
            "https_proxy": self.url,
            "no_proxy": "127.0.0.1,localhost",
        }

    @property
    def denied(self) -> set[str]:
        """Permissions that whoever calls does not have, whatever testIamPermissions says."""
        return self.account.denied

    @denied.setter
    def denied(self, permissions: set[str]) -> None:
        self.account.denied = permissions

    def permission_of(self, request: str) -> str:
        """The permission that a request takes, given as in ``requests``; empty where Google documents none.

        Raises:
            LookupError: nothing here plays such a request.
        """
        method, _, where = request.partition(" ")
        host, slash, path = where.partition("/")
        call = Call(method, host, f"{slash}{path}", {}, {}, b"")
        for route in self.routes:
            if route.matches(call) is not None:
                return route.permission
        raise LookupError(request)

    def answer(self, call: Call) -> tuple[int, Any]:
        """One request's status and JSON (or bytes)."""
        with self._lock:
            if call.host.endswith(".run.app"):
                return self.run.serve(call)
            self.requests.append(f"{call.method} {call.host}{call.path}")
            try:
                return 200, self._find(call)
            except Refusal as refusal:
                return refusal.status, refusal.body()

    def relay(self, handler: BaseHTTPRequestHandler, call: Call, upstream: str) -> None:
        """Bring a request to a revision, and its answer back as it comes."""
        self.front.relay(handler, call, upstream)

    def _find(self, call: Call) -> Any:
        for route in self.routes:
            found = route.matches(call)
            if found is None:
                continue
            email = self.credentials.account_of(call.token)
            if email and route.guarded:
                self.credentials.check(email, *route.guarded(call, *found))
            elif call.token != TOKEN and not route.open:
                raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
            quota = call.headers.get("x-goog-user-project")
            if call.host.startswith(_QUOTA) and not route.open and quota != self.project:
                raise Refusal(403, "PERMISSION_DENIED", f"The {call.host} API requires a quota project.")
            self._check_api(call)
            if route.permission in self.exhausted:
                raise Refusal(429, "RESOURCE_EXHAUSTED", f"Quota exceeded for quota metric '{route.permission}'.")
            if route.permission in self.denied:
                raise Refusal(403, "PERMISSION_DENIED", f"Permission '{route.permission}' denied on the resource.")
            return route.answer(call, *found)
        self.unexpected.append(f"{call.method} {call.host}{call.path}")
        raise Refusal(400, "FAILED_PRECONDITION", f"{call.method} {call.host}{call.path} is not played here.")

    def _check_api(self, call: Call) -> None:
        """Refuses an API that is off, or was turned on a moment ago."""
        api = f"{call.host.partition('.')[0].rpartition('-')[2]}.googleapis.com"
        if api == "serviceusage.googleapis.com":
            return
        project: str = _NUMBER
        on: Set[str] = self.account.apis
        if api in _OF_THE_CALLER:
            if self.caller is None:
                return
            if self.caller.project != _NUMBER:
                project, on = self.caller.project, self.caller.apis
        if api not in on or self.account.is_late(api):
            raise service_disabled(api, project)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            tunnel = ""

            def _go(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else b"".join(_chunks(self))
                call = _call(self.command, self.path, dict(self.headers.items()), body, self.tunnel)
                upstream = cloud.run.upstream(call) if call.host.endswith(".run.app") else None
                if upstream:
                    cloud.relay(self, call, upstream)
                    return
                status, answer = cloud.answer(call)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for name, value in call.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _go  # noqa: N815 - http.server's names

            def do_CONNECT(self) -> None:
                if cloud.tls is not None:
                    self._decrypt(cloud.tls)
                    return
                with cloud._lock:
                    cloud.unexpected.append(f"CONNECT {self.path}")
                self.send_error(403, "not played here")
                self.close_connection = True

            def _decrypt(self, tls: ssl.SSLContext) -> None:
                """Answer in the place of whatever host the tunnel is to."""
                self.send_response(200, "Connection established")
                self.end_headers()
                try:
                    self.connection = tls.wrap_socket(self.connection, server_side=True)
                except (OSError, ssl.SSLError):
                    self.close_connection = True
                    return
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
                self.tunnel = self.path.rpartition(":")[0]
                self.close_connection = False

            def log_message(self, *_: Any) -> None:
                """Nothing: the requests are kept."""

        return Handler


def _chunks(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


def _call(method: str, target: str, headers: dict[str, str], body: bytes, tunnel: str = "") -> Call:
    lower = {name.lower(): value for name, value in headers.items()}
    parts = urlsplit(target)
    host, path = parts.netloc or tunnel, parts.path
    if not host:  # sent here directly: the first segment names the host
        _, host, *rest = path.split("/")
        path = "/" + "/".join(rest)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Call(method, host, unquote(path), query, lower, body)
