"""Verify access tokens that an OAuth authorization server of the founder's issued to agents.

Such a token names a Firebase user. The role comes from the app's own record of the user's membership, so whoever leaves
the app has no access from then on. :mod:`firelaunch.services.build` imports this module if it is in use.
"""

from __future__ import annotations

import urllib.error
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from jwt import PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError

from ..errors import Forbidden, InvalidId, Unauthenticated
from ..scope import check_uid
from .base import Caller, IdentityUnavailable, caller_from_claims
from .clock import CLOCK_SECONDS, check_times

__all__ = ["AccessTokens"]

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key alone: with a shared key, whoever can verify could also sign."""

_KEYS_SECONDS = 3600
_TIMEOUT_SECONDS = 5


class AccessTokens:
    """Verifies JWT access tokens (RFC 9068): signature, times, issuer, audience, user and membership.

    Args:
        issuer: the authorization server's identifier, the ``iss`` of its tokens.
        keys_url: the address of its keys (JWKS).
        audience: the address of ``POST /mcp``, for which tokens must be issued (RFC 8707).
        user_claim: the claim with the Firebase uid.
        role_of: returns a user's role in the app, or None for who is no member.
    """

    def __init__(
        self,
        app_id: str,
        issuer: str,
        keys_url: str,
        audience: str,
        user_claim: str,
        role_of: Callable[[str], str | None],
    ) -> None:
        self._app_id, self._issuer, self._audience = app_id, issuer.rstrip("/"), audience.rstrip("/")
        self._user_claim, self._role_of = user_claim, role_of
        self._keys = PyJWKClient(keys_url, lifespan=_KEYS_SECONDS, timeout=_TIMEOUT_SECONDS)

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued for. See :class:`~firelaunch.identity.base.Identity`.

        Raises:
            IdentityUnavailable: the server's keys cannot be fetched.
        """
        claims = self._claims(token)
        uid: Any = claims.get(self._user_claim)
        try:
            check_uid(uid)
        except InvalidId:
            raise Unauthenticated(reason=f"the token's {self._user_claim} is no valid user id") from None
        role = self._role_of(uid)
        if role is None:
            raise Forbidden("You are not a member of this app; join it first.", reason=f"uid {uid}")
        # The token's own claims say nothing of roles, whatever is in them.
        return caller_from_claims(self._app_id, uid, {"apps": {self._app_id: role}, "email": claims.get("email")})

    def _claims(self, token: str) -> Mapping[str, Any]:
        try:
            # Before any key is fetched: most tokens that are not of this server are Firebase's.
            shown = jwt.decode(token, options={"verify_signature": False})
            if str(shown.get("iss", "")).rstrip("/") != self._issuer:
                raise Unauthenticated(reason="an access token of another issuer")
            key = self._keys.get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(_ALGORITHMS),
                leeway=CLOCK_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss"], "verify_aud": False},
            )
        except Unauthenticated:
            raise
        except (PyJWKClientConnectionError, urllib.error.URLError) as error:
            raise IdentityUnavailable(reason=f"the authorization server's keys: {error}") from error
        except Exception as error:
            # A token holds a stranger's bytes. Whatever error they cause in the library, the token is invalid.
            raise Unauthenticated(reason=f"{type(error).__name__}: {error}"[:300]) from error
        audience = claims["aud"]
        audiences = audience if isinstance(audience, list) else [audience]
        if self._audience not in {str(each).rstrip("/") for each in audiences}:
            raise Unauthenticated(reason=f"an access token for {str(audiences)[:200]}, not for {self._audience}")
        check_times(claims)
        return claims
