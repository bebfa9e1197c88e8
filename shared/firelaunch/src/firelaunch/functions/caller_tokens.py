"""Tokens for one of a function's own addresses.

A service of Cloud Run has two: one that is known before it is there, and one with a hash in it. Cloud Scheduler and
Pub/Sub are told the first as their tokens' audience; Eventarc takes the second, and cannot be told another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from flask import request

__all__ = ["CalledHere"]


class AudienceTokens(Protocol):
    """Verifies tokens for an audience."""

    def verify(self, token: str, also: str | None = None) -> None:
        """Return if ``token`` is for the audience that is known, or for ``also``.

        Raises:
            Unauthenticated: it is not.
        """


@dataclass(frozen=True, slots=True)
class CalledHere:
    """Takes a token for the address that is named, or for that of this very call.

    Cloud Run brings a request to the service that its Host names, so that a token for another service cannot come under
    that service's name. It is looked at only where it is an address of Cloud Run's for ``service``.

    Args:
        service: the name of the service on Cloud Run; "" elsewhere, where the call's address says nothing.
    """

    tokens: AudienceTokens
    service: str

    def verify(self, token: str) -> None:
        """Return if ``token`` is of the one that may call.

        Raises:
            Unauthenticated: it is not.
        """
        own = rf"{re.escape(self.service)}-[a-z0-9-]+(\.[a-z0-9-]+)*\.run\.app"
        called = bool(self.service) and re.fullmatch(own, request.host)
        self.tokens.verify(token, f"https://{request.host}" if called else None)
