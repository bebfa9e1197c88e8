"""An app whose jobs run for real: in threads of its own, or brought by the server that plays Cloud Tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from firelaunch.jobs import Job
from firelaunch.jobs.cloud_tasks import CloudTasksBackend
from firelaunch.jobs.embedded import EmbeddedBackend
from firelaunch.jobs.oidc import ServiceAccountTokens
from firelaunch.llm.types import Chunk
from firelaunch.rag.web.fetch import Fetcher
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.server.declared import Declared
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import DocumentStore
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.certificates import CertificateServer
from firelaunch.turns.turn import Workflow
from firelaunch.worker import Handlers, Runner
from werkzeug.serving import make_server

from fakes.cloud_tasks import CloudTasksServer, RetryPolicy

__all__ = ["ACCOUNT", "JOB_SETTINGS", "QUEUE", "Site", "cloud_site", "embedded_site"]

ACCOUNT = "jobs@demo-project.iam.gserviceaccount.com"
QUEUE = "projects/demo-project/locations/europe-west1/queues/demo"

JOB_SETTINGS = (
    SETTINGS
    + """
[jobs]
max_attempts = 3
backoff_seconds = 0.02
backoff_max_seconds = 0.1
lease_seconds = 30
workers = 4
"""
)
"""Settings under which a job that fails is tried again at once."""


_NOTHING = Declared()


@dataclass(slots=True)
class Site:
    """An app, its services, and the handlers of its jobs.

    Attributes:
        cloud: the server that plays Cloud Tasks; None where jobs run in the app's own threads.
        url: where the app is served; empty where it is not.
        certificates: sign tokens as Google does; None where the app is not served.
    """

    app: App
    services: Services
    handlers: Handlers
    runner: Runner
    cloud: CloudTasksServer | None = None
    url: str = ""
    certificates: CertificateServer | None = None

    def finished(self, job: Job, seconds: float = 30.0) -> Job:
        """The job once it has ended.

        Raises:
            AssertionError: it did not end within ``seconds``.
        """
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            found = self.services.jobs.find(job.id)
            if found is not None and found.finished:
                return found
            time.sleep(0.01)
        raise AssertionError(f"the job did not end: {self.services.jobs.find(job.id)}")

    def job(self, scope: Scope, job_id: str) -> Job:
        """A job, as its owner reads it."""
        return self.services.jobs.get(scope, job_id)


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def embedded_site(
    folder: Path,
    store: DocumentStore | None = None,
    clock: Callable[[], datetime] = _now,
    settings: str = JOB_SETTINGS,
    *,
    started: bool = True,
    workflow: Workflow = lambda _: [Chunk("Yes.")],
    fetcher: Fetcher | None = None,
    declared: Declared = _NOTHING,
    **environ: str,
) -> Iterator[Site]:
    """An app on a laptop, with its data in ``folder`` (or in ``store``)."""
    handlers = Handlers()
    loaded = Settings.load(write_app(folder, settings), environ)
    backend = EmbeddedBackend(loaded.jobs.workers, poll_seconds=0.02)
    services = build(loaded, clock, store, backend=backend, fetcher=fetcher)
    app = _app(declared)
    init_app(app, services, workflow, handlers)
    if started:
        app.start_jobs()
    try:
        yield Site(app, services, handlers, _runner(app))
    finally:
        backend.stop()
        services.store.close()


@contextmanager
def cloud_site(
    folder: Path,
    store: DocumentStore,
    clock: Callable[[], datetime] = _now,
    settings: str = JOB_SETTINGS,
    twice: float = 0.0,
    declared: Declared = _NOTHING,
    **environ: str,
) -> Iterator[Site]:
    """An app as in the cloud: served over HTTP, called by the server that plays Cloud Tasks."""
    handlers = Handlers()
    policy = RetryPolicy(min_backoff=0.02, max_backoff=0.2)
    app = _app(declared)
    with (
        CertificateServer() as certificates,
        CloudTasksServer(QUEUE, certificates=certificates, policy=policy, twice=twice) as cloud,
        _served(app) as url,
    ):
        services = build(
            Settings.load(write_app(folder, settings), environ),
            clock,
            store,
            backend=CloudTasksBackend("demo", QUEUE, url, ACCOUNT, clock, channel=cloud.channel),
            internal=ServiceAccountTokens(url, ACCOUNT, certificates.url),
        )
        init_app(app, services, lambda _: [Chunk("Yes.")], handlers)
        yield Site(app, services, handlers, _runner(app), cloud, url, certificates)


def _app(declared: Declared) -> App:
    return App(
        "test",
        routes=declared.routes,
        collections=declared.collections,
        jobs=declared.jobs,
        events=declared.events,
    )


def _runner(app: App) -> Runner:
    if app.runner is None:
        raise AssertionError("init_app() makes the runner")
    return app.runner


@contextmanager
def _served(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
