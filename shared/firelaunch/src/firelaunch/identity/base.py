"""Who sent a request: the port that verifiers stand behind, and what a verified token amounts to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import FirelaunchError, Forbidden, InvalidId, Unauthenticated
from ..scope import Scope, check_uid

__all__ = [
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
    "tenant_of",
]

_MOST_HEADER = 8192
"""Characters of a header at most; servers refuse longer lines anyway."""

_ROLE = re.compile(r"[a-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified user of this app. ``role`` is "member", "admin", or a name of the app's own."""

    app_id: str
    uid: str
    role: str
    email: str | None = None

    @property
    def scope(self) -> Scope:
        """Where this user's data lies."""
        return Scope(self.app_id, self.uid)

    @property
    def library(self) -> Scope:
        """Where the documents of all members of the app lie."""
        return Scope(self.app_id)


class Identity(Protocol):
    """Verifies tokens for one app."""

    def verify(self, token: str) -> Caller:
        """The user whom ``token`` was issued to.

        Raises:
            Unauthenticated: the token does not hold; its reason is for the log.
            Forbidden: the token holds, and its user is no member of this app.
        """


class Attestation(Protocol):
    """Verifies what a request shows of the client software that it comes from."""

    def verify(self, token: str | None) -> str:
        """The id of the client that ``token`` was issued to.

        Raises:
            Unauthenticated: it does not hold, or the client is not one of the app's.
        """


class AnyOf:
    """Takes a token that any of ``identities`` takes; for development, where dev tokens and emulators' tokens mix."""

    def __init__(self, *identities: Identity) -> None:
        self._identities = identities

    def verify(self, token: str) -> Caller:
        """See :class:`Identity`."""
        reasons: list[str] = []
        for identity in self._identities:
            try:
                return identity.verify(token)
            except Unauthenticated as error:
                reasons.append(error.reason or "")
        raise Unauthenticated(reason="; ".join(reasons))


def bearer(header: str | None) -> str:
    """The token of an ``Authorization`` header's value.

    Raises:
        Unauthenticated: there is none, it is of another scheme, or it is over 8,192 characters.
    """
    if not header:
        raise Unauthenticated(reason="no Authorization header")
    if len(header) > _MOST_HEADER:
        raise Unauthenticated(reason=f"an Authorization header of {len(header)} characters")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token or "," in token:
        raise Unauthenticated(reason="the Authorization header is not 'Bearer <token>'")
    return token


def caller_from_claims(app_id: str, uid: Any, claims: Mapping[str, Any]) -> Caller:
    """The caller that verified ``claims`` make of ``uid`` in this app.

    Raises:
        Unauthenticated: ``uid`` is no id that Firebase Auth issues.
        AnonymousAccount: the user signed in without an account.
        Forbidden: ``claims["apps"]`` names no role in this app; anything but a mapping names none.
    """
    try:
        check_uid(uid)
    except InvalidId:
        raise Unauthenticated(reason="the token's subject is no valid user id") from None
    check_not_anonymous(claims)
    apps = claims.get("apps")
    role = apps.get(app_id) if isinstance(apps, Mapping) else None
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise Forbidden("You are not a member of this app; join it first, then sign in again.", reason=f"uid {uid}")
    email = claims.get("email")
    return Caller(app_id, uid, role, email if isinstance(email, str) else None)


def check_not_anonymous(claims: Mapping[str, Any]) -> None:
    """Let users pass who have an account of their own.

    One who links an anonymous account to an e-mail address or a provider has, from their next token on.

    Raises:
        AnonymousAccount: the token says that its user signed in anonymously
            (https://firebase.google.com/docs/rules/rules-and-auth, ``firebase.sign_in_provider``).
    """
    firebase = claims.get("firebase")
    if isinstance(firebase, Mapping) and firebase.get("sign_in_provider") == "anonymous":
        raise AnonymousAccount(reason=f"uid {claims.get('sub')}")


def tenant_of(claims: Mapping[str, Any]) -> Any:
    """The Identity Platform tenant that a token was issued for; None for the project's own users."""
    firebase = claims.get("firebase")
    return firebase.get("tenant") if isinstance(firebase, Mapping) else None


class AnonymousAccount(Forbidden):
    """The token is of an anonymous account; anybody may make as many of these as they like."""

    code = "anonymous_account"
    message = "Sign in with an account: this app takes no anonymous ones. Then get a new token."


class AppCheckFailed(Unauthenticated):
    """No App Check token, one that does not hold, or one of a client that this app does not serve."""

    code = "app_check_failed"
    message = "This request shows no genuine client: send a valid App Check token as 'X-Firebase-AppCheck'."


class IdentityUnavailable(FirelaunchError):
    """What is needed to verify tokens cannot be had at the moment; the tokens may be good."""

    code = "identity_unavailable"
    status = 503
    message = "Sign-in cannot be checked at the moment; try again."
