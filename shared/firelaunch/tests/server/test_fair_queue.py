"""Whose request gets the next thread."""

from __future__ import annotations

import pytest
from firelaunch.server.fair_queue import NEWCOMERS, NOBODY, FairQueue, Ticket
from hypothesis import given
from hypothesis import strategies as st


def taken(queue: FairQueue, now: float) -> list[tuple[str, Ticket]]:
    """All requests that may be answered now."""
    found = []
    while (request := queue.take(now)) is not None:
        found.append(request)
    return found


def test_a_request_of_another_caller_goes_before_those_that_one_has_piled_up() -> None:
    queue = FairQueue(threads=80)
    for number in range(100):
        queue.put("mallory", f"mallory {number}", 0.0)
    answered = taken(queue, 0.0)
    queue.put("ada", "ada", 0.0)
    assert [request for request, _ in taken(queue, 0.0)] == ["ada"]
    for _, ticket in answered:
        queue.end(ticket)
    queue.put("ada", "ada again", 0.0)
    # Mallory has waited for longer, and has one turn.
    assert [request for request, _ in taken(queue, 0.0)] == ["mallory 1", "ada again"]


@pytest.mark.parametrize("caller", ["ada", NOBODY, NEWCOMERS])
def test_what_a_page_asks_for_when_it_opens_is_answered_side_by_side(caller: str) -> None:
    queue = FairQueue(threads=80)
    for number in range(6):
        queue.put(caller, number, 0.0)
    answered = taken(queue, 0.0)
    assert [request for request, _ in answered] == [0, 1, 2, 3]
    queue.end(answered[2][1])
    assert [request for request, _ in taken(queue, 0.0)] == [4]


def test_who_asks_often_has_one_request_answered_at_a_time_until_they_pause() -> None:
    queue = FairQueue(threads=80)
    for number in range(30):
        queue.put("mallory", number, 0.0)
    for number in range(30):
        ((request, ticket),) = taken(queue, 0.0)
        assert request == number
        queue.end(ticket)
    for number in range(3):
        queue.put("mallory", number, 10.0)
    assert len(taken(queue, 10.0)) == 3


@pytest.mark.parametrize(
    ("caller", "gives_way"), [(NOBODY, True), (NEWCOMERS, True), ("ada", False), ("/internal", False)]
)
def test_strangers_who_ask_often_give_way_until_they_pause(caller: str, gives_way: bool) -> None:
    queue = FairQueue(threads=80)
    seen = []
    for number in range(30):
        queue.put(caller, number, 0.0)
        ((_, ticket),) = taken(queue, 0.0)
        queue.end(ticket)
        seen.append(ticket.gives_way)
    assert seen[:19] == [False] * 19
    assert seen[21:] == [gives_way] * 9
    queue.put(caller, "later", 10.0)
    ((_, ticket),) = taken(queue, 10.0)
    assert not ticket.gives_way


def test_a_user_who_asks_often_and_for_much_at_once_gives_way() -> None:
    queue = FairQueue(threads=80)
    for number in range(100):
        queue.put("mallory", number, 0.0)
    ((_, ticket),) = taken(queue, 0.0)
    assert ticket.gives_way
    queue.put("ada", "one", 0.0)
    ((_, ticket),) = taken(queue, 0.0)
    assert not ticket.gives_way


def test_a_new_token_does_not_wait_among_those_who_show_none() -> None:
    queue = FairQueue(threads=80)
    for number in range(100):
        queue.put(NOBODY, number, 0.0)
    taken(queue, 0.0)
    queue.put(NEWCOMERS, "ada's first", 0.0)
    assert [request for request, _ in taken(queue, 0.0)] == ["ada's first"]


def test_a_service_has_as_many_requests_answered_as_there_are_threads() -> None:
    queue = FairQueue(threads=10)
    for number in range(30):
        queue.put("/internal", number, 0.0)
    assert len(taken(queue, 0.0)) == 10


def test_requests_that_wait_for_something_make_room_for_the_next_ones() -> None:
    queue = FairQueue(threads=10)
    for number in range(20):
        queue.put("ada", number, 0.0)
    begun = sum(len(taken(queue, step * 0.06)) for step in range(5))
    assert begun == 10, "all threads are taken, though none has ended"


def test_requests_that_have_waited_too_long_are_taken_out_and_others_stay() -> None:
    queue = FairQueue(threads=0)
    queue.put("ada", "old", 0.0)
    queue.put("ada", "new", 3.0)
    queue.put("bob", "older", -1.0)
    assert sorted(queue.late(1.0)) == ["old", "older"]
    assert list(queue.late(1.0)) == []
    assert queue
    assert list(queue.late(3.0)) == ["new"]
    assert not queue


@given(
    st.lists(st.tuples(st.sampled_from([NOBODY, NEWCOMERS, "ada", "bob"]), st.floats(0, 0.3)), max_size=60),
    st.integers(1, 5),
)
def test_each_request_is_answered_once_and_never_more_than_there_are_threads(
    requests: list[tuple[str, float]], threads: int
) -> None:
    queue, now, answered, running = FairQueue(threads), 0.0, [], []
    for number, (caller, pause) in enumerate(requests):
        now += pause
        queue.put(caller, number, now)
        running += taken(queue, now)
        assert len(running) <= threads
        if number % 3 == 0 and running:
            request, ticket = running.pop(0)
            queue.end(ticket)
            queue.end(ticket)  # ends no other's
            answered.append(request)
    while running or queue:
        now += 1.0
        for request, ticket in running:
            queue.end(ticket)
            answered.append(request)
        running = taken(queue, now)
    assert sorted(answered) == list(range(len(requests)))


def test_callers_who_asked_nothing_of_late_are_forgotten_and_who_asks_often_is_not() -> None:
    queue = FairQueue(threads=80)
    for _ in range(30):
        queue.put("mallory", "many", 0.0)
    for number in range(1_000):
        queue.put(f"user {number}", "one", number / 1_000)
        for _, ticket in taken(queue, number / 1_000):
            queue.end(ticket)
    # A caller counts for 0.2 s after a request.
    assert len(queue._lines) <= 2 * 201 + 1
    assert queue._lines["mallory"].asks_often(1.0)
