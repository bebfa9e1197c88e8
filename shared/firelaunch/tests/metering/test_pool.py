"""The pool of an app's money: slices are small, sums are exact, and each warning comes at its percent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from firelaunch.metering.pool import LeasedSlice, Pool, Pot, resets_at
from hypothesis import given
from hypothesis import strategies as st

DAY, NEXT, LATER = "2026-03-09", "2026-03-10", "2026-03-19"
NOON = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
EMPTY = Pool("apps/demo/budget/2026-03", {}, {})


def leased(micro_usd: int, owner: str = "b", day: str = DAY, *, guests: bool = False) -> LeasedSlice:
    return LeasedSlice(micro_usd, day, guests, owner, 60.0, NOON)


def spent(micro_usd: int, day: str = DAY, *, guests: bool = False, pool: Pool = EMPTY) -> Pool:
    return pool.with_lease("s", leased(micro_usd, day=day, guests=guests)).closed("s", micro_usd)


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        (EMPTY, 1_500),
        (EMPTY.with_lease("s", leased(1_000)), 1_000),
        (EMPTY.with_lease("s", leased(1_000, "a")), 1_000),
        (EMPTY.with_lease("s", leased(100, "b")).with_lease("t", leased(100, "c")), 1_000),
        (EMPTY.with_lease("s", leased(2_999)), 0),
        (EMPTY.with_lease("s", leased(5_000)), 0),
        (spent(99_000), 500),
        (spent(99_000).with_lease("t", leased(201)), 199),
        (spent(99_999), 0),
        (spent(120_000), 0),
    ],
)
def test_a_slice_is_half_of_what_may_be_out_and_its_owners_part_of_it_and_of_half_of_what_is_left(
    pool: Pool, size: int
) -> None:
    share = pool.share("day", DAY, 100_000, "a")
    assert share == size
    assert isinstance(share, int)


@given(
    st.integers(0, 10**9),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from("abc"), st.booleans()), max_size=6),
)
def test_no_slice_takes_more_than_is_left(ceiling: int, slices: list[tuple[int, str, bool]]) -> None:
    pool = EMPTY
    for number, (micro_usd, owner, closes) in enumerate(slices):
        pool = pool.with_lease(str(number), leased(micro_usd, owner))
        if closes:
            pool = pool.closed(str(number), micro_usd)
    share = pool.share("day", DAY, ceiling, "a")
    assert 0 <= share <= max(0, ceiling - pool.used("day", DAY))
    assert share <= max(0, ceiling * 3 // 100 - pool.leased("day", DAY))


_Step = tuple[int, int, str, bool]
_STEPS = st.tuples(st.integers(0, 100), st.integers(0, 100), st.sampled_from([DAY, NEXT, LATER]), st.booleans())


@given(st.lists(_STEPS, max_size=8))
def test_each_day_the_month_and_guests_have_exactly_what_their_slices_spent_and_gave_up(steps: list[_Step]) -> None:
    pool = EMPTY
    for spent_now, given_up, day, guests in steps:
        pool = pool.with_lease("s", leased(500, day=day, guests=guests)).closed("s", spent_now, given_up)
    for day in (DAY, NEXT, LATER):
        of_day = [step for step in steps if step[2] == day]
        assert pool.spent("day", day) == sum(step[0] for step in of_day)
        assert pool.given_up("day", day) == sum(step[1] for step in of_day)
        assert pool.spent("guests", day) == sum(step[0] for step in of_day if step[3])
        assert pool.used("guests", day) == sum(step[0] + step[1] for step in of_day if step[3])
        assert pool.used("month", day) == sum(step[0] + step[1] for step in steps)
    assert pool.leases == {}


def test_a_slice_is_over_from_the_second_on_in_which_nothing_can_be_spent_from_it() -> None:
    lease = leased(1)
    assert not lease.is_over(NOON + timedelta(seconds=59.999))
    assert lease.is_over(NOON + timedelta(seconds=60))
    assert not LeasedSlice(1, DAY, False, "a", 60.0).is_over(NOON + timedelta(days=9)), "it was not committed"


@pytest.mark.parametrize(
    ("used", "reached"),
    [(0, []), (499, []), (500, [50]), (799, [50]), (800, [50, 80]), (999, [50, 80]), (1_000, [50, 80, 100])],
)
def test_admins_are_told_when_a_percent_is_reached_and_not_before(used: int, reached: list[int]) -> None:
    told, news = spent(used).warned({"day": 1_000}, DAY)
    assert news == [("day", percent) for percent in reached]
    assert told.warned({"day": 1_000}, DAY) == (told, [])


def test_a_ceiling_that_a_request_was_refused_for_counts_as_reached_and_no_other_does() -> None:
    _, news = spent(600).warned({"day": 1_000, "month": 2_000}, DAY, ["day"])
    assert news == [("day", 50), ("day", 80), ("day", 100)]
    _, news = spent(1_000).warned({"day": 1_000, "month": 2_000}, DAY)
    assert news == [("day", 50), ("day", 80), ("day", 100), ("month", 50)]


def test_admins_are_told_of_a_day_each_day_and_of_a_month_once() -> None:
    ceilings: dict[Pot, int] = {"day": 1_000, "month": 2_000, "guests": 1_000}
    told, news = spent(500, guests=True, pool=spent(500, NEXT, guests=True)).warned(ceilings, DAY)
    assert news == [("day", 50), ("month", 50), ("guests", 50)]
    told, news = told.warned(ceilings, NEXT)
    assert news == [("day", 50), ("guests", 50)]
    assert told.warned(ceilings, NEXT)[1] == []


@given(st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_a_pot_is_full_again_at_the_first_moment_after_it(now: datetime) -> None:
    for pot in ("day", "guests"):
        assert timedelta(0) < resets_at(pot, now) - now <= timedelta(days=1)
    month = resets_at("month", now)
    assert (month.day, month.time()) == (1, datetime.min.time())
    before = month - timedelta(microseconds=1)
    assert (before.year, before.month) == (now.year, now.month)
