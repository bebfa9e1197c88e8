"""A model that changed reads old records, and a pass rewrites them while others go on writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch import Collection, Record
from firelaunch.errors import Conflict, Interrupted, RecordUnreadable
from firelaunch.records.data import Data
from firelaunch.records.migration import Migration, Position
from firelaunch.scope import Scope
from firelaunch.settings.app import Settings
from firelaunch.store.base import Delete, DocumentStore, Set, Update
from firelaunch.store.passes import PASS_PAGE, Share
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import write_app
from firelaunch_cli.commands import main
from hypothesis import given
from hypothesis import strategies as st

APP = Scope("demo")


class First(Record):
    calories: int
    name: str = "x"


class Second(Record):
    kcal: int
    name: str = "x"
    note: str = "none yet"


def upgrade(fields: dict[str, Any], version: int) -> dict[str, Any]:
    assert version == 1
    fields["kcal"] = fields.pop("calories")
    return fields


first = Collection("meals", First)
second = Collection("meals", Second, version=2, migrate=upgrade)


def raw(store: DocumentStore, uid: str, record_id: str) -> dict[str, Any]:
    found = store.get(f"apps/demo/users/{uid}/meals/{record_id}")
    assert found is not None
    return dict(found.data)


@pytest.fixture
def scoped(store: DocumentStore) -> ScopedStore:
    return ScopedStore(store, APP)


def test_an_old_record_is_read_as_the_model_is_now_and_stays_as_it_was_until_it_is_written(
    ada: Data, store: DocumentStore
) -> None:
    added = ada(first).add(First(calories=5))
    found = ada(second).get(added.id)
    assert (found.kcal, found.note, found.created_at) == (5, "none yet", added.created_at)
    assert raw(store, "ada", added.id)["calories"] == 5
    found.kcal = 6
    ada(second).update(found)
    stored = raw(store, "ada", added.id)
    assert (stored["kcal"], stored["schema_version"], "calories" in stored) == (6, 2, False)


def test_a_counter_of_an_old_record_goes_on_from_where_it_was(ada: Data) -> None:
    added = ada(first).add(First(calories=5))
    ada(second).increment(added.id, "kcal", 2)
    assert ada(second).get(added.id).kcal == 7


def test_an_older_app_reads_a_newer_record_and_does_not_change_it(ada: Data) -> None:
    third = Collection("meals", Second, version=3, migrate=upgrade)
    added = ada(third).add(Second(kcal=1))
    found = ada(second).get(added.id)
    assert found.kcal == 1
    with pytest.raises(Conflict, match="newer version"):
        ada(second).update(found)


def test_a_record_that_does_not_fit_is_named_with_its_field(ada: Data, store: DocumentStore) -> None:
    store.commit([Set("apps/demo/users/ada/meals/odd", {"kcal": "many", "schema_version": 2})])
    store.commit([Set("apps/demo/users/ada/meals/odder", {})])
    with pytest.raises(RecordUnreadable, match=r"meals/odd .*kcal"):
        ada(second).get("odd")
    with pytest.raises(RecordUnreadable, match=r"meals/odder .*migrate\(\) raised KeyError"):
        ada(second).get("odder")


def test_a_pass_rewrites_the_records_of_all_users_and_keeps_their_times(
    ada: Data, bob: Data, scoped: ScopedStore, store: DocumentStore
) -> None:
    recipes = Collection("recipes", Second, owner="app", version=2, migrate=upgrade)
    old = [ada(first).add(First(calories=n)) for n in range(3)]
    bob(first).add(First(calories=9), id="b")
    ada(Collection("recipes", First, owner="app")).add(First(calories=1), id="r")
    new = ada(second).add(Second(kcal=4))
    work = Migration(scoped, [second, recipes])
    assert work.outdated() == 5
    for _ in work.run():
        pass
    assert (work.rewritten, work.refused, work.outdated()) == (5, [], 0)
    assert [raw(store, "ada", each.id)["kcal"] for each in old] == [0, 1, 2]
    assert raw(store, "bob", "b")["schema_version"] == 2
    found = ada(second).get(old[0].id)
    assert (found.created_at, found.updated_at) == (old[0].created_at, old[0].updated_at)
    assert ada(second).get(new.id) == new
    again = Migration(scoped, [second, recipes])
    assert list(again.run())
    assert again.rewritten == 0


def test_a_pass_that_was_killed_goes_on_from_its_last_page(ada: Data, bob: Data, scoped: ScopedStore) -> None:
    for number in range(PASS_PAGE + 5):
        scoped.commit([Set(f"apps/demo/users/ada/meals/m{number:04}", {"calories": number})])
    bob(first).add(First(calories=1))
    left = [PASS_PAGE + 2]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted

    positions: list[Position] = []
    work = Migration(scoped, [second])
    with pytest.raises(Interrupted):
        positions.extend(work.run(check=check))
    rest = Migration(scoped, [second])
    assert rest.outdated() == 4
    looked_at: list[bool] = []
    list(rest.run(after=positions[-1], check=lambda: looked_at.append(True)))
    assert (rest.rewritten, rest.outdated()) == (4, 0)
    assert len(looked_at) == 5 + 1, "the first page is done, and is not read again"


def test_a_record_that_cannot_be_rewritten_is_named_and_the_others_are_rewritten(
    ada: Data, scoped: ScopedStore
) -> None:
    ada(first).add(First(calories=1), id="good")
    scoped.commit([Set("apps/demo/users/ada/meals/bad", {"name": "no calories"})])
    work = Migration(scoped, [second])
    list(work.run())
    assert work.rewritten == 1
    assert [path for path, _ in work.refused] == ["apps/demo/users/ada/meals/bad"]
    assert "KeyError" in work.refused[0][1]


def test_what_others_write_while_a_record_is_rewritten_is_not_lost(
    ada: Data, scoped: ScopedStore, store: DocumentStore
) -> None:
    """Between the read and the write of the pass, one record is changed, one deleted, one rewritten by its app."""
    for name in ("changed", "deleted", "rewritten"):
        ada(first).add(First(calories=1), id=name)
    done = []

    def meddling(fields: dict[str, Any], version: int) -> dict[str, Any]:
        if not done:
            done.append(True)
            store.commit([Update("apps/demo/users/ada/meals/changed", {"calories": 7})])
            store.commit([Delete("apps/demo/users/ada/meals/deleted")])
            ada(second).update("rewritten", {"kcal": 9})
        return upgrade(fields, version)

    list(Migration(scoped, [Collection("meals", Second, version=2, migrate=meddling)]).run())
    assert {each.id: each.kcal for each in ada(second).list().items} == {"changed": 7, "rewritten": 9}


def test_two_processes_share_the_users_of_a_pass(data: Data, scoped: ScopedStore) -> None:
    for number in range(12):
        data.within(APP.of(f"u{number}"))(first).add(First(calories=number))
    shares = [Migration(scoped, [second]) for _ in range(2)]
    for number, work in enumerate(shares):
        list(work.run(Share(number, 2)))
    assert sum(work.rewritten for work in shares) == 12
    assert all(0 < work.rewritten < 12 for work in shares)
    assert shares[0].outdated() == 0


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()), st.integers(1, 40))
def test_every_name_is_in_one_share(name: str, of: int) -> None:
    assert sum(Share(number, of).holds_name(name) for number in range(of)) == 1


APP_CODE = """
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firelaunch import App, Collection, Record, Settings, build, init_app


