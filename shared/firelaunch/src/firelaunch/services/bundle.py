"""The frozen bundle of services that routes and turns are handed. :mod:`firelaunch.services.build` makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ..billing.checkout import Checkout
from ..chats.store import Chats
from ..documents.catalog import Documents
from ..identity import Attestation, DevIdentity, Identity
from ..jobs import Callers, Jobs
from ..llm.gateway import Gateway
from ..metering.contention import Retries
from ..metering.model_calls import ModelCalls
from ..metering.reservations import Metering
from ..prompts.versions import Prompts
from ..push import Push
from ..scope import Scope
from ..settings.app import Settings
from ..store.scoped import ScopedStore

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
    admission: Retries
    gateway: Gateway
    llm: ModelCalls
    prompts: Prompts
    moderate: Callable[[str], None] | None
    jobs: Jobs
    internal: Callers | None
    clock: Callable[[], datetime]
    desk: Checkout
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
