"""OIDC tokens that Google Cloud signs for a service account, such as Cloud Scheduler's.

Imported by wiring when it is in use: google-auth takes a while to import.
"""

from __future__ import annotations

from typing import Any, cast

from google.auth.exceptions import TransportError
from google.auth.transport import Request
from google.oauth2 import id_token

from ..errors import Unauthenticated
from .base import IdentityUnavailable
from .certificates import MemoisedCertificates

__all__ = ["GoogleInvoker"]

_CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
"""https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken"""

_ISSUERS = frozenset({"accounts.google.com", "https://accounts.google.com"})


class GoogleInvoker:
    """Lets one service account in.

    Args:
        email: the service account's.
        audience: what its tokens are to be for: the function's address.
        certificates_url: another than Google's, for tests.
    """

    def __init__(self, email: str, audience: str, certificates_url: str = _CERTIFICATES_URL) -> None:
        self._email = email
        self._audience = audience
        self._url = certificates_url
        self._certificates = MemoisedCertificates(certificates_url)

    def verify(self, token: str) -> None:
        """Nothing, where ``token`` is the service account's.

        Raises:
            Unauthenticated: it is not.
            IdentityUnavailable: Google's certificates cannot be had.
        """
        try:
            claims: Any = id_token.verify_token(
                token, cast("Request", self._certificates), audience=self._audience, certs_url=self._url
            )
        except TransportError as error:
            raise IdentityUnavailable(reason=str(error)) from error
        except Exception as error:
            # A token is a stranger's bytes: whatever they make the library trip over is a token that does not hold.
            raise Unauthenticated(reason=f"{type(error).__name__}: {error}"[:300]) from error
        if claims.get("iss") not in _ISSUERS:
            raise Unauthenticated(reason="the token's issuer is not Google")
        if claims.get("email") != self._email or claims.get("email_verified") is not True:
            raise Unauthenticated(reason=f"the token is of {str(claims.get('email'))[:100]}")