class Meal(Record):
    kcal: int


def upgrade(fields: dict[str, Any], version: int) -> dict[str, Any]:
    return {"kcal": fields["calories"]}


meals = Collection("meals", Meal, version=2, migrate=upgrade)


def create_app(environ: Mapping[str, str]) -> App:
    app = App(__name__, collections=[meals])
    init_app(app, build(Settings.load(Path(__file__).parent.parent / "firelaunch.toml", environ)), lambda turn: ())
    return app
"""


def test_the_command_rewrites_an_apps_records_and_says_what_it_could_not(tmp_path: Path) -> None:
    settings = Settings.load(write_app(tmp_path), {})
    (tmp_path / "app" / "__init__.py").write_text(APP_CODE)
    store = SQLiteStore(settings.environment.data / "data.sqlite3")
    store.commit([Set("apps/demo/users/ada/meals/a", {"calories": 5})])

    dry = CliRunner().invoke(main, ["migrate", str(tmp_path), "--dry-run"])
    assert (dry.exit_code, "1 records" in dry.output) == (0, True), dry.output
    assert raw(store, "ada", "a") == {"calories": 5}

    done = CliRunner().invoke(main, ["migrate", str(tmp_path)])
    assert (done.exit_code, "Rewrote 1" in done.output) == (0, True), done.output
    assert raw(store, "ada", "a")["kcal"] == 5

    store.commit([Set("apps/demo/users/ada/meals/bad", {})])
    failed = CliRunner().invoke(main, ["migrate", str(tmp_path)])
    assert failed.exit_code == 1
    assert "meals/bad" in failed.output
    store.close()
