"""An app's queries are read from its source, and those without their index are named with file and line."""

from __future__ import annotations

from pathlib import Path

from firelaunch import Collection, Record
from firelaunch.testing.indexes import missing_indexes

SOURCE = """
from firelaunch import Collection, Record, data

meals = Collection("meals", Meal, queries=[("kind", "-kcal")])
other: Collection = Collection("other", Meal)


def views(run, services, tx, kind, order):
    data(meals).list(where={"kind": kind}, order="-kcal")
    data(meals).list({"kind": kind}, "kcal")  # line 10
    run.data(models.meals).count({"kind": kind, "kcal >=": 3})  # line 11
    services.data.within(scope)(other).list({"kind in": [kind]}, order=("kcal", "-kind"))  # line 12
    data(other).list(order="calories")  # line 13
    data(other).list(where, order="-kcal")
    data(other).list(order=order)
    data(unknown).list({"a": 1}, "b")
    data(other).list(None, None)
    data(other).list()
    [].count("kind")
"""


class Meal(Record):
    kind: str
    kcal: int


def test_each_query_without_its_index_is_named_with_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "meals.py").write_text(SOURCE)
    collections = [Collection("meals", Meal, queries=[("kind", "-kcal")]), Collection("other", Meal)]
    lines = missing_indexes(tmp_path, collections)
    assert [line.partition(": ")[0] for line in lines] == [f"app/meals.py:{number}" for number in (10, 11, 12, 13)]
    assert "('kind', 'kcal')" in lines[0]
    assert "('kind', 'kcal')" in lines[1]
    assert "'other'" in lines[2]
    assert "calories" in lines[3]


def test_an_app_that_declares_what_it_asks_has_none_missing(tmp_path: Path) -> None:
    (tmp_path / "meals.py").write_text(SOURCE.partition("    data(meals).list({")[0])
    assert missing_indexes(tmp_path, [Collection("meals", Meal, queries=[("kind", "-kcal")])]) == []
