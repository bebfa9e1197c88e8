"""The user directory of a Firebase project. Cloud Functions import this module if they use it."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import firebase_admin
from firebase_admin import auth, credentials
from google.auth.exceptions import GoogleAuthError

from ..identity.base import IdentityUnavailable
from ..identity.firebase import LazyCredential
from .directory import DirectoryUser

__all__ = ["FirebaseDirectory"]

TIMEOUT = 10
"""The most seconds of one call."""


class FirebaseDirectory:
    """Firebase Auth through firebase-admin, for the project's own users and for those of its tenants.

    Args:
        toolkit_url, credential: an address and credentials to use instead of Google's and the environment's, for tests.
    """

    def __init__(
        self, project: str, *, toolkit_url: str | None = None, credential: credentials.Base | None = None
    ) -> None:
        self._project = project
        self._toolkit_url = toolkit_url
        self._credential = credential or LazyCredential()
        self._clients: dict[str | None, Any] = {}
        self._lock = threading.Lock()

    def find(self, uid: str, tenant: str | None) -> DirectoryUser | None:
        """Return an account, or None. See :class:`~firelaunch.membership.directory.Directory`."""
        try:
            record = self._client(tenant).get_user(uid)
        except auth.UserNotFoundError:
            return None
        except (firebase_admin.exceptions.FirebaseError, GoogleAuthError) as error:
            raise IdentityUnavailable(reason=str(error)) from error
        return DirectoryUser(
            uid=record.uid,
            tenant=tenant,
            email=record.email,
            email_verified=bool(record.email_verified),
            disabled=bool(record.disabled),
            valid_since=(record.tokens_valid_after_timestamp or 0) / 1000,
            claims=record.custom_claims or {},
        )

    def set_claims(self, uid: str, tenant: str | None, claims: str) -> None:
        """Replace an account's custom claims. See :class:`~firelaunch.membership.directory.Directory`."""
        try:
            self._client(tenant).set_custom_user_claims(uid, claims)
        except (firebase_admin.exceptions.FirebaseError, GoogleAuthError) as error:
            raise IdentityUnavailable(reason=str(error)) from error

    def _client(self, tenant: str | None) -> Any:
        with self._lock:
            if tenant not in self._clients:
                options = {"projectId": self._project, "httpTimeout": TIMEOUT}
                app = firebase_admin.initialize_app(self._credential, options, f"firelaunch-{secrets.token_hex(4)}")
                client = auth.Client(app, tenant_id=tenant)
                if self._toolkit_url is not None:
                    path = f"/projects/{self._project}" + (f"/tenants/{tenant}" if tenant else "")
                    client._user_manager.base_url = self._toolkit_url + path
                self._clients[tenant] = client
            return self._clients[tenant]
