"""Clients that are made by their first use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from firelaunch.services.deferred import Warming, deferred


class Client:
    """A client that counts how many there are."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def ask(self, question: str) -> str:
        return f"{question}!"


@pytest.fixture(autouse=True)
def no_clients() -> None:
    Client.made = 0


def test_nothing_is_made_before_its_first_use_and_one_serves_all_threads() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def make() -> Client:
        inside.set()
        assert go_on.wait(30)
        return Client()

    client = deferred(make)
    assert Client.made == 0
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(lambda: client.ask("tea")) for _ in range(8)]
        assert inside.wait(30)
        go_on.set()
        assert [answer.result() for answer in answers] == ["tea!"] * 8
    assert Client.made == 1


def test_a_client_that_cannot_be_made_is_tried_again_by_its_next_use() -> None:
    faults = [OSError("no network")]

    def make() -> Client:
        if faults:
            raise faults.pop()
        return Client()

    client = deferred(make)
    with pytest.raises(OSError, match="no network"):
        client.ask("tea")
    assert client.ask("tea") == "tea!"


def test_one_that_makes_another_does_not_wait_for_itself() -> None:
    inner = deferred(Client)

    class Outer:
        def __init__(self) -> None:
            self.said = inner.ask("tea")

    assert deferred(Outer).said == "tea!"


def test_a_warming_takes_each_step_once_and_goes_on_after_one_that_fails() -> None:
    taken: list[str] = []
    done = threading.Event()

    def fail() -> None:
        taken.append("fails")
        raise OSError

    warming = Warming([fail, lambda: taken.append("next"), done.set])
    for _ in range(3):
        warming.begin()
    assert done.wait(30)
    assert taken == ["fails", "next"]
