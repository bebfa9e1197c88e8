"""Tell the worker whose token a request shows, once the app has verified it."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CALLER_KNOWN_KEY", "known"]

CALLER_KNOWN_KEY: Final = "firelaunch.caller_known"
"""The key of a WSGI environment with a function that takes the caller's id. Only the worker sets it."""


def known(environ: dict[str, Any], user: str) -> None:
    """Tell the worker who sent a request. From then on, requests with this token wait for that user's turn alone.

    Args:
        user: an id that no client chooses.
    """
    tell = environ.get(CALLER_KNOWN_KEY)
    if tell is not None:
        tell(user)
