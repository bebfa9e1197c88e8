"""The port for verifiers of tokens, and the caller that a verified token stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..errors import FirelaunchError, Forbidden, InvalidId, Unauthenticated
from ..scope import GROUP, Scope, check_uid

__all__ = [
    "VISITOR",
    "AnonymousAccount",
    "AnyOf",
    "AppCheckFailed",
    "Attestation",
    "Caller",
    "Identity",
    "IdentityUnavailable",
    "bearer",
    "caller_from_claims",
    "check_not_anonymous",
    "is_anonymous",
    "tenant_of",
]

_HEADER_CHARACTERS = 8192
"""The most characters of a header. Servers refuse longer lines anyway."""

_ROLE = re.compile(r"[a-z0-9_-]{1,32}")

VISITOR: Final = "visitor~"
"""The beginning of the ids under which callers of public routes are counted. No token's user may have such an id."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified user of this app.

    Attributes:
        role: "member", "admin", or one of the app's own roles; "guest" if ``guest`` is set.
        guest: whether the user has no account and is no member. Only apps with a plan for guests have such users.
        email_verified: whether ``email`` was shown to be the user's own.
    """

    app_id: str
    uid: str
    role: str
    email: str | None = None
    guest: bool = False
    email_verified: bool = False

    @property
    def scope(self) -> Scope:
        """The scope of this user's data."""
        return Scope(self.app_id, self.uid)

    @property
    def library(self) -> Scope:
        """The scope of the app's library, which all members share."""
        return Scope(self.app_id)


class Identity(Protocol):
    """Verifies tokens for one app."""

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued to.

        Raises:
            Unauthenticated: the token is invalid. The reason is for the log.
            Forbidden: the token is valid, but its user is no member of this app.
        """


class Attestation(Protocol):
    """Verifies which client software a request comes from."""

    def verify(self, token: str | None) -> str:
        """Return the id of the client that ``token`` was issued to.

        Raises:
            Unauthenticated: the token is invalid, or the client is not one of the app's.
        """


class AnyOf:
    """Accepts a token that any of ``identities`` accepts: dev tokens and emulators' tokens, or those of agents."""

    def __init__(self, *identities: Identity) -> None:
        self._identities = identities

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued to. See :class:`Identity`."""
        reasons: list[str] = []
        for identity in self._identities:
            try:
                return identity.verify(token)
            except Unauthenticated as error:
                reasons.append(error.reason or "")
        raise Unauthenticated(reason="; ".join(reasons))


def bearer(header: str | None) -> str:
    """Return the token in the value of an ``Authorization`` header.

    Raises:
        Unauthenticated: there is no header, it has another scheme, or it has more than 8,192 characters.
    """
    if not header:
        raise Unauthenticated(reason="no Authorization header")
    if len(header) > _HEADER_CHARACTERS:
        raise Unauthenticated(reason=f"an Authorization header of {len(header)} characters")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token or "," in token:
        raise Unauthenticated(reason="the Authorization header is not 'Bearer <token>'")
    return token


def caller_from_claims(app_id: str, uid: Any, claims: Mapping[str, Any], *, guests: bool = False) -> Caller:
    """Return the caller that ``uid`` is in this app, according to verified ``claims``.

    Args:
        guests: whether users without an account are the app's guests, whatever role their claims hold.

    Raises:
        Unauthenticated: Firebase Auth issues no such ``uid``.
        AnonymousAccount: the user signed in without an account, and the app takes no guests.
        Forbidden: ``claims["apps"]`` names no role in this app, or is no mapping.
    """
    try:
        check_uid(uid)
    except InvalidId:
        raise Unauthenticated(reason="the token's subject is no valid user id") from None
    if uid.startswith((VISITOR, GROUP)):
        raise Unauthenticated(reason="the token's subject is a name that firelaunch keeps for visitors or groups")
    if guests and is_anonymous(claims):
        return Caller(app_id, uid, "guest", guest=True)
    check_not_anonymous(claims)
    apps = claims.get("apps")
    role = apps.get(app_id) if isinstance(apps, Mapping) else None
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise Forbidden("You are not a member of this app; join it first, then sign in again.", reason=f"uid {uid}")
    email = claims.get("email")
    if not isinstance(email, str):
        return Caller(app_id, uid, role)
    return Caller(app_id, uid, role, email, email_verified=claims.get("email_verified") is True)


def check_not_anonymous(claims: Mapping[str, Any]) -> None:
    """Refuse users who have no account of their own.

    Users who link their anonymous account to an e-mail address or a provider have one from their next token on.

    Raises:
        AnonymousAccount: the token says that its user signed in anonymously
            (https://firebase.google.com/docs/rules/rules-and-auth, ``firebase.sign_in_provider``).
    """
    if is_anonymous(claims):
        raise AnonymousAccount(reason=f"uid {claims.get('sub')}")


def is_anonymous(claims: Mapping[str, Any]) -> bool:
    """Return whether the token's user signed in anonymously."""
    firebase = claims.get("firebase")
    return isinstance(firebase, Mapping) and firebase.get("sign_in_provider") == "anonymous"


def tenant_of(claims: Mapping[str, Any]) -> Any:
    """Return the Identity Platform tenant that a token was issued for, or None for the project's own users."""
    firebase = claims.get("firebase")
    return firebase.get("tenant") if isinstance(firebase, Mapping) else None


class AnonymousAccount(Forbidden):
    """The token belongs to an anonymous account. Anybody can create any number of these."""

    code = "anonymous_account"
    message = "Sign in with an account: this app takes no anonymous ones. Then get a new token."


class AppCheckFailed(Unauthenticated):
    """The App Check token is missing or invalid, or belongs to a client that this app does not serve."""

    code = "app_check_failed"
    message = "This request shows no genuine client: send a valid App Check token as 'X-Firebase-AppCheck'."


class IdentityUnavailable(FirelaunchError):
    """The service that is needed to verify tokens is not available. The token may be valid."""

    code = "identity_unavailable"
    status = 503
    message = "Sign-in cannot be checked at the moment; try again."
