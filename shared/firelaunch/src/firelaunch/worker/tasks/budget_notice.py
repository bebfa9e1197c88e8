"""The job that sends a notification to each admin of the app when much of the app's budget is used."""

from __future__ import annotations

from typing import Final

from ...services.budget_notices import BUDGET_NOTICE, BudgetNotice
from ...store.base import Filter, Query
from .. import Handlers, JobDone, JobFailed, JobRun
from .notify import NOTIFY, Notify

__all__ = ["budget_notice_handlers"]

_MOST_ADMINS = 200

_WHOSE: Final = {"day": "Today's budget", "month": "The month's budget", "guests": "Today's budget for guests"}


def budget_notice_handlers(more: Handlers | None = None) -> Handlers:
    """Return the handler of notices on the app's budget, together with ``more``."""
    handlers = Handlers(more)

    @handlers.on(BUDGET_NOTICE)
    def tell(run: JobRun, payload: BudgetNotice) -> JobDone:
        if run.scope.uid is not None:
            raise JobFailed("A notice on the budget is the app's.")
        members, jobs = run.services.store, run.services.jobs
        admins = members.query(Query(run.scope.members(), where=(Filter("role", "==", "admin"),), limit=_MOST_ADMINS))
        notification = Notify(
            title=f"{_WHOSE.get(payload.pot, payload.pot)} is used up to {payload.percent} %",
            body=f"Of {payload.ceiling_micro_usd / 1_000_000:.2f} dollars. It begins anew at {payload.resets_at}.",
            data={"budget": payload.pot, "percent": str(payload.percent)},
        )
        for admin in admins:
            jobs.enqueue(run.scope.of(admin.id), NOTIFY, notification, key=f"{run.id}:{admin.id}")
        return JobDone({"admins": len(admins)})

    return handlers
