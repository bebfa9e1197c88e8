"""Firebase ID tokens: verified by firebase-admin, as members of this app, of the right tenant.

Imported by ``wiring`` when it is in use: firebase-admin takes half a second to import.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from functools import cached_property
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
_NOT_HOLDING = (
    auth.InvalidIdTokenError,
    tenant_mgt.TenantIdMismatchError,
    auth.UserDisabledError,
    auth.UserNotFoundError,
)
_QUOTED = re.compile(r"""b['"].*""", re.DOTALL)

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class LazyCredential(credentials.Base):  # type: ignore[misc]
    """The environment's own credentials, looked for when a call first needs one; verifying a signature needs none."""

    def get_credential(self) -> google.auth.credentials.Credentials:
        """What firebase-admin asks for."""
        return _LazyGoogleCredentials()


class _LazyGoogleCredentials(google.auth.credentials.Credentials):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found: Any = None

    def refresh(self, request: Any) -> None:
        if self._found is None:
            self._found, _ = google.auth.default(scopes=_SCOPES)
        self._found.refresh(request)
        self.token, self.expiry = self._found.token, self._found.expiry


class FirebaseTokens:
    """Verifies ID tokens of one Firebase project: of its own users, and of all its tenants' where ``tenant`` is None.

    Args:
        check_revoked: ask Firebase Auth about each token's user; costs a round trip and needs credentials.
        certificates_url, toolkit_url, credential: other addresses than Google's, and other credentials than the
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

    @cached_property
    def _client(self) -> Any:
        with self._lock:
            made = self.__dict__.get("_client")
            if made is None:
                # A name of its own: an app may have initialised firebase-admin for purposes of its own.
                options = {"projectId": self._project, "httpTimeout": 10}
                app = firebase_admin.initialize_app(self._credential, options, f"firelaunch-{secrets.token_hex(4)}")
                made = auth.Client(app, tenant_id=self._tenant)
                made._token_verifier.request = MemoisedCertificates(self._certificates_url)
                if self._toolkit_url is not None:
                    made._user_manager.base_url = f"{self._toolkit_url}/projects/{self._project}"
            return made

    def claims(self, token: str) -> dict[str, Any]:
        """All that a token says, which holds.

        Raises:
            Unauthenticated: it does not hold.
            IdentityUnavailable: the certificates, or Firebase Auth, cannot be reached.
        """
        try:
            claims: dict[str, Any] = self._client.verify_id_token(
                token, check_revoked=self._check_revoked, clock_skew_seconds=CLOCK_SECONDS
            )
        except auth.ExpiredIdTokenError as error:
            raise expired(_said(error)) from error
        except _NOT_HOLDING as error:
            if "too early" in str(error):
                raise too_early(_said(error)) from error
            raise Unauthenticated(reason=_said(error)) from error
        except (firebase_admin.exceptions.FirebaseError, google.auth.exceptions.GoogleAuthError) as error:
            raise IdentityUnavailable(reason=str(error)) from error
        except Exception as error:
            # A token is a stranger's bytes: whatever they make the libraries trip over is a token that does not hold.
            raise Unauthenticated(reason=f"{type(error).__name__}: {_said(error)}") from error
        # That there is a sign-in, and that it lies in the past, is Firebase's rule for its tokens, and firebase-admin
        # leaves it out (https://firebase.google.com/docs/auth/admin/verify-id-tokens).
        check_times({"auth_time": None, **claims})
        return claims


class FirebaseIdentity:
    """Verifies ID tokens of one Firebase project for one app.

    Args:
        tenant: Identity Platform tenant; a token of another, or of the project itself, does not hold. Without it a
            token of any tenant does not hold, which firebase-admin alone would accept.
        options: as :class:`FirebaseTokens` takes them.
    """

    def __init__(self, project: str, app_id: str, *, tenant: str | None = None, **options: Any) -> None:
        self._tokens = FirebaseTokens(project, tenant=tenant, **options)
        self._app_id = app_id
        self._tenant = tenant

    def verify(self, token: str) -> Caller:
        """See :class:`~firelaunch.identity.base.Identity`.

        Raises:
            IdentityUnavailable: the certificates, or Firebase Auth, cannot be reached.
        """
        claims = self._tokens.claims(token)
        tenant = tenant_of(claims)
        if tenant != self._tenant:
            raise Unauthenticated(reason=f"a token of tenant {tenant!r}, and this app is bound to {self._tenant!r}")
        return caller_from_claims(self._app_id, claims.get("sub"), claims)


class EmulatorTokens:
    """Takes the Auth emulator's unsigned tokens, and checks all of them that can be checked.

    Raises:
        SettingsError: on Cloud Run (K_SERVICE is set), where an unsigned token must never hold.
    """

    def __init__(self, project: str) -> None:
        if os.environ.get("K_SERVICE"):
            raise SettingsError("The Auth emulator's tokens are for development: set FIRELAUNCH_MODE=cloud.")
        self._project = project

    def claims(self, token: str) -> dict[str, Any]:
        """See :meth:`FirebaseTokens.claims`."""
        try:
            claims: Any = jwt.decode(token, verify=False)  # type: ignore[no-untyped-call]
            header: Any = jwt.decode_header(token)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise Unauthenticated(reason=f"not a token of the Auth emulator: {_said(error)}") from error
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
    """Verifies the Auth emulator's tokens for one app; a tenant's do not hold."""

    def __init__(self, project: str, app_id: str) -> None:
        self._tokens = EmulatorTokens(project)
        self._app_id = app_id

    def verify(self, token: str) -> Caller:
        """See :class:`~firelaunch.identity.base.Identity`."""
        claims = self._tokens.claims(token)
        if tenant_of(claims) is not None:
            raise Unauthenticated(reason="the token is of a tenant")
        return caller_from_claims(self._app_id, claims.get("sub"), claims)


def _said(error: Exception) -> str:
    """An error's text for the log, without the token: Google's library quotes one that it cannot take apart."""
    return _QUOTED.sub("...", str(error))[:300]
