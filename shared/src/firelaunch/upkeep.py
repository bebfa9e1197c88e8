"""The kinds of jobs that keep an app in order, whatever the app is."""

from __future__ import annotations

from .after_turn import after_turn_handlers
from .billing.traces import SubscriptionTraces
from .document_traces import DocumentTraces
from .erasure import Erasure, Traces, erase_handlers
from .notify import notify_handlers
from .rollup import rollup_handlers
from .services import Services
from .worker import Handlers

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
