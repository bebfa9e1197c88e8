"""Whoever has their data erased and comes back has, on the same day, what is left of their plan's day."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.llm.types import Chunk
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore, Set
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of
from hypothesis import given, settings
from hypothesis import strategies as st

ADA, APP = Scope("demo", "ada"), Scope("demo")
BUDGET = 100_000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRICED = (
    JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.10"\ngroups = 2\ngroup_members = 5').replace(
        "[limits]\n", "[limits]\nprompt_tokens = 200\n"
    )
    + """
[plans.guest]
requests_per_minute = 1000
daily_usd = "0.10"

[budget]
guests_daily_usd = "1000"

"""
    + "".join(
        f'[prices."{model}"]\ninput = "20"\noutput = "20"\n' for model in ("gpt-5.4-mini", "gpt-5.4-nano", "gpt-5-mini")
    )
)
"""A plan whose day lasts for 20 answers at most."""

ANSWER = 5_000
"""Micro-dollars that the model server charges for each answer: 250 tokens."""


@dataclass
class Day:
    """One user on one day, and the model server that charges for what it said, whatever becomes of the answers."""

    model: ModelServer
    now: datetime = NOON
    erase_at: str = ""
    site: Site = field(init=False)

    @property
    def charged(self) -> int:
        return ANSWER * len(self.model.requests)

    def answer(self, turn: Turn) -> Iterator[Chunk]:
        if self.erase_at == "before":
            self.erase()
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])
        if self.erase_at == "after":
            self.erase()

    def send(self, size: int, erase_at: str = "") -> int:
        one, self.erase_at = self.user, erase_at
        made = one.post("/v1/chats", {})
        return made.status_code if made.status_code != 201 else one.send(made.get_json()["id"], "x" * size).status_code

    def erase(self) -> None:
        erasure_of(self.site.services).run("ada")

    @property
    def user(self) -> User:
        return sign_in(self.site.app, "ada")

    def counted(self) -> int:
        """What counts toward the day's budget."""
        usage = self.usage()
        return int(usage["cost_micro_usd"] + usage["carried_micro_usd"] + usage["reserved_micro_usd"])

    def usage(self) -> dict[str, Any]:
        found: dict[str, Any] = self.user.get("/v1/usage").get_json()
        return found


@contextmanager
def a_day(folder: Path, store: DocumentStore | None = None, settings: str = PRICED) -> Iterator[Day]:
    with ModelServer(Reply(usage=(200, 0, 50))) as model:
        day = Day(model)
        keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        clock: Callable[[], datetime] = lambda: day.now  # noqa: E731 - the day's clock goes on while it is used
        with embedded_site(folder, store, clock, settings, started=False, workflow=day.answer, **keys) as day.site:
            yield day


@pytest.fixture(params=["sqlite", "firestore"])
def day(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Day]:
    store = request.getfixturevalue("emulator_store") if request.param == "firestore" else None
    with a_day(tmp_path, store) as made:
        yield made


STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([10, 300, 900]), st.sampled_from(["", "", "before", "after"])),
    st.tuples(st.sampled_from(["erase", "wait"]), st.just(0), st.just("")),
)


