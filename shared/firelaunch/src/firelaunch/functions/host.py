"""What a function's host gives it: the app's services, and who may call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..services.bundle import Services

__all__ = ["CallerPolicy", "Host"]


class CallerPolicy(Protocol):
    """Verifies who calls."""

    def verify(self, token: str) -> None:
        """Return if ``token`` is of the one that may.

        Raises:
            Unauthenticated: it is not.
        """


@dataclass(frozen=True, slots=True)
class Host:
    """What functions run on: the apps that they serve, by id, and who may call (anybody, where that is None)."""

    apps: Mapping[str, Services]
    caller: CallerPolicy | None
