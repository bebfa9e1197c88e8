"""Collections of a diet coach, and the data of its users on SQLite and on the Firestore emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.metering.retries import Retries
from firelaunch.records.data import Data
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore

APP = Scope("demo")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

MakeData = Callable[..., Data]


@pytest.fixture(params=["sqlite", "firestore"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    if request.param == "firestore":
        yield request.getfixturevalue("emulator_store")
        return
    made = SQLiteStore(tmp_path / "data" / "store.sqlite3")
    yield made
    made.close()


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A clock that goes on a second with each look at it."""
    now = [NOON]

    def tick() -> datetime:
        now[0] += timedelta(seconds=1)
        return now[0]

    return tick


@pytest.fixture
def data(store: DocumentStore, clock: Callable[[], datetime]) -> Data:
    """The app's data, bound to no user."""
    return data_of(store, clock)


@pytest.fixture
def ada(data: Data) -> Data:
    return data.within(APP.of("ada"))


@pytest.fixture
def bob(data: Data) -> Data:
    return data.within(APP.of("bob"))


def data_of(store: DocumentStore, clock: Any, app: Scope = APP) -> Data:
    return Data(ScopedStore(store, app), app, Retries(), clock)
