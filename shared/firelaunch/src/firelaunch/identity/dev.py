"""Dev tokens: for a laptop, signed with a key that never leaves the app's local data folder."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from ..errors import Unauthenticated
from ..scope import check_uid
from .base import Caller, caller_from_claims
from .clock import CLOCK_SECONDS, expired, too_early

__all__ = ["DevIdentity", "load_or_create_key"]

_TTL_SECONDS = 7 * 24 * 3600
_KEY_BYTES = 32


def load_or_create_key(folder: Path) -> bytes:
    """The key in ``folder``, made on the first call (readable by its owner alone).

    Starts that race all end up with the same key: it is written aside in full and then linked into place, once.
    """
    path = folder / "dev_key"
    while True:
        try:
            return bytes.fromhex(path.read_text())
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = folder / f"dev_key.{secrets.token_hex(8)}"
            aside.touch(mode=0o600)
            aside.write_text(secrets.token_hex(_KEY_BYTES))
            try:
                os.link(aside, path)
            except FileExistsError:
                pass
            finally:
                aside.unlink()


class DevIdentity:
    """Issues and verifies the dev tokens of one app.

    Args:
        key: as from :func:`load_or_create_key`.
        ttl_seconds: how long a token holds; a week, so that a page left open overnight goes on working.
    """

    def __init__(self, app_id: str, key: bytes, ttl_seconds: int = _TTL_SECONDS) -> None:
        self._app_id = app_id
        self._ttl = ttl_seconds
        # The salt takes part in the signature, so a token of another app does not hold even under the same key.
        self._serializer = URLSafeTimedSerializer(key, salt=f"firelaunch-dev-token/{app_id}")

    def issue(self, uid: str, role: str = "member", email: str | None = None) -> str:
        """A token for ``uid`` in ``role``.

        Raises:
            InvalidId: Firebase Auth could not have issued ``uid``.
        """
        claims = {"sub": check_uid(uid), "apps": {self._app_id: role}, "email": email}
        token = self._serializer.dumps(claims)
        return token if isinstance(token, str) else token.decode()

    def verify(self, token: str) -> Caller:
        """See :class:`~firelaunch.identity.base.Identity`."""
        try:
            claims, issued = self._serializer.loads(token, return_timestamp=True)
        except BadSignature:
            raise Unauthenticated(reason="not a dev token of this app, or one that was changed") from None
        age = (datetime.now(UTC) - issued).total_seconds()
        if age < -CLOCK_SECONDS:
            raise too_early(f"a dev token of {-age:.0f} s from now")
        # A clock that is off never makes a token last twice as long.
        if age > self._ttl + max(0, min(CLOCK_SECONDS, self._ttl)):
            raise expired(f"a dev token of {age:.0f} s ago")
        return caller_from_claims(self._app_id, claims.get("sub"), claims)
