"""The processes that are killed. What they need to know is in the environment variable CHAOS, as JSON."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

from firelaunch.jobs import Kind
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Increment, Set
from firelaunch.worker import Handlers, JobDone, JobRun
from firelaunch.worker.job_definitions import job
from pydantic import BaseModel

__all__ = ["STEPS", "WORK", "Work", "cloud_app", "each_minute", "effect_path", "embedded"]

STEPS = 3


class Work(BaseModel):
    """So many steps, each of which takes up to ``pause`` seconds."""

    steps: int
    pause: float


WORK = Kind("work", Work, max_attempts=100)
HANDLERS = Handlers()


def effect_path(run_root: str, job_id: str) -> str:
    """Where a job counts its effects."""
    return f"{run_root}/effects/{job_id}"


@HANDLERS.on(WORK)
def work(run: JobRun, payload: Work) -> JobDone:
    """Count each step once, and the end once; a kill may come anywhere."""
    path = effect_path(run.scope.root, run.id)
    for step in range(run.checkpoint or 0, payload.steps):
        time.sleep(random.uniform(0, payload.pause))  # noqa: S311 - a test's dice
        run.commit(Set(path, {"steps": Increment(1)}, merge=True), checkpoint=step + 1)
        run.progress(step + 1, payload.steps)
    return JobDone(writes=[Set(path, {"ends": Increment(1)}, merge=True)])


@job("each_minute", max_attempts=100)
def each_minute(run: JobRun) -> JobDone:
    """Count the end of a job of a schedule once."""
    return JobDone(writes=[Set(effect_path(run.scope.root, run.id), {"ends": Increment(1)}, merge=True)])


def embedded() -> None:
    """One process of an app on a laptop; it works until it is killed. The ticks of schedules are called elsewhere."""
    known = json.loads(os.environ["CHAOS"])
    app, services = App("chaos", jobs=[each_minute]), build(Settings.load(Path(known["settings"]), {}))
    init_app(app, services, lambda _: (), HANDLERS)
    if services.jobs.backend is not None and app.runner is not None:
        services.jobs.backend.start(services.jobs.due, app.runner.run)
    signal.pause()


def cloud_app() -> App:
    """The app of one gunicorn worker, as in the cloud."""
    import grpc
    from fakes.jobs import ACCOUNT, QUEUE
    from firelaunch.jobs.cloud_tasks import CloudTasksBackend
    from firelaunch.jobs.oidc import ServiceAccountTokens
    from firelaunch.store.firestore import FirestoreStore

    known = json.loads(os.environ["CHAOS"])
    services = build(
        Settings.load(Path(known["settings"]), {}),
        store=FirestoreStore(known["project"]),
        backend=CloudTasksBackend(
            "demo", QUEUE, known["url"], ACCOUNT, channel=lambda: grpc.insecure_channel(known["cloud_tasks"])
        ),
        internal=ServiceAccountTokens(known["url"], ACCOUNT, known["certificates"]),
    )
    app = App("chaos", jobs=[each_minute])
    init_app(app, services, lambda _: (), HANDLERS)
    app.start_jobs = lambda: None  # the ticks of schedules are called elsewhere, as by Cloud Scheduler
    return app


if __name__ == "__main__":
    embedded()
