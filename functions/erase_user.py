"""All that one user left in an app, or in every app that is served, found and removed."""

from typing import Any

from firelaunch.api.base import Body
from firelaunch.functions import Call, scoped
from firelaunch.scope import check_uid
from firelaunch.worker.tasks.erase import ERASE, Erase, erasure_of


class Wanted(Body):
    """The body of a call; may be left out."""

    dry_run: bool = False


@scoped("apps/{app}/erasures/{user}")
def erase_user(call: Call) -> dict[str, Any]:
    """An operator: docs/erasure.md."""
    uid = check_uid(call.names["user"])
    if Wanted.model_validate(call.data).dry_run:
        return erasure_of(call.services).report(uid).as_dict()
    return {"job": call.services.jobs.enqueue(call.scope, ERASE, Erase(uid=uid)).id}
