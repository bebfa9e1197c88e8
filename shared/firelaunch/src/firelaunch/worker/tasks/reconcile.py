"""The job that reconciles subscriptions with Stripe, for apps without the nightly function, or between its runs."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from ...billing.base import BillingError, BillingOff, BillingUnavailable
from ...jobs.base import Kind
from .. import Handlers, JobDone, JobFailed, JobRun

__all__ = ["RECONCILE", "Reconcile", "billing_handlers"]


class Reconcile(BaseModel):
    """The payload, which is empty."""

    model_config = ConfigDict(extra="forbid")


RECONCILE: Final = Kind("reconcile", Reconcile, seconds=1500)


def billing_handlers(more: Handlers | None) -> Handlers:
    """Return the handler of reconciliations, together with ``more``.

    Each attempt starts from the beginning. What an earlier attempt repaired no longer differs, and comparing is cheap.
    """
    handlers = Handlers(more)

    @handlers.on(RECONCILE)
    def reconcile(run: JobRun, _: Reconcile) -> JobDone:
        if run.scope.uid is not None:
            raise JobFailed("A reconciliation is the app's.")

        def looked_at(subscriptions: int) -> None:
            run.check()
            run.progress(subscriptions)

        try:
            report = run.services.checkout.reconciliation(run.scope).run(looked_at)
        except BillingUnavailable:
            raise
        except (BillingOff, BillingError) as error:
            raise JobFailed(error.message) from error
        return JobDone(report.as_dict())

    return handlers
