"""Verify Firebase ID tokens with firebase-admin, and check that they are of the right tenant and of the app's members.

:mod:`firelaunch.services.build` imports this module only if it is in use: firebase-admin takes half a second to import.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import firebase_admin
import google.auth
import google.auth.credentials
from firebase_admin import auth, credentials, tenant_mgt
from google.auth import jwt

from ..errors import SettingsError, Unauthenticated
from .base import Caller, IdentityUnavailable, caller_from_claims, tenant_of
from .certificates import MemoisedCertificates
from .clock import CLOCK_SECONDS, check_times, expired, too_early

__all__ = ["EmulatorIdentity", "EmulatorTokens", "FirebaseIdentity", "FirebaseTokens", "LazyCredential"]

log = logging.getLogger(__name__)

CERTIFICATES_URL = "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
"""https://firebase.google.com/docs/auth/admin/verify-id-tokens"""

_ISSUER = "https://securetoken.google.com/"
_INVALID = (
    auth.InvalidIdTokenError,
    tenant_mgt.TenantIdMismatchError,
    auth.UserDisabledError,
    auth.UserNotFoundError,
)
_QUOTED = re.compile(r"""b['"].*""", re.DOTALL)

_REMEMBERED = 250
"""Tokens whose signature need not be verified again. A user's requests come close together."""

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class LazyCredential(credentials.Base):  # type: ignore[misc]
    """The environment's own credentials, loaded when a call first needs them. Verifying a signature needs none."""

    def get_credential(self) -> google.auth.credentials.Credentials:
        """Return Google's form of the credentials, for firebase-admin."""
        return _LazyGoogleCredentials()


class _LazyGoogleCredentials(google.auth.credentials.Credentials):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._environment_credentials: Any = None

    def refresh(self, request: Any) -> None:
        if self._environment_credentials is None:
            self._environment_credentials, _ = google.auth.default(scopes=_SCOPES)
        self._environment_credentials.refresh(request)
        self.token, self.expiry = self._environment_credentials.token, self._environment_credentials.expiry


class FirebaseTokens:
    """Verifies ID tokens of one Firebase project: of its own users, and of all its tenants if ``tenant`` is None.

    Args:
        check_revoked: ask Firebase Auth about each token's user. This costs a round trip and needs credentials.
        certificates_url, toolkit_url, credential: addresses and credentials to use instead of Google's and the
            environment's, for tests.

    Raises:
        SettingsError: FIREBASE_AUTH_EMULATOR_HOST is set, under which firebase-admin checks no signature.
    """

    def __init__(
        self,
        project: str,
        *,
        tenant: str | None = None,
        check_revoked: bool = False,
        certificates_url: str = CERTIFICATES_URL,
        toolkit_url: str | None = None,
        credential: credentials.Base | None = None,
    ) -> None:
        if os.environ.get("FIREBASE_AUTH_EMULATOR_HOST"):
            raise SettingsError("FIREBASE_AUTH_EMULATOR_HOST is set: tokens would go unchecked. Unset it.")
        self._project = project
        self._tenant = tenant
        self._check_revoked = check_revoked
        self._certificates_url = certificates_url
        self._toolkit_url = toolkit_url
        self._credential = credential or LazyCredential()
        self._lock = threading.Lock()
        # A signature stays what it is. Whether a token's user was signed out meanwhile does not.
        self._verified = self._verify if check_revoked else lru_cache(maxsize=_REMEMBERED)(self._verify)

    @cached_property
    def _client(self) -> Any:
        with self._lock:
            # Another thread may have built the client while this one waited for the lock.
            client = self.__dict__.get("_client")
            if client is None:
                # The name is unique, because an app may have initialised firebase-admin for its own purposes.
                options = {"projectId": self._project, "httpTimeout": 10}
                app = firebase_admin.initialize_app(self._credential, options, f"firelaunch-{secrets.token_hex(4)}")
                client = auth.Client(app, tenant_id=self._tenant)
                client._token_verifier.request = MemoisedCertificates(self._certificates_url)
                if self._toolkit_url is not None:
                    client._user_manager.base_url = f"{self._toolkit_url}/projects/{self._project}"
            return client

    def claims(self, token: str) -> Mapping[str, Any]:
        """Verify a token, and return its claims. A token that was verified before is checked for its times alone.

        Raises:
            Unauthenticated: the token is invalid.
            IdentityUnavailable: the certificates, or Firebase Auth, cannot be reached.
        """
        claims = self._verified(token)
        # Firebase's rules also require a time of sign-in that lies in the past, which firebase-admin does not check
        # (https://firebase.google.com/docs/auth/admin/verify-id-tokens).
        check_times({"auth_time": None, "exp": None, **claims})
        return claims

    def _verify(self, token: str) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = self._client.verify_id_token(
                token, check_revoked=self._check_revoked, clock_skew_seconds=CLOCK_SECONDS
            )
        except auth.ExpiredIdTokenError as error:
            raise expired(_log_text(error)) from error
        except _INVALID as error:
            if "too early" in str(error):
                raise too_early(_log_text(error)) from error
            raise Unauthenticated(reason=_log_text(error)) from error
        except (firebase_admin.exceptions.FirebaseError, google.auth.exceptions.GoogleAuthError) as error:
            raise IdentityUnavailable(reason=str(error)) from error
        except Exception as error:
            # A token holds a stranger's bytes. Whatever error they cause in the libraries, the token is invalid.
            raise Unauthenticated(reason=f"{type(error).__name__}: {_log_text(error)}") from error
        return claims


