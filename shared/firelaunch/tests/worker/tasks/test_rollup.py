"""What all users used is summed up, and reservations that nobody settled are let go; once, whoever is in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore, Set
from firelaunch.testing.apps import sign_in
from firelaunch.worker.tasks.rollup import EXPIRE, ROLLUP, Expire, Rollup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

APP = Scope("demo")
NOW = datetime(2026, 3, 2, 0, 30, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store: DocumentStore | None = None
    if request.param == "firestore":
        store = request.getfixturevalue("emulator_store")
    with embedded_site(tmp_path, store, lambda: NOW, started=False) as made:
        yield made


def run(site: Site, kind: Any, payload: Any, scope: Scope = APP) -> Any:
    job = site.services.jobs.enqueue(scope, kind, payload)
    site.runner.run(job.id)
    ended = site.services.jobs.find(job.id)
    assert ended is not None
    return json.loads(ended.result) if ended.result else ended.state


def test_a_day_is_the_sum_of_all_its_users_and_a_second_sum_takes_the_place_of_the_first(site: Site) -> None:
    """Also of users who have no document of their own, and more of them than are read at a time."""
    store, used = site.services.store, {"requests": 2, "input_tokens": 10, "output_tokens": 3, "cost_micro_usd": 7}
    writes = [Set(APP.of(f"u{number:03}").usage("2026-03-01"), used) for number in range(230)]
    writes.append(Set(APP.of("other-day").usage("2026-02-27"), used))
    writes.append(Set(APP.of("today").usage("2026-03-02"), {**used, "expired_requests": 1, "expired_micro_usd": 5}))
    store.commit(writes)
    for _ in range(2):
        run(site, ROLLUP, Rollup())
    admin = sign_in(site.app, "root", role="admin")
    today, yesterday, before = admin.get("/v1/ops/usage?days=3").get_json()["items"]
    expected = {**used, "day": "2026-03-01", "users": 230, "cached_input_tokens": 0}
    expected |= {name: used[name] * 230 for name in used} | {"expired_requests": 0, "expired_micro_usd": 0}
    assert {**yesterday, "updated_at": None} == {**expected, "updated_at": None}
    assert yesterday["updated_at"] is not None
    assert (today["users"], today["requests"], today["expired_micro_usd"]) == (1, 2, 5)
    assert (before["users"], before["updated_at"]) == (0, None)
    assert sign_in(site.app, "ada").get("/v1/ops/usage").status_code == 403


def test_reservations_whose_time_is_over_are_let_go_counted_and_told(site: Site) -> None:
    ada, store = APP.of("ada"), site.services.store
    held = {
        "r1": {"micro_usd": 100, "expires_at": NOW - timedelta(seconds=1)},
        "r2": {"micro_usd": 30, "expires_at": NOW},
        "r3": {"micro_usd": 5, "expires_at": NOW + timedelta(seconds=1)},
    }
    day = {"requests": 3, "cost_micro_usd": 9, "expired_requests": 1, "expired_micro_usd": 50, "reservations": held}
    store.commit([Set(ada.usage("2026-03-02"), day), Set(ada.usage("2026-02-01"), day)])
    assert run(site, EXPIRE, Expire()) == {"users": 1, "reservations": 2, "micro_usd": 130}
    found = store.get(ada.usage("2026-03-02"))
    assert found is not None
    kept = {"requests": 3, "cost_micro_usd": 9, "expired_requests": 3, "expired_micro_usd": 180}
    assert dict(found.data) == {**kept, "reservations": {"r3": held["r3"]}}
    assert run(site, EXPIRE, Expire()) == {"users": 0, "reservations": 0, "micro_usd": 0}
    older = store.get(ada.usage("2026-02-01"))
    assert older is not None
    assert dict(older.data) == day


def test_these_are_jobs_of_the_app_and_of_no_user(site: Site) -> None:
    for kind, payload in ((ROLLUP, Rollup()), (EXPIRE, Expire())):
        assert run(site, kind, payload, APP.of("ada")) == "dead"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.dictionaries(
        st.from_regex(r"r[0-9a-f]{4}", fullmatch=True),
        st.tuples(st.integers(0, 10**12), st.integers(-5, 5)),
        max_size=6,
    ),
    cost=st.integers(0, 10**12),
)
@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_no_micro_dollar_is_lost_or_made_by_letting_go(site: Site, held: Any, cost: int) -> None:
    """What was reserved is afterwards reserved still or counted as expired, and what was spent is as it was."""
    ada, store = APP.of("ada"), site.services.store
    entries = {k: {"micro_usd": m, "expires_at": NOW + timedelta(seconds=s)} for k, (m, s) in held.items()}
    store.commit([Set(ada.usage("2026-03-02"), {"cost_micro_usd": cost, "reservations": entries})])
    released = site.services.metering.release_expired(ada, "2026-03-02")
    found = store.get(ada.usage("2026-03-02"))
    assert found is not None
    left = found.data.get("reservations", {})
    assert set(left) | set(released) == set(held)
    assert not set(left) & set(released)
    assert sum(e["micro_usd"] for e in left.values()) + sum(released.values()) == sum(m for m, _ in held.values())
    assert found.data.get("expired_micro_usd", 0) == sum(released.values())
    assert found.data["cost_micro_usd"] == cost
    assert all(seconds <= 0 for name, (_, seconds) in held.items() if name in released)
