"""A notification to all devices of one user."""

from typing import Any

from firelaunch.functions import Call, scoped
from firelaunch.worker.tasks.notify import NOTIFY, Notify


@scoped("apps/{app}/users/{uid}/notifications")
def notify(call: Call) -> dict[str, Any]:
    """Other services of the project: docs/functions.md."""
    return {"job": call.services.jobs.enqueue(call.scope, NOTIFY, Notify.model_validate(call.data)).id}
