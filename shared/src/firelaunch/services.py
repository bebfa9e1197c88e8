"""The small frozen bundle that routes and turns are handed; made in :mod:`firelaunch.wiring` and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from .admission import Admission
from .billing.desk import Desk
from .chats import Chats
from .documents import Documents
from .identity import Attestation, DevIdentity, Identity
from .jobs import Callers, Jobs
from .llm.gateway import Gateway
from .model_calls import ModelCalls
from .prompts import Prompts
from .push import Push
from .scope import Scope
from .settings import Settings
from .store.scoped import ScopedStore
from .usage import Metering

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """What one app's process works with.

    ``store`` reaches this app's documents alone. ``llm`` calls models for code that is no chat turn. ``dev_identity``
    hands out dev tokens; it is None in cloud mode. ``moderate`` is asked about what users write, where there is one.
    ``app_check`` is None where the settings ask for no App Check tokens.
    ``push`` brings notifications to devices; it is None on a laptop.
    ``internal`` verifies what Cloud Tasks calls with; it is None where nothing calls.
    """

    settings: Settings
    store: ScopedStore
    identity: Identity
    dev_identity: DevIdentity | None
    app_check: Attestation | None
    chats: Chats
    documents: Documents
    metering: Metering
    admission: Admission
    gateway: Gateway
    llm: ModelCalls
    prompts: Prompts
    moderate: Callable[[str], None] | None
    jobs: Jobs
    internal: Callers | None
    clock: Callable[[], datetime]
    desk: Desk
    push: Push | None

    def within(self, scope: Scope) -> Services:
        """The same, bound to ``scope``: no path and no job outside of it can be reached, and no token is handed out.

        Raises:
            ScopeViolation: ``scope`` is not of this app.
        """
        store = self.store.within(scope)
        metering, gateway = replace(self.metering, store=store), self.gateway.within(scope)
        return replace(
            self,
            store=store,
            dev_identity=None,
            internal=None,
            chats=Chats(store, self.clock),
            documents=self.documents.within(scope),
            metering=metering,
            desk=replace(self.desk, store=store),
            gateway=gateway,
            llm=self.llm.within(scope, metering, gateway),
            jobs=self.jobs.within(scope),
        )
