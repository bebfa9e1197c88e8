"""Accept tokens for either address of a service.

A Cloud Run service has two addresses: one that is known before the service exists, and one that contains a hash. A
deploy sets the first as the audience of Cloud Scheduler's and Pub/Sub's tokens. Eventarc always uses the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from flask import request

__all__ = ["ServiceTokens"]


class AudienceTokens(Protocol):
    """A verifier of tokens for an audience."""

    def verify(self, token: str, also: str | None = None) -> None:
        """Check that ``token`` is for the configured audience, or for ``also``.

        Raises:
            Unauthenticated: it is not.
        """


@dataclass(frozen=True, slots=True)
class ServiceTokens:
    """A verifier that accepts a token for the configured address, or for the address of the current request.

    Cloud Run routes a request to the service that its Host names, so a token for another service can't arrive with
    that service's Host. The Host counts only if it is a Cloud Run address of ``service``.

    Args:
        service: the name of the service on Cloud Run; "" elsewhere, where the Host proves nothing.
    """

    tokens: AudienceTokens
    service: str

    def verify(self, token: str) -> None:
        """Check that ``token`` belongs to the account that may call.

        Raises:
            Unauthenticated: it does not.
        """
        own_host = rf"{re.escape(self.service)}-[a-z0-9-]+(\.[a-z0-9-]+)*\.run\.app"
        is_own_host = bool(self.service) and re.fullmatch(own_host, request.host)
        self.tokens.verify(token, f"https://{request.host}" if is_own_host else None)
