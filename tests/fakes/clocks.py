"""Clocks that stand still, for what is counted by the minute: a test that runs over its end would find two minutes."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["half_past_noon"]


def half_past_noon() -> datetime:
    """Return half a minute past noon of one day, always."""
    return datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
