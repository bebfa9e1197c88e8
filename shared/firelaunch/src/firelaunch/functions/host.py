"""Define what a function runs on: the apps' services, and the check of its callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..services.bundle import Services
from ..telemetry.spans import Tracer

__all__ = ["CallerPolicy", "Host"]


class CallerPolicy(Protocol):
    """A verifier of the caller's token."""

    def verify(self, token: str) -> None:
        """Check that ``token`` belongs to the account that may call.

        Raises:
            Unauthenticated: it does not.
        """


@dataclass(frozen=True, slots=True)
class Host:
    """The apps that functions serve, by id, the check of their callers (None accepts anybody), and their tracer."""

    apps: Mapping[str, Services]
    caller: CallerPolicy | None
    tracer: Tracer | None = None
