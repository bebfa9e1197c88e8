"""Register the kinds of jobs that every app has: follow-ups, roll-ups, notifications, merges and erasures."""

from __future__ import annotations

from ..services.bundle import Services
from ..turns.follow_ups import after_turn_handlers
from ..worker import Handlers
from ..worker.tasks.budget_notice import budget_notice_handlers
from ..worker.tasks.erase import erase_handlers, erasure_of
from ..worker.tasks.export import export_handlers
from ..worker.tasks.merge import merge_handlers
from ..worker.tasks.notify import notify_handlers
from ..worker.tasks.rollup import rollup_handlers

__all__ = ["upkeep_handlers"]


def upkeep_handlers(services: Services, more: Handlers | None = None) -> Handlers:
    """Return the handlers of these kinds, added to ``more``."""
    handlers = after_turn_handlers(services.store, rollup_handlers(export_handlers(services.store, more)))
    handlers = notify_handlers(services.push, budget_notice_handlers(handlers))
    erasure = erasure_of(services)
    handlers = merge_handlers(services, erasure, handlers)
    return erase_handlers(erasure, services.settings.jobs.lease_seconds, handlers)
