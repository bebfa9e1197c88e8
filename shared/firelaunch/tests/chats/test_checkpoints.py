"""Checkpoints of many answers in one commit: none of them can spoil it for the others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firelaunch.chats.checkpoints import Checkpointer, Checkpoints, Stopped
from firelaunch.chats.events import ToolReturned
from firelaunch.chats.transcript import Transcript
from firelaunch.llm.types import Source
from firelaunch.scope import Scope
from firelaunch.store.base import Create, Update
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given
from hypothesis import strategies as st

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ScopedStore]:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    yield ScopedStore(raw, Scope("demo"))
    raw.close()


def running(store: ScopedStore, taker: Checkpointer, name: str) -> tuple[Checkpoints, Transcript]:
    path = store.scope.request(name)
    at = store.commit([Create(path, {"state": "reserved", "expires_at": EXPIRES})])
    said, found = Transcript(), Checkpoints(taker, path, at, EXPIRES)
    found.begin(said)
    return found, said


def test_an_answer_that_no_document_holds_keeps_no_other_from_being_stored_and_can_be_stopped(
    store: ScopedStore,
) -> None:
    taker = Checkpointer(store, every=3600)
    huge, endless = running(store, taker, "huge")
    plain, said = running(store, taker, "plain")
    for number in range(80):
        endless.other(ToolReturned(f"t{number}", "look_up", "\u00e9" * 16_000, None))
    said.text("Hello")
    taker.take()
    record = store.get(plain.record)
    assert record is not None
    assert record.data["partial"]["text"] == "Hello"
    store.commit([Update(huge.record, {"stop": True})])
    taker.take()
    with pytest.raises(Stopped):
        huge.look()


def test_answers_that_are_together_more_than_a_commit_takes_are_stored_in_several(store: ScopedStore) -> None:
    taker = Checkpointer(store, every=3600)
    answers = [running(store, taker, f"r{number}") for number in range(15)]
    for _, said in answers:
        said.text("x" * 900_000)
    taker.take()
    assert all(not one.grown for one, _ in answers)
    # What one commit wrote has one time.
    found = store.get_many([one.record for one, _ in answers])
    assert len({record.update_time for record in found if record is not None}) == 2


@given(st.lists(st.text(max_size=20) | st.builds(ToolReturned, st.text(), st.text(), st.text(), st.none())))
def test_the_size_of_what_was_said_is_never_below_that_of_its_texts(events: list[str | ToolReturned]) -> None:
    said = Transcript()
    for event in [*events, Source("p1", "title")]:
        said.text(event) if isinstance(event, str) else said.other(event)
    partial, _ = said.partial()
    told = [partial["text"], *(other["json"] for other in partial["others"])]
    assert said.size >= sum(len(text.encode("utf-8", "replace")) for text in told)
