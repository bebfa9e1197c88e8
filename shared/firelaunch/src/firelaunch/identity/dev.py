"""Issue and verify dev tokens, for a laptop. Their key never leaves the app's local data folder."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from ..errors import Unauthenticated
from ..scope import check_uid
from .base import Caller, caller_from_claims
from .clock import CLOCK_SECONDS, expired, too_early

__all__ = ["DevIdentity", "load_or_create_key"]

_TTL_SECONDS = 7 * 24 * 3600
_KEY_BYTES = 32
_REMEMBERED = 250
"""Tokens whose signature need not be verified again. A user's requests come close together."""


def load_or_create_key(folder: Path) -> bytes:
    """Return the key in ``folder``. The first call creates it, readable by its owner only.

    Processes that start at the same time all get the same key: the key is written to a temporary file first, and then
    linked into place once.
    """
    path = folder / "dev_key"
    while True:
        try:
            return bytes.fromhex(path.read_text())
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = folder / f"dev_key.{secrets.token_hex(8)}"
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(_KEY_BYTES))
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()


class DevIdentity:
    """Issues and verifies the dev tokens of one app.

    Args:
        key: the key from :func:`load_or_create_key`.
        ttl_seconds: the seconds for which a token is valid. The default is a week, so that a page left open overnight
            goes on working.
        guests: whether the app takes guests.
    """

    def __init__(self, app_id: str, key: bytes, ttl_seconds: int = _TTL_SECONDS, *, guests: bool = False) -> None:
        self._guests = guests
        self._app_id = app_id
        self._ttl = ttl_seconds
        # The salt is part of the signature, so a token of another app is invalid even under the same key.
        self._serializer = URLSafeTimedSerializer(key, salt=f"firelaunch-dev-token/{app_id}")
        self._signed = lru_cache(maxsize=_REMEMBERED)(partial(self._serializer.loads, return_timestamp=True))

    def issue(self, uid: str, role: str = "member", email: str | None = None) -> str:
        """Issue a token for ``uid`` with ``role``. An ``email`` counts as verified.

        Raises:
            InvalidId: Firebase Auth could not have issued ``uid``.
        """
        verified = {} if email is None else {"email_verified": True}
        return self._issue({"sub": check_uid(uid), "apps": {self._app_id: role}, "email": email, **verified})

    def issue_to_guest(self, uid: str) -> str:
        """Issue a token for ``uid`` as Firebase Auth does for an anonymous user.

        Raises:
            InvalidId: Firebase Auth could not have issued ``uid``.
        """
        return self._issue({"sub": check_uid(uid), "firebase": {"sign_in_provider": "anonymous"}})

    def _issue(self, claims: dict[str, Any]) -> str:
        token = self._serializer.dumps(claims)
        return token if isinstance(token, str) else token.decode()

    def verify(self, token: str) -> Caller:
        """Return the user that ``token`` was issued to. See :class:`~firelaunch.identity.base.Identity`."""
        try:
            claims, issued = self._signed(token)
        except BadSignature:
            raise Unauthenticated(reason="not a dev token of this app, or one that was changed") from None
        age = (datetime.now(UTC) - issued).total_seconds()
        if age < -CLOCK_SECONDS:
            raise too_early(f"a dev token of {-age:.0f} s from now")
        # The allowance for clocks never makes a token last more than twice as long.
        if age > self._ttl + max(0, min(CLOCK_SECONDS, self._ttl)):
            raise expired(f"a dev token of {age:.0f} s ago")
        return caller_from_claims(self._app_id, claims.get("sub"), claims, guests=self._guests)