class FirebaseIdentity:
    """Verifies ID tokens of one Firebase project for one app.

    Args:
        tenant: the Identity Platform tenant. Tokens of another tenant, or of the project itself, are invalid. If it is
            None, tokens of any tenant are invalid, which firebase-admin alone would accept.
        guests: whether the app takes anonymous users as guests.
        options: the options of :class:`FirebaseTokens`.
    """

    def __init__(
        self, project: str, app_id: str, *, tenant: str | None = None, guests: bool = False, **options: Any
    ) -> None:
        self._guests = guests
        self._tokens = FirebaseTokens(project, tenant=tenant, **options)
        self._app_id = app_id
        self._tenant = tenant

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued to. See :class:`~firelaunch.identity.base.Identity`.

        Raises:
            IdentityUnavailable: the certificates, or Firebase Auth, cannot be reached.
        """
        claims = self._tokens.claims(token)
        tenant = tenant_of(claims)
        if tenant != self._tenant:
            raise Unauthenticated(reason=f"a token of tenant {tenant!r}, and this app is bound to {self._tenant!r}")
        return caller_from_claims(self._app_id, claims.get("sub"), claims, guests=self._guests)


class EmulatorTokens:
    """Accepts the Auth emulator's unsigned tokens, and checks everything in them that can be checked.

    Raises:
        SettingsError: on Cloud Run (K_SERVICE is set), where an unsigned token must never be valid.
    """

    def __init__(self, project: str) -> None:
        if os.environ.get("K_SERVICE"):
            raise SettingsError("The Auth emulator's tokens are for development: set FIRELAUNCH_MODE=cloud.")
        self._project = project

    def claims(self, token: str) -> dict[str, Any]:
        """Check a token, and return its claims. See :meth:`FirebaseTokens.claims`."""
        try:
            claims: Any = jwt.decode(token, verify=False)  # type: ignore[no-untyped-call]
            header: Any = jwt.decode_header(token)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise Unauthenticated(reason=f"not a token of the Auth emulator: {_log_text(error)}") from error
        problem = None
        if header.get("alg") != "none":
            problem = "is signed, and the emulator's tokens are not"
        elif claims.get("aud") != self._project or claims.get("iss") != _ISSUER + self._project:
            problem = f"is not of the project {self._project!r}"
        if problem is not None:
            raise Unauthenticated(reason=f"the token {problem}")
        check_times({"exp": None, **claims})
        return dict(claims)


class EmulatorIdentity:
    """Verifies the Auth emulator's tokens for one app. Tokens of tenants are invalid.

    Args:
        guests: whether the app takes anonymous users as guests.
    """

    def __init__(self, project: str, app_id: str, *, guests: bool = False) -> None:
        self._guests = guests
        self._tokens = EmulatorTokens(project)
        self._app_id = app_id

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued to. See :class:`~firelaunch.identity.base.Identity`."""
        claims = self._tokens.claims(token)
        if tenant_of(claims) is not None:
            raise Unauthenticated(reason="the token is of a tenant")
        return caller_from_claims(self._app_id, claims.get("sub"), claims, guests=self._guests)


def _log_text(error: Exception) -> str:
    """Return an error's text for the log, without the token: Google's library quotes tokens that it cannot parse."""
    return _QUOTED.sub("...", str(error))[:300]
