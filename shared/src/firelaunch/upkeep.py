"""The kinds of jobs that every app knows, beside its own."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from .after_turn import after_turn_handlers
from .billing.base import BillingOff
from .billing.ledger import Ledger
from .billing.reconcile import Reconciliation
from .document_traces import DocumentTraces
from .erasure import Erasure, erase_handlers
from .jobs.base import Kind
from .notify import notify_handlers
from .rollup import rollup_handlers
from .services import Services
from .worker import Done, Handlers, JobFailed, Run

__all__ = ["RECONCILE", "Reconcile", "erasure_of", "upkeep_handlers"]


class Reconcile(BaseModel):
    """The payload: nothing; the job is the app's."""


RECONCILE: Final = Kind("reconcile", Reconcile, seconds=1700)


def erasure_of(services: Services) -> Erasure:
    """What erases users of the app, in all places that ``services`` know of."""
    return Erasure(services.store, [DocumentTraces(services.store, services.documents)])


def upkeep_handlers(services: Services, more: Handlers | None = None) -> Handlers:
    """The handlers of all kinds, and ``more``."""
    known = after_turn_handlers(rollup_handlers(more))
    known = notify_handlers(services.push, known)
    known = erase_handlers(erasure_of(services), services.settings.jobs.lease_seconds, known)
    handlers = Handlers(known)

    @handlers.on(RECONCILE)
    def reconcile(run: Run, _: Reconcile) -> Done:
        if run.scope.uid is not None:
            raise JobFailed("This is a job of the app, not of one user.")
        payments = services.desk.payments
        if payments is None:
            raise JobFailed(BillingOff.message)
        ledger = Ledger(run.services.store, payments, run.scope)
        told: dict[str, Any] = Reconciliation(payments, {run.scope.app_id: ledger}).run().as_dict()
        return Done(told)

    return handlers
