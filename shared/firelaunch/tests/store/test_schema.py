"""A process that finds the data of a newer firelaunch works on it no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from firelaunch.errors import SettingsError
from firelaunch.scope import Scope
from firelaunch.store.base import Set
from firelaunch.store.schema import SCHEMA, SchemaCheck, check_schema
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore

APP = Scope("demo")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ScopedStore]:
    made = ScopedStore(SQLiteStore(tmp_path / "data" / "store.sqlite3"), APP)
    yield made
    made.close()


def version(store: ScopedStore) -> object:
    found = store.get(APP.schema())
    return None if found is None else found.data["version"]


@pytest.mark.parametrize("before", [None, 0, SCHEMA])
def test_data_of_this_version_or_an_older_one_is_taken_and_marked(store: ScopedStore, before: int | None) -> None:
    if before is not None:
        store.commit([Set(APP.schema(), {"version": before})])
    for _ in range(2):
        check_schema(store)
        assert version(store) == SCHEMA


def test_many_processes_that_begin_at_once_agree(store: ScopedStore) -> None:
    threads = [threading.Thread(target=check_schema, args=(store,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version(store) == SCHEMA


def test_data_of_a_newer_version_is_refused_from_the_check_on_and_is_not_changed(store: ScopedStore) -> None:
    store.commit([Set(APP.schema(), {"version": SCHEMA + 1})])
    check = SchemaCheck(store)
    check.begin()  # the first request does not wait for it
    check.wait()
    for _ in range(2):
        with pytest.raises(SettingsError, match="newer firelaunch"):
            check.begin()
    assert version(store) == SCHEMA + 1


def test_a_database_that_cannot_be_read_is_asked_again_with_the_next_request(tmp_path: Path) -> None:
    raw = SQLiteStore(tmp_path / "store.sqlite3")
    raw.close()
    check = SchemaCheck(ScopedStore(raw, APP))
    for _ in range(2):
        check.begin()
        check.wait()
    again = SQLiteStore(tmp_path / "store.sqlite3")
    check._store = ScopedStore(again, APP)
    check.begin()
    check.wait()
    assert version(ScopedStore(again, APP)) == SCHEMA
    again.close()
