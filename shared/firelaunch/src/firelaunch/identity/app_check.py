"""Verify Firebase App Check tokens: that a request comes from one of the founder's own clients, and not from a script.

:mod:`firelaunch.services.build` imports this module if it is in use.
"""

from __future__ import annotations

import secrets
import threading
from functools import cached_property
from typing import Any

import firebase_admin
import jwt
from firebase_admin import app_check
from jwt import PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError

from .base import AppCheckFailed, IdentityUnavailable
from .clock import CLOCK_SECONDS
from .firebase import LazyCredential

__all__ = ["JWKS_URL", "AppCheck"]

JWKS_URL = "https://firebaseappcheck.googleapis.com/v1/jwks"
"""https://firebase.google.com/docs/app-check/custom-resource-backend"""

_KEYS_SECONDS = 21_600
"""The most seconds for which keys are kept (same page as above)."""

_TIME_ERRORS = (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError)

_TOKEN_CHARACTERS = 8192
"""The most characters of a token."""


class _Service(app_check._AppCheckService):  # type: ignore[misc]
    """firebase-admin's verifier with an allowance for clocks that differ, for which it has no setting."""

    def _decode_and_verify(self, token: str, signing_key: Any) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token, signing_key, algorithms=["RS256"], audience=self._scoped_project_id, leeway=CLOCK_SECONDS
        )
        # firebase-admin makes the same checks: https://firebase.google.com/docs/app-check/custom-resource-backend
        if not isinstance(claims.get("aud"), list):
            raise ValueError("its audience is no list")
        if not str(claims.get("iss")).startswith(self._APP_CHECK_ISSUER):
            raise ValueError(f"issued by {claims.get('iss')!r}")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise ValueError("it names no client")
        return claims


class AppCheck:
    """Verifies App Check tokens of one Firebase project.

    Args:
        clients: the Firebase app ids ("1:1234:web:abcd") of the clients that this service accepts.
        jwks_url: an address to use instead of Google's, for tests.
    """

    def __init__(self, project: str, clients: tuple[str, ...], *, jwks_url: str = JWKS_URL) -> None:
        self._project = project
        self._clients = frozenset(clients)
        self._jwks_url = jwks_url
        self._lock = threading.Lock()

    @cached_property
    def _service(self) -> Any:
        with self._lock:
            # Another thread may have built the service while this one waited for the lock.
            service = self.__dict__.get("_service")
            if service is None:
                name = f"firelaunch-{secrets.token_hex(4)}"
                app = firebase_admin.initialize_app(LazyCredential(), {"projectId": self._project}, name)
                service = _Service(app)
                # firebase-admin's own key client has no setting for the time limit and the address. PyJWT limits its
                # fetches itself, so tokens that name unknown keys don't cause a fetch each.
                service._jwks_client = PyJWKClient(self._jwks_url, lifespan=_KEYS_SECONDS, timeout=10)
            return service

    def verify(self, token: str | None) -> str:
        """Return the Firebase app id of the client that ``token`` was issued to.

        Raises:
            AppCheckFailed: the token is invalid, or the client is not one of ours.
            IdentityUnavailable: the keys cannot be fetched.
        """
        if not token or len(token) > _TOKEN_CHARACTERS:
            raise AppCheckFailed(reason="no App Check token" if not token else "an App Check token that is too long")
        try:
            client = self._service.verify_token(token)["app_id"]
        except PyJWKClientConnectionError as error:
            raise IdentityUnavailable(reason=f"App Check's keys: {error}") from error
        except Exception as error:
            # A token holds a stranger's bytes. Whatever error they cause in the library, the token is invalid.
            clock = any(isinstance(cause, _TIME_ERRORS) for cause in (error, error.__cause__))
            hint = ": is this machine's clock right?" if clock else ""
            raise AppCheckFailed(reason=f"{type(error).__name__}: {error}{hint}"[:300]) from error
        if client not in self._clients:
            raise AppCheckFailed(reason=f"an App Check token of the client {client!r}")
        return str(client)
