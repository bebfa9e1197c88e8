"""Check the times in a token, with an allowance for clocks that differ.

Errors mention the clock only in the log. The bearer of an invalid token learns nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..errors import Unauthenticated

__all__ = ["CLOCK_SECONDS", "check_times", "expired", "too_early"]

CLOCK_SECONDS = 60
"""Seconds that two clocks may differ by. A token's times are extended by this much before and after. firebase-admin
accepts no larger value."""

_BEGINNINGS = ("iat", "auth_time", "nbf")


def check_times(claims: Mapping[str, Any]) -> None:
    """Refuse a token that is not valid now, by those of ``iat``, ``auth_time``, ``nbf`` and ``exp`` that it has.

    Raises:
        Unauthenticated: one of the times is off by more than CLOCK_SECONDS, or is no number.
    """
    now = time.time()
    for name in _BEGINNINGS:
        # The comparison is written so that values that are no numbers, such as NaN, are refused.
        if name in claims and not (_is_number(claims[name]) and claims[name] <= now + CLOCK_SECONDS):
            raise too_early(f"its {name} is {claims[name]!r}, and it is {now:.0f} here")
    if "exp" in claims and not (_is_number(claims["exp"]) and claims["exp"] >= now - CLOCK_SECONDS):
        raise expired(f"its exp is {claims['exp']!r}, and it is {now:.0f} here")


def too_early(reason: str) -> Unauthenticated:
    """Return the error for a token from the future. ``reason`` has the token's times, for the log."""
    return Unauthenticated(reason=f"a token from the future: is this machine's clock right? ({reason})"[:300])


def expired(reason: str) -> Unauthenticated:
    """Return the error for an expired token. ``reason`` has the token's times, for the log."""
    return Unauthenticated(
        reason=f"the token has expired; if it is new, this machine's clock is ahead ({reason})"[:300]
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
