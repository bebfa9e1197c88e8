"""A user's day bounds what they may use, also what an erasure removed of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from firelaunch.metering.reservations import USED, Day
from firelaunch.store.base import Document
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TODAY = "2026-03-01"


def document(data: dict[str, Any]) -> Document:
    return Document("apps/demo/users/ada/usage/2026-03-01", data, NOON, NOON)


def erased(**used: Any) -> Document:
    return Document("apps/demo/erasures/x", {USED: used}, NOON, NOON)


def held(**micro_usd: tuple[int, int]) -> dict[str, Any]:
    """The amount of each request, and the seconds from noon at which it expires."""
    return {
        name: {"micro_usd": amount, "expires_at": NOON + timedelta(seconds=seconds)}
        for name, (amount, seconds) in micro_usd.items()
    }


AMOUNTS = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 99), st.integers(-2, 2)), max_size=4)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), AMOUNTS)
def test_what_is_spent_carried_over_or_held_is_committed_and_what_expired_is_not(
    cost: int, carried: int, before: int, requests: dict[str, tuple[int, int]]
) -> None:
    data = {"cost_micro_usd": cost, "carried_micro_usd": carried, "reservations": held(**requests)}
    day = Day.of(document(data), erased(day=TODAY, micro_usd=before), TODAY)
    open_ones = {name: amount for name, (amount, seconds) in requests.items() if seconds > 0}
    assert day.reservations(NOON, expired=False) == open_ones
    assert day.reservations(NOON, expired=True) == {n: a for n, (a, seconds) in requests.items() if seconds <= 0}
    assert day.committed(NOON) == cost + carried + before + sum(open_ones.values())
    kept = day.kept(TODAY, NOON)
    assert kept["micro_usd"] == day.committed(NOON)
    assert Day.of(None, erased(**kept), TODAY).committed(NOON) == day.committed(NOON), "an erasure gives no new budget"


def test_an_erasure_counts_on_its_own_day_alone() -> None:
    before = erased(day=TODAY, micro_usd=5, groups_made=2, minute="12:00", minute_requests=3, minute_uploads=1)
    same, next_day = Day.of(None, before, TODAY), Day.of(None, before, "2026-03-02")
    assert (same.committed(NOON), same.groups_made, same.counted_in("12:00", "requests")) == (5, 2, 3)
    assert (next_day.committed(NOON), next_day.groups_made, next_day.counted_in("12:00", "requests")) == (0, 0, 0)
    assert Day.of(None, Document("apps/demo/erasures/x", {}, NOON, NOON), TODAY).committed(NOON) == 0


@pytest.mark.parametrize(
    ("data", "before"),
    [
        ({"groups_made": 1}, {}),
        ({}, {"groups_made": 1}),
        ({"groups_made": 3}, {"groups_made": 2}),
    ],
)
def test_the_groups_of_a_day_are_those_from_before_and_after_an_erasure(
    data: dict[str, int], before: dict[str, int]
) -> None:
    day = Day.of(document(data), erased(day=TODAY, **before), TODAY)
    assert day.groups_made == data.get("groups_made", 0) + before.get("groups_made", 0)


def test_requests_and_uploads_of_a_minute_are_counted_apart_and_each_minute_begins_at_none() -> None:
    day = Day.of(document({"minute": "12:00", "minute_requests": 2, "minute_uploads": 5}))
    assert (day.counted_in("12:00", "requests"), day.counted_in("12:01", "requests")) == (2, 0)
    assert day.one_more("12:00", "requests") == {"minute": "12:00", "minute_requests": 3, "minute_uploads": 5}
    assert day.one_more("12:01", "requests") == {"minute": "12:01", "minute_requests": 1, "minute_uploads": 0}
    first = Day.of(document({"minute": "12:00"}))
    assert first.counted_in("12:00", "uploads") == 0
    assert first.one_more("12:00", "uploads") == {"minute": "12:00", "minute_uploads": 1}


def test_what_was_counted_before_an_erasure_is_not_written_again() -> None:
    before = erased(day=TODAY, minute="12:00", minute_requests=4)
    day = Day.of(document({"minute": "12:00", "minute_requests": 1}), before, TODAY)
    assert day.counted_in("12:00", "requests") == 5
    assert day.one_more("12:00", "requests")["minute_requests"] == 2
