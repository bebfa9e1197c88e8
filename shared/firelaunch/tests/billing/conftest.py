"""A Stripe of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firelaunch.store.base import DocumentStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.stripe import StripeServer
from shop import Shop


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def shop(stripe: StripeServer, tmp_path: Path) -> Iterator[Shop]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    yield Shop(stripe, store)
    store.close()


@pytest.fixture(params=["sqlite", "firestore"])
def either_shop(request: pytest.FixtureRequest, stripe: StripeServer, tmp_path: Path) -> Iterator[Shop]:
    """On either store."""
    if request.param == "sqlite":
        store: DocumentStore = SQLiteStore(tmp_path / "data.sqlite3")
    else:
        emulator: Emulator = request.getfixturevalue("firestore_emulator")
        store = emulator.store(request.getfixturevalue("firestore_project"))
    yield Shop(stripe, store)
    store.close()
