"""The small frozen bundle that routes and turns are handed; made in :mod:`firelaunch.wiring` and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .billing.desk import Desk
from .chats import Chats
from .identity import Attestation, DevIdentity, Identity
from .llm.gateway import Gateway
from .prompts import Prompts
from .settings import Settings
from .store.scoped import ScopedStore
from .usage import Metering

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """What one app's process works with.

    ``store`` reaches this app's documents alone. ``dev_identity`` hands out dev tokens; it is None in cloud mode.
    ``app_check`` is None where the settings ask for no App Check tokens.
    """

    settings: Settings
    store: ScopedStore
    identity: Identity
    dev_identity: DevIdentity | None
    app_check: Attestation | None
    chats: Chats
    metering: Metering
    gateway: Gateway
    prompts: Prompts
    clock: Callable[[], datetime]
    desk: Desk
