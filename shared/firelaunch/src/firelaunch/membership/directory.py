"""The port to the user directory (Firebase Auth), which stores the claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Directory", "DirectoryUser"]


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A user as the directory has them now. A token may be up to an hour older.

    ``valid_since`` is in seconds since 1970. Tokens that were issued before it are revoked.
    """

    uid: str
    tenant: str | None = None
    email: str | None = None
    email_verified: bool = False
    disabled: bool = False
    valid_since: float = 0.0
    claims: Mapping[str, Any] = field(default_factory=dict)


class Directory(Protocol):
    """Reads accounts, and sets their claims."""

    def find(self, uid: str, tenant: str | None) -> DirectoryUser | None:
        """Return the account of ``uid`` in an Identity Platform tenant (None: the project's own users), or None.

        Raises:
            IdentityUnavailable: the directory cannot be reached.
        """

    def set_claims(self, uid: str, tenant: str | None, claims: str) -> None:
        """Replace all custom claims of an account by ``claims`` (JSON).

        Raises:
            IdentityUnavailable: the directory did not accept the claims.
        """
