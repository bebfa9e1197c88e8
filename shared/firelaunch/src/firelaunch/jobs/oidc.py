"""Verify callers of ``/internal`` by the OIDC token that Google issued to one service account for this service."""

from __future__ import annotations

from typing import Any

from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2 import id_token

from ..errors import Unauthenticated
from ..identity.base import IdentityUnavailable
from ..identity.certificates import MemoisedCertificates
from ..identity.clock import CLOCK_SECONDS, check_times, expired, too_early

__all__ = ["CERTIFICATES_URL", "ServiceAccountTokens"]

CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
"""https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken"""

_ISSUERS = ("https://accounts.google.com", "accounts.google.com")


class ServiceAccountTokens:
    """Verifies Google's OIDC tokens: signature, time, audience, issuer and the service account's e-mail.

    Args:
        audience: the service's address, with which tasks are created.
        service_account: the e-mail address of the one account that may call.
        certificates_url: an address to use instead of Google's, for tests.
    """

    def __init__(self, audience: str, service_account: str, certificates_url: str = CERTIFICATES_URL) -> None:
        self._audience = audience.rstrip("/")
        self._service_account = service_account
        self._certificates: Any = MemoisedCertificates(certificates_url)

    def verify(self, token: str, also: str | None = None) -> None:
        """Return if ``token`` is valid.

        Args:
            also: another audience to accept.

        Raises:
            Unauthenticated: the token is invalid. The reason is for the log.
            IdentityUnavailable: Google's certificates cannot be fetched.
        """
        claims = self._claims(token, [self._audience, *([also] if also else [])])
        problem = None
        if claims.get("iss") not in _ISSUERS:
            problem = f"issued by {claims.get('iss')!r}"
        elif claims.get("email") != self._service_account or claims.get("email_verified") is not True:
            problem = f"of {claims.get('email')!r}, not of {self._service_account!r}"
        if problem is not None:
            raise Unauthenticated(reason=f"an OIDC token {problem}"[:300])

    def _claims(self, token: str, audiences: list[str]) -> Any:
        try:
            claims: Any = id_token.verify_token(
                token, self._certificates, audiences, clock_skew_in_seconds=CLOCK_SECONDS
            )
        except TransportError as error:
            raise IdentityUnavailable(reason=str(error)) from error
        except (GoogleAuthError, ValueError) as error:
            if "too early" in str(error):
                raise too_early(str(error)) from error
            if "Token expired" in str(error):
                raise expired(str(error)) from error
            raise Unauthenticated(reason=str(error)[:300]) from error
        except Exception as error:
            # A token holds a stranger's bytes. Whatever error they cause in the library, the token is invalid.
            raise Unauthenticated(reason=f"{type(error).__name__}: {error}"[:300]) from error
        check_times(claims)
        return claims