@given(st.lists(STEPS, min_size=3, max_size=20))
@settings(max_examples=20, deadline=None)
def test_no_sequence_of_turns_and_erasures_spends_more_than_the_day(steps: list[tuple[str, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder, a_day(Path(folder)) as day:
        for what, size, erase_at in steps:
            if what == "send":
                day.send(size, erase_at)
            elif what == "erase":
                day.erase()
            else:
                day.now += timedelta(minutes=5)
            assert day.charged <= day.counted() <= BUDGET


def test_users_who_come_back_have_what_is_left_of_the_day_and_the_whole_next_day(day: Day) -> None:
    while day.send(900) == 200:
        day.erase()
        assert day.usage()["cost_micro_usd"] == 0, "nothing but the sum is left"
    assert day.charged > BUDGET / 3
    assert day.send(900) == 429, "what is left does not cover one more"
    day.now += timedelta(days=1)
    assert day.usage()["carried_micro_usd"] == 0
    assert day.send(900) == 200


def test_an_erasure_that_begins_again_counts_nothing_twice(day: Day) -> None:
    assert day.send(900) == 200
    spent = day.charged
    for _ in range(3):
        day.erase()
        assert (day.counted(), day.usage()["carried_micro_usd"]) == (spent, spent)
    assert day.send(900) == 200
    assert day.counted() == day.charged > spent
    day.erase()
    assert day.counted() == day.charged


def test_what_a_running_answer_held_counts_as_spent(day: Day) -> None:
    assert day.send(10, "before") == 404, "its chat is gone"
    assert 0 < day.charged < day.counted() == day.usage()["carried_micro_usd"]


def test_a_request_during_the_erasure_is_not_forgotten_either(day: Day) -> None:
    """The user comes back while the erasure is still removing what they had before."""
    store, spent = day.site.services.store, 0
    assert day.send(900) == 200
    real = store.delete_tree

    def delete_tree(path: str) -> int:
        nonlocal spent
        done = real(path)
        if not spent:
            day.now += timedelta(seconds=1)
            assert day.send(900) == 200
            spent = day.charged
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "delete_tree", lambda _, path: delete_tree(path))
        day.erase()
    assert spent
    assert day.counted() == day.charged == spent
    assert day.usage()["cost_micro_usd"] == 0, "what they did meanwhile is erased as well"


def test_users_at_once_with_erasures_spend_no_more_than_the_day(day: Day) -> None:
    statuses: list[int] = []

    def send(number: int) -> None:
        statuses.append(day.send(300 + number))

    with ThreadPoolExecutor(4) as pool:
        sends = [pool.submit(send, number) for number in range(40)]
        erasures = [pool.submit(day.erase) for _ in range(3)]
        for each in (*sends, *erasures):
            each.result()
    assert set(statuses) <= {200, 404, 409, 429, 503}
    assert day.charged <= day.counted() <= BUDGET


def test_nobody_makes_more_groups_in_a_day_by_erasing_themselves(day: Day) -> None:
    def make() -> int:
        return day.user.post("/v1/groups", {"name": "Cooks", "member_name": "Ada"}).status_code

    assert [make(), make(), make()] == [201, 201, 409]
    day.erase()
    assert make() == 409
    day.now += timedelta(days=1)
    assert make() == 201


def test_the_requests_of_the_minute_count_on(tmp_path: Path) -> None:
    with a_day(tmp_path, settings=PRICED.replace("requests_per_minute = 1000", "requests_per_minute = 3")) as day:
        assert [day.send(10), day.send(10)] == [200, 200]
        day.erase()
        assert [day.send(10), day.send(10)] == [200, 429]
        day.now += timedelta(minutes=1)
        assert day.send(10) == 200


def test_a_guest_takes_what_they_spent_before_an_erasure_along(day: Day) -> None:
    """Into the account that the guest is merged into, as they take along the rest."""
    services = day.site.services
    guest, account = APP.of("visitor"), sign_in(day.site.app, "ada")
    today = services.metering.today()
    services.store.commit([Set(guest.usage(today), {"cost_micro_usd": 30_000}, merge=True)])
    erasure_of(services).run("visitor")
    services.store.commit([Set(guest.usage(today), {"cost_micro_usd": 5_000}, merge=True)])
    token = sign_in(day.site.app, "visitor", guest=True).token
    started = account.post("/v1/me/merge", {"guest_token": token})
    assert started.status_code == 202, started.get_json()
    day.site.runner.run(started.get_json()["id"])
    usage = day.usage()
    assert (usage["carried_micro_usd"], usage["cost_micro_usd"]) == (30_000, 5_000)


def test_what_an_erasure_keeps_names_nobody_and_holds_no_text(day: Day) -> None:
    assert day.send(900) == 200
    day.erase()
    kept = day.site.services.store.get(ADA.erasure())
    assert kept is not None
    assert "ada" not in kept.path.rpartition("/")[2]
    assert set(kept.data) == {"begun_at", "delete_at", "used"}
    assert set(kept.data["used"]) == {
        "day", "micro_usd", "groups_made", "minute", "minute_requests", "minute_uploads"
    }  # fmt: skip
    assert kept.data["delete_at"] - kept.data["begun_at"] == timedelta(days=30)
