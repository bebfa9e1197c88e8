"""Define what a function runs on: the apps' services, and the check of its callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..services.bundle import Services

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
    """The apps that functions serve, by id, and the check of their callers (None accepts anybody)."""

    apps: Mapping[str, Services]
    caller: CallerPolicy | None
