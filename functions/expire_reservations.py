"""Reservations of requests that never settled, let go."""

from typing import Any

from firelaunch.functions import Call, scoped
from firelaunch.worker.tasks.rollup import EXPIRE, Expire


@scoped("apps/{app}")
def expire_reservations(call: Call) -> dict[str, Any]:
    """Cloud Scheduler, every hour: docs/functions.md."""
    job = call.services.jobs.enqueue(call.scope, EXPIRE, Expire.model_validate(call.data), key=call.id or None)
    return {"job": job.id}
