"""Slots, paces and rooms: what is limited is never exceeded, and what is given back can be taken at once."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest
from firelaunch import slots as module
from firelaunch.errors import RateLimited, TooManyUploads
from firelaunch.slots import Pace, Room, Slots
from hypothesis import given
from hypothesis import strategies as st

USERS = ("ada", "bob", "cleo")


class Holder:
    """What holds a slot or room."""


def slots(most: int, of_a_user: int) -> Slots:
    return Slots(most, of_a_user, TooManyUploads, RateLimited)


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(USERS), st.booleans()), max_size=40),
)
def test_a_slot_is_refused_exactly_while_the_user_or_the_process_has_all_that_it_may(
    most: int, of_a_user: int, steps: list[tuple[str, bool]]
) -> None:
    limited = slots(most, of_a_user)
    held: dict[str, list[tuple[Holder, object]]] = {user: [] for user in USERS}
    for user, takes in steps:
        if not takes:
            if held[user]:
                _, release = held[user].pop()
                release()  # type: ignore[operator]
            continue
        holder = Holder()
        error: type[Exception] | None = None
        if len(held[user]) >= min(of_a_user, most):
            error = TooManyUploads
        elif sum(map(len, held.values())) >= most:
            error = RateLimited
        if error is None:
            held[user].append((holder, limited.take(user, holder)))
        else:
            with pytest.raises(error):
                limited.take(user, holder)
    counts = Counter({user: len(holders) for user, holders in held.items()})
    assert limited._taken == +counts
    assert set(limited._taken) == set(+counts), "a user who holds nothing takes no memory"


def test_who_gives_back_one_of_two_slots_may_take_one_and_no_more() -> None:
    limited, holder = slots(9, 2), Holder()
    first, _ = limited.take("ada", holder), limited.take("ada", holder)
    first()
    limited.take("ada", holder)
    with pytest.raises(TooManyUploads):
        limited.take("ada", holder)


def test_a_block_holds_a_slot_until_it_ends_however_it_ends() -> None:
    limited = slots(1, 1)

    def fails() -> None:
        with limited.held("ada"):
            with pytest.raises(RateLimited), limited.held("bob"):
                pass
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fails()
    with limited.held("bob"):
        pass


def test_a_slot_comes_back_when_its_holder_is_gone() -> None:
    limited, holder = slots(1, 1), Holder()
    limited.take("ada", holder)
    del holder
    gc.collect()
    with limited.held("ada"):
        pass


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(USERS), st.floats(0, 90, allow_subnormal=False)), max_size=60),
)
def test_a_users_pace_is_a_bucket_of_a_minutes_units_that_fills_evenly(
    per_minute: int, steps: list[tuple[str, float]]
) -> None:
    clock = Clock()
    pace = Pace(per_minute, clock)
    units, filled = dict.fromkeys(USERS, float(per_minute)), dict.fromkeys(USERS, clock.now)
    for user, after in steps:
        clock.now += after
        units[user] = min(float(per_minute), units[user] + (clock.now - filled[user]) * per_minute / 60)
        filled[user] = clock.now
        wait = pace.admit(user)
        assert wait == pytest.approx(max(0.0, (1 - units[user]) * 60 / per_minute), abs=1e-6)
        if not wait:
            units[user] -= 1


def test_who_waits_as_long_as_told_is_admitted_and_who_waits_less_is_not() -> None:
    clock = Clock(0.0)
    pace = Pace(4, clock)
    assert [pace.admit() for _ in range(6)] == [0, 0, 0, 0, 15, 15]
    clock.now = 14.5
    assert pace.admit() == 0.5
    clock.now = 15.0
    assert [pace.admit(), pace.admit()] == [0, 15]


def test_a_pace_of_0_limits_nothing() -> None:
    pace = Pace(0, Clock())
    assert [pace.admit("ada") for _ in range(1_000)] == [0.0] * 1_000
    assert pace.take(1_000) == 0.0


def test_units_that_are_taken_are_spaced_and_what_was_not_used_is_not_kept() -> None:
    clock = Clock(0.0)
    pace = Pace(60, clock)
    assert [pace.take(3), pace.take(2), pace.take(1)] == [0, 3, 5]
    clock.now = 100.0
    assert [pace.take(1), pace.take(1)] == [0, 1]


def test_users_who_used_nothing_of_late_are_forgotten_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    clock = Clock()
    pace = Pace(1, clock)
    for user in ("idle", "also idle"):
        pace.admit(user)
    clock.now += 60
    for user in ("ada", "bob"):
        assert pace.admit(user) == 0
    clock.now += 1
    pace.admit("cleo")
    assert set(pace._free_at) == {"ada", "bob", "cleo"}
    assert pace.admit("ada") == 59


def test_no_more_users_are_remembered_than_the_bound_while_they_use_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    clock = Clock()
    pace = Pace(60, clock)
    for number in range(20):
        pace.admit(str(number))
        clock.now += 1
        assert len(pace._free_at) <= 4


@given(st.integers(0, 10), st.lists(st.integers(0, 12), max_size=20))
def test_a_room_holds_as_many_bytes_as_it_may_and_not_one_more(most: int, sizes: list[int]) -> None:
    room = Room(most, RateLimited)
    with ExitStack() as held:
        taken = 0
        for size in sizes:
            if taken + size > most:
                with pytest.raises(RateLimited):
                    held.enter_context(room.held(size))
            else:
                held.enter_context(room.held(size))
                taken += size
    with room.held(most):
        pass
    assert room._taken == 0


def test_what_is_made_takes_room_until_it_is_gone_and_nothing_is_made_without_room() -> None:
    room = Room(10, RateLimited)
    kept = room.made(4, Holder)
    with pytest.raises(RateLimited):
        room.made(7, lambda: pytest.fail("there is no room for it"))
    also = room.made(6, Holder)
    del kept
    gc.collect()
    with room.held(4), pytest.raises(RateLimited), room.held(1):
        pass
    del also
    gc.collect()
    with room.held(10):
        pass


def test_what_could_not_be_made_takes_no_room_and_its_error_passes_through() -> None:
    room = Room(10, RateLimited)

    def fails() -> Holder:
        raise KeyError

    with pytest.raises(KeyError):
        room.made(10, fails)
    with room.held(10):
        pass


def test_a_room_gives_nothing_back_as_the_process_ends() -> None:
    """The interpreter is half gone by then."""
    program = (
        "from firelaunch.slots import Room\n"
        "class Told(Room):\n"
        "    def _give_back(self, size): print('given back')\n"
        "kept = Told(1, ValueError).made(1, type('Holder', (), {}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
