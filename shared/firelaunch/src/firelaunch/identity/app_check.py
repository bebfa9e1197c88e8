"""Firebase App Check: whether a request comes from one of the founder's own clients, and not from a script.

Imported by ``wiring`` when it is in use.
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

_KEYS_LAST = 21_600
"""Seconds for which keys are kept at most, by the same page."""

_TIMES = (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError)

_MOST = 8192
"""Characters of a token at most."""


class _Service(app_check._AppCheckService):  # type: ignore[misc]
    """firebase-admin's verifier, which leaves no room for clocks that differ and has no setting for it."""

    def _decode_and_verify(self, token: str, signing_key: Any) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token, signing_key, algorithms=["RS256"], audience=self._scoped_project_id, leeway=CLOCK_SECONDS
        )
        # The same that firebase-admin asks: https://firebase.google.com/docs/app-check/custom-resource-backend
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
        clients: the Firebase app ids ("1:1234:web:abcd") whose clients this service takes; no others.
        jwks_url: another address than Google's, for tests.
    """

    def __init__(self, project: str, clients: tuple[str, ...], *, jwks_url: str = JWKS_URL) -> None:
        self._project = project
        self._clients = frozenset(clients)
        self._jwks_url = jwks_url
        self._lock = threading.Lock()

    @cached_property
    def _service(self) -> Any:
        with self._lock:
            made = self.__dict__.get("_service")
            if made is None:
                name = f"firelaunch-{secrets.token_hex(4)}"
                app = firebase_admin.initialize_app(LazyCredential(), {"projectId": self._project}, name)
                made = _Service(app)
                # firebase-admin's own has no time limit of ours, and no other address; PyJWT spaces the fetches itself,
                # so that tokens which name unknown keys do not have us fetch for each.
                made._jwks_client = PyJWKClient(self._jwks_url, lifespan=_KEYS_LAST, timeout=10)
            return made

    def verify(self, token: str | None) -> str:
        """The Firebase app id of the client that ``token`` was issued to.

        Raises:
            AppCheckFailed: it does not hold, or the client is not one of ours.
            IdentityUnavailable: the keys cannot be had.
        """
        if not token or len(token) > _MOST:
            raise AppCheckFailed(reason="no App Check token" if not token else "an App Check token that is too long")
        try:
            client = self._service.verify_token(token)["app_id"]
        except PyJWKClientConnectionError as error:
            raise IdentityUnavailable(reason=f"App Check's keys: {error}") from error
        except Exception as error:
            # A stranger's bytes, as in FirebaseTokens: whatever they trip over, the token does not hold.
            clock = any(isinstance(cause, _TIMES) for cause in (error, error.__cause__))
            asked = ": is this machine's clock right?" if clock else ""
            raise AppCheckFailed(reason=f"{type(error).__name__}: {error}{asked}"[:300]) from error
        if client not in self._clients:
            raise AppCheckFailed(reason=f"an App Check token of the client {client!r}")
        return str(client)
