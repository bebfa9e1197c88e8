"""The kinds of jobs that keep an app in order, whatever the app is."""

from __future__ import annotations

from ..billing.erasing import SubscriptionTraces
from ..documents.erasing import DocumentTraces
from ..services.bundle import Services
from ..turns.follow_ups import after_turn_handlers
from ..worker import Handlers
from ..worker.tasks.erase import Erasure, Traces, erase_handlers
from ..worker.tasks.notify import notify_handlers
from ..worker.tasks.rollup import rollup_handlers

__all__ = ["erasure_of", "upkeep_handlers"]


def erasure_of(services: Services) -> Erasure:
    """What erases users of the app, in all places that ``services`` know of."""
    traces: list[Traces] = [DocumentTraces(services.store, services.documents)]
    if services.desk.payments is not None:
        traces.append(SubscriptionTraces(services.store, services.desk.payments))
    return Erasure(services.store, traces)


def upkeep_handlers(services: Services, more: Handlers | None = None) -> Handlers:
    """The handlers of all kinds, and ``more``."""
    known = after_turn_handlers(rollup_handlers(more))
    known = notify_handlers(services.push, known)
    return erase_handlers(erasure_of(services), services.settings.jobs.lease_seconds, known)
