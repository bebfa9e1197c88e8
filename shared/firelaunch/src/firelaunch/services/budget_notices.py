"""The job that tells an app's admins how much of the app's budget is used. The commit that finds it out stores it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict

from ..errors import JobsUnavailable
from ..jobs import Jobs, Kind
from ..metering.ceiling import Announce, Notice
from ..scope import Scope
from ..store.base import Write

__all__ = ["BUDGET_NOTICE", "BudgetNotice", "announcer"]


class BudgetNotice(BaseModel):
    """The payload: the ceiling, the percent that is used of it, its micro-dollars, and when it is full again."""

    model_config = ConfigDict(extra="forbid")
    pot: str
    percent: int
    ceiling_micro_usd: int
    resets_at: str


BUDGET_NOTICE: Final = Kind("budget_notice", BudgetNotice)


def announcer(jobs: Jobs, app: Scope) -> Announce:
    """Return what stores notices as jobs of the app. Where jobs are not set up, notices are in the log alone."""

    def announce(notice: Notice) -> tuple[Write, Callable[[], object]] | None:
        resets_at = notice.resets_at.isoformat().replace("+00:00", "Z")
        payload = BudgetNotice(
            pot=notice.pot,
            percent=notice.percent,
            ceiling_micro_usd=notice.ceiling_micro_usd,
            resets_at=resets_at,
        )
        try:
            prepared = jobs.prepare(app, BUDGET_NOTICE, payload)
        except JobsUnavailable:
            return None
        return prepared.write, lambda: jobs.send(prepared)

    return announce
