"""A collection that an app does not declare is reached from nowhere: an erasure would not know of its records."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.jobs import embedded_site
from firelaunch import (
    Chunk,
    Collection,
    JobRun,
    Record,
    Routes,
    Turn,
    UserId,
    WriteEvent,
    app_services,
    caller_services,
    data,
    job,
    on_write,
)
from firelaunch.errors import SettingsError
from firelaunch.server.declared import Declared
from firelaunch.testing.apps import run_jobs, sign_in


class Note(Record):
    text: str
    by: UserId


walls = Collection("walls", Note, owner="app", on_erase="delete")
notes = Collection("notes", Note, owner="app", on_erase="delete")
twin = Collection("notes", Note, owner="app", on_erase="delete")
NOTE = Note(text="Hello", by=UserId("ada"))

said: list[str] = []


def keep(add: Callable[[], object]) -> None:
    """Run ``add``, and take down how it is refused."""
    with pytest.raises(SettingsError) as refused:
        add()
    said.append(str(refused.value))


def answer(turn: Turn) -> Iterator[Chunk]:
    keep(lambda: turn.data(walls).add(NOTE))
    yield Chunk("Yes.")


@job("note")
def note(run: JobRun) -> None:
    keep(lambda: run.data(walls).add(NOTE))


@on_write("notes/{note}")
def note_written(event: WriteEvent) -> None:
    keep(lambda: event.data(walls).add(NOTE))


routes = Routes("walls")


@routes.post("/walls", status=204)
def add() -> None:
    keep(lambda: data(walls).add(NOTE))
    keep(lambda: caller_services().data(walls).add(NOTE))
    keep(lambda: app_services().data(walls).add(NOTE))
    data(notes).add(NOTE)
    caller_services().enqueue(note)


@routes.post("/twins")
def add_twin() -> None:
    data(twin).add(NOTE)


def test_no_view_turn_job_or_event_reaches_a_collection_that_the_app_does_not_declare(tmp_path: Path) -> None:
    said.clear()
    declared = Declared(routes=(routes,), collections=(notes,), jobs=(note,), events=(note_written,))
    with embedded_site(tmp_path, declared=declared, workflow=answer, started=False) as site:
        ada = sign_in(site.app, "ada")
        assert ada.post("/api/walls", {}).status_code == 204
        assert ada.send(ada.new_chat(), "Hello").status_code == 200
        run_jobs(site.app)
        assert [path for path in site.services.store.tree("apps/demo") if "walls" in path] == []
    refusal = "data('walls'): the app does not declare the collection. Add it: App(collections=[...])."
    assert said == [refusal] * 6


def test_a_collection_of_a_declared_ones_name_is_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with embedded_site(tmp_path, declared=Declared(routes=(routes,), collections=(notes,)), started=False) as site:
        answered = sign_in(site.app, "ada").post("/api/twins", {})
    assert (answered.status_code, answered.get_json()["error"]["code"]) == (500, "internal")
    assert "data('notes'): App(collections=[...]) has another Collection of this name. Use that." in caplog.text
