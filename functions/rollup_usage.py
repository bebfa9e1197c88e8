"""What all users of an app used, summed up once a day."""

from typing import Any

from firelaunch.functions import Call, scoped
from firelaunch.worker.tasks.rollup import ROLLUP, Rollup


@scoped("apps/{app}")
def rollup_usage(call: Call) -> dict[str, Any]:
    """Cloud Scheduler, every night: docs/functions.md."""
    job = call.services.jobs.enqueue(call.scope, ROLLUP, Rollup.model_validate(call.data), key=call.id or None)
    return {"job": job.id}
