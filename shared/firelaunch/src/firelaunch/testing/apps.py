"""Make an app for tests: settings in a folder, and a signed-in client."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flask.testing import FlaskClient
from pydantic import BaseModel
from werkzeug.test import TestResponse

from ..api.base import ViewContext
from ..jobs import Job, Kind
from ..jobs.base import HasKind
from ..llm.retirements import model_warnings
from ..prompts.lock import lock
from ..server.app import App
from ..services.bundle import Services
from ..store.audit import OPERATOR
from ..store.base import Set

__all__ = [
    "SETTINGS",
    "User",
    "enqueue_job",
    "events",
    "model_warnings",
    "put_file",
    "run_jobs",
    "sign_in",
    "write_app",
    "write_document",
]

P = TypeVar("P", bound=BaseModel)

SETTINGS = """
[app]
id = "demo"
name = "Demo"

[models]
provider = "openai"

[models.openai]
chat = "gpt-5.4-mini"
cheap = "gpt-5.4-nano"
fallback = ["gpt-5-mini"]

[prompts]
chat = 1

[limits]
max_output_tokens = 100
thinking_tokens = 0

[plans.free]
requests_per_minute = 1000
daily_usd = "0.50"
"""
"""A small, complete ``firelaunch.toml``."""


def write_app(folder: Path, settings: str = SETTINGS) -> Path:
    """Write an app's settings and prompts into ``folder``, and return the path of its ``firelaunch.toml``."""
    prompts = folder / "app" / "prompts"
    prompts.mkdir(parents=True, exist_ok=True)
    (prompts / "chat@1.md").write_text("You are ${app_name}.")
    lock(prompts)
    path = folder / "firelaunch.toml"
    path.write_text(settings)
    return path


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user of a test client. Each method takes a path under the app's root."""

    client: FlaskClient
    token: str

    def get(self, path: str, **headers: str) -> TestResponse:
        """Send a GET request. Write "_" for "-" in the names of ``headers``."""
        return self.client.get(path, headers=self._headers(headers))

    def delete(self, path: str, **headers: str) -> TestResponse:
        """Send a DELETE request."""
        return self.client.delete(path, headers=self._headers(headers))

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        """POST ``body`` as JSON, or bytes as they are; an empty object if left out."""
        return self._send("POST", path, {} if body is None else body, headers)

    def put(self, path: str, body: Any, **headers: str) -> TestResponse:
        """PUT ``body`` as JSON, or bytes as they are."""
        return self._send("PUT", path, body, headers)

    def patch(self, path: str, body: Any, **headers: str) -> TestResponse:
        """PATCH ``body`` as JSON, or bytes as they are."""
        return self._send("PATCH", path, body, headers)

    def upload(self, name: str, content: bytes, **form: str) -> TestResponse:
        """Upload a document as a file."""
        data = {"file": (io.BytesIO(content), name), **form}
        return self.client.post("/v1/uploads", data=data, headers=self._headers(), content_type="multipart/form-data")

    def document(self, document: str, seconds: float = 60.0, *, library: bool = False) -> dict[str, Any]:
        """Wait until a document is ready or failed, and return it.

        Raises:
            AssertionError: the work on it did not end within ``seconds``.
        """
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            view: dict[str, Any] = self.get(f"/v1/documents/{document}?library={str(library).lower()}").get_json()
            if view.get("status") in {"ready", "failed"}:
                return view
            time.sleep(0.02)
        raise AssertionError(f"the document is not ready: {view}")

    def new_chat(self) -> str:
        """Make a chat and return its id."""
        chat_id: str = self.post("/v1/chats").get_json()["id"]
        return chat_id

    def send(self, chat_id: str, text: str, **headers: str) -> TestResponse:
        """Send a message."""
        return self.post(f"/v1/chats/{chat_id}/messages", {"text": text}, **headers)

    def stream(self, chat_id: str, text: str, **headers: str) -> TestResponse:
        """Send a message and ask for a stream; :func:`events` reads the answer."""
        return self.send(chat_id, text, Accept="text/event-stream", **headers)

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> TestResponse:
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        return self.client.open(path, method=method, headers=self._headers(headers), **content)

    def _headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        headers = {name.replace("_", "-"): value for name, value in (more or {}).items()}
        return {"Authorization": f"Bearer {self.token}", **headers}


def sign_in(app: App, uid: str, role: str = "member", *, plan: str | None = None, guest: bool = False) -> User:
    """Sign in to ``app``, which runs in embedded or emulators mode, and return the user.

    Args:
        plan: a plan of the settings, which the user is granted first; the plan that they have if left out.
        guest: whether the user has no account, as Firebase's anonymous users; the settings need a plan for guests.
    """
    client = app.test_client()
    if plan is not None:
        services: Services = app.extensions["firelaunch"].services
        services.checkout.grant(services.store.scope.of(uid), plan, OPERATOR)
    answer = client.post("/dev/token", json={"uid": uid, "role": role, "guest": guest})
    return User(client, answer.get_json()["token"])


def events(response: TestResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the server-sent events of a streamed answer as they arrive, each as its name and its data."""
    name, rest = "", b""
    for piece in response.response:
        rest += piece if isinstance(piece, bytes) else piece.encode()
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            if line.startswith(b"event: "):
                name = line[7:].decode()
            elif line.startswith(b"data: "):
                yield name, json.loads(line[6:])


def write_document(app: App, uid: str | None, path: str, fields: Mapping[str, Any]) -> None:
    """Write a document below a user of ``app``, or below the app if ``uid`` is None. Handlers of its writes get jobs.

    Args:
        path: the collection and the id, as in "meals/m1".
    """
    store = _services(app).store
    scope = store.scope if uid is None else store.scope.of(uid)
    store.commit([Set(f"{scope.root}/{path}", fields)])


def put_file(app: App, uid: str, path: str, content: bytes) -> None:
    """Put a file into a user's folder of ``app``, as a client's upload does. Handlers of uploads get jobs.

    Args:
        path: the folder and the name, as in "pictures/lunch.jpg".
    """
    services = _services(app)
    scope = services.store.scope.of(uid)
    services.documents.files(scope).put(f"{scope.root}/{path}", io.BytesIO(content))


def enqueue_job(app: App, uid: str | None, job: Kind[P] | HasKind[P], payload: P | None = None) -> Job:
    """Enqueue a job of ``app`` for a user, or for the app if ``uid`` is None, as a schedule does; return it.

    Args:
        payload: None for the payload with every field's default.
    """
    services = _services(app)
    scope = services.store.scope if uid is None else services.store.scope.of(uid)
    return services.within(scope).enqueue(job, payload)


def run_jobs(app: App) -> list[Job]:
    """Run the jobs of ``app`` that are due, also those that they enqueue, and return them as they are then.

    The app runs in embedded or emulators mode, and its own worker threads are not started.
    """
    jobs, ran = _services(app).jobs, dict[str, None]()
    while app.runner is not None and (due := jobs.due(100)):
        for job_id in due:
            app.runner.run(job_id)
            ran[job_id] = None
    return [job for job_id in ran if (job := jobs.find(job_id)) is not None]


def _services(app: App) -> Services:
    context: ViewContext = app.extensions["firelaunch"]
    return context.services
