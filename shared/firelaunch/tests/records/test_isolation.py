"""No id, value, filter, order or cursor that a client can choose leads to another user, collection or app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from firelaunch import Collection, Record
from firelaunch.errors import FirelaunchError, InvalidCursor
from firelaunch.metering.retries import Retries
from firelaunch.records.data import Data
from firelaunch.records.records import Records
from firelaunch.scope import Scope
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given, settings
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA = Scope("demo", "ada")
OTHERS = (Scope("demo", "bob"), Scope("demo", "ada2"), Scope("demo2", "ada"), Scope("shop", "ada"))


class Note(Record):
    text: str
    number: int = 0


notes = Collection("notes", Note, queries=[("text", "-number")])
other_notes = Collection("notes2", Note)
boards = Collection("boards", Note, owner="app")

TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "../bob/notes/n0",
        "n0/../../bob",
        "..",
        ".",
        "notes/n0",
        "n0",
        "*",
        "%",
        "' OR '1'='1",
        "bob",
        "__name__",
        "/apps/demo2/users/ada/notes/n0",
        "\x00",
    ]
)
FIELDS = st.sampled_from(["text", "number", "id", "path", "collection", "created_at", "__name__", "data"]) | TEXTS
KEYS = st.builds(
    lambda field, op: f"{field} {op}".strip(), FIELDS, st.sampled_from(["", "==", "!=", "<", ">", ">=", "in", "~"])
)
VALUES = TEXTS | st.integers(-5, 5) | st.none() | st.lists(TEXTS, max_size=3)
WHERE = st.dictionaries(KEYS, VALUES, max_size=2)
ORDER = st.none() | st.builds(lambda down, field: down + field, st.sampled_from(["", "-"]), FIELDS)


@contextmanager
def world() -> Iterator[tuple[Data, SQLiteStore, Callable[[], dict[str, Any]]]]:
    """Ada's data among that of others, the store, and all documents that are not in Ada's collection of notes."""
    with TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "s.sqlite3")
        for scope in (ADA, *OTHERS):
            data = data_of(store, scope)
            for number in range(3):
                data(notes).add(Note(text=f"secret of {scope.root}", number=number), id=f"n{number}")
                data(other_notes).add(Note(text=f"other of {scope.root}", number=number), id=f"n{number}")
            with suppress(FirelaunchError):
                data(boards).add(Note(text=f"board of {scope.app_id}"), id="b0")

        def elsewhere() -> dict[str, Any]:
            documents = [each for app in ("demo", "demo2", "shop") for each in store.walk(f"apps/{app}")]
            return {each.path: each for each in documents if not each.path.startswith(f"{ADA.root}/notes/")}

        yield data_of(store, ADA), store, elsewhere
        store.close()


def data_of(store: SQLiteStore, scope: Scope) -> Data:
    app = Scope(scope.app_id)
    return Data(ScopedStore(store, app), app, Retries(), lambda: NOON).within(scope)


@settings(max_examples=60)
@given(where=WHERE, order=ORDER, cursor=st.none() | TEXTS, limit=st.integers(1, 5))
def test_a_list_shows_nothing_of_others(where: Any, order: Any, cursor: Any, limit: int) -> None:
    with world() as (ada, _, _), suppress(FirelaunchError):
        page = ada(notes).list(where, order, limit, cursor)
        assert all(note.text == f"secret of {ADA.root}" for note in page.items)
        assert ada(notes).count(where) <= 3


@settings(max_examples=40)
@given(record_id=TEXTS, text=TEXTS, number=st.integers(-(2**70), 2**70), fields=st.dictionaries(FIELDS, VALUES))
def test_no_write_changes_anything_of_others(record_id: str, text: str, number: int, fields: Any) -> None:
    def transaction(tx: Any) -> None:
        tx.find(record_id)
        tx.add(Note(text=text), id=record_id)
        tx.delete(record_id)

    with world() as (ada, _, elsewhere):
        before = elsewhere()
        records: Records[Note] = ada(notes)
        for attempt in (
            lambda: records.add(Note(text=text, number=number), id=record_id),
            lambda: records.update(record_id, fields),
            lambda: records.update(record_id, {"text": text}, revision=text),
            lambda: records.increment(record_id, "number", number),
            lambda: records.transaction(transaction),
            lambda: records.delete(record_id),
        ):
            with suppress(FirelaunchError):
                attempt()
        assert elsewhere() == before


@settings(max_examples=40)
@given(record_id=TEXTS)
def test_no_id_reads_a_record_of_others(record_id: str) -> None:
    with world() as (ada, _, _), suppress(FirelaunchError):
        found = ada(notes).find(record_id)
        assert found is None or found.text == f"secret of {ADA.root}"


@settings(max_examples=15)
@given(whose=st.sampled_from(OTHERS), limit=st.integers(1, 2))
def test_a_cursor_of_others_is_refused(whose: Scope, limit: int) -> None:
    with world() as (ada, store, _):
        cursor = data_of(store, whose)(notes).list(limit=limit).next_cursor
        assert cursor is not None
        with pytest.raises(InvalidCursor):
            ada(notes).list(limit=limit, cursor=cursor)
