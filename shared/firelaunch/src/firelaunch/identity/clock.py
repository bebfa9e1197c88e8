"""The times in a token, with an allowance for clocks that differ.

Errors name the clock in the log alone: a token that does not hold tells its bearer nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..errors import Unauthenticated

__all__ = ["CLOCK_SECONDS", "check_times", "expired", "too_early"]

CLOCK_SECONDS = 60
"""What two clocks may differ by: a token's times hold for this long before and after. firebase-admin takes
no more than that."""

_BEGINNINGS = ("iat", "auth_time", "nbf")


def check_times(claims: Mapping[str, Any]) -> None:
    """Refuse a token that is not valid now, by each of ``iat``, ``auth_time``, ``nbf`` and ``exp`` that it has.

    Raises:
        Unauthenticated: one of them is off by more than CLOCK_SECONDS, or is no number.
    """
    now = time.time()
    for name in _BEGINNINGS:
        # Written so that what is not a number, NaN among it, is refused.
        if name in claims and not (_is_number(claims[name]) and claims[name] <= now + CLOCK_SECONDS):
            raise too_early(f"its {name} is {claims[name]!r}, and it is {now:.0f} here")
    if "exp" in claims and not (_is_number(claims["exp"]) and claims["exp"] >= now - CLOCK_SECONDS):
        raise expired(f"its exp is {claims['exp']!r}, and it is {now:.0f} here")


def too_early(reason: str) -> Unauthenticated:
    """The error for a token from the future; ``reason`` has its times, for the log."""
    return Unauthenticated(reason=f"a token from the future: is this machine's clock right? ({reason})"[:300])


def expired(reason: str) -> Unauthenticated:
    """The error for a token that has ended; ``reason`` has its times, for the log."""
    return Unauthenticated(
        reason=f"the token has expired; if it is new, this machine's clock is ahead ({reason})"[:300]
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
