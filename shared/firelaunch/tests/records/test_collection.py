"""A declaration that cannot work is refused where it stands, and says what to change."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from firelaunch import Collection, Record
from firelaunch.errors import SettingsError
from firelaunch.records.collection import check_collections, composite_indexes
from firelaunch.scope import Scope
from firelaunch.store.reserved_paths import built, kept_names
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model


class Place(BaseModel):
    city: str


class Row(BaseModel):
    cells: list[str]


class Meal(Record):
    name: str
    kcal: int = 0
    kind: str = "other"
    price: Decimal = Decimal(0)
    place: Place | None = None
    tags: list[str] = Field(default=[])
    rows: list[Row] = Field(default=[])
    eaten_at: datetime | None = None


class Open(Record):
    model_config = ConfigDict(extra="allow")


class NoRecord(BaseModel):
    name: str


@pytest.mark.parametrize("name", sorted(kept_names()))
def test_a_name_that_firelaunch_keeps_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}'"):
        Collection(name, Meal)


def test_every_collection_that_a_scope_can_build_is_kept() -> None:
    for method, path in built():
        for name in path.split("/")[::2]:
            assert name in kept_names(), f"Scope.{method} leads to {path}"
    assert {"chats", "messages", "items", "jobs", "users", "groups", "calls"} <= kept_names()


def test_a_collection_that_scope_is_taught_is_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scope, "boxes", lambda self: f"{self.root}/boxes", raising=False)
    kept_names.cache_clear()
    try:
        with pytest.raises(SettingsError, match="boxes"):
            Collection("boxes", Meal)
    finally:
        monkeypatch.undo()
        kept_names.cache_clear()


@pytest.mark.parametrize("name", ["", "Meals", "1meals", "my-meals", "a/b", "..", "__x__", "m" * 41, "mäh", None, 5])
def test_a_name_that_is_no_plain_word_is_refused(name: Any) -> None:
    with pytest.raises(SettingsError, match="collection"):
        Collection(name, Meal)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"owner": "group"}, "owner"),
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"queries": ["kind"]}, "list of tuples"),
        ({"queries": [("kind", "-calories")]}, "no field 'calories'"),
        ({"queries": [("kind", "place.street")]}, "no field 'place.street'"),
        ({"queries": [("kind", "-kind")]}, "twice"),
        ({"queries": [("kind", "price")]}, "price"),
        ({"queries": [("kind", "tags")]}, "tags"),
        ({"queries": [("kind", "place")]}, "place"),
    ],
)
def test_a_declaration_that_cannot_work_says_why(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=f"'meals'.*{says}"):
        Collection("meals", Meal, **options)


@pytest.mark.parametrize("model", [NoRecord, RootModel[list[str]], dict, Meal(name="x"), Open])
def test_only_closed_records_are_kept(model: Any) -> None:
    with pytest.raises(SettingsError, match="meals"):
        Collection("meals", model)


@pytest.mark.parametrize("name", ["schema_version", "größe"])
def test_a_field_whose_name_is_kept_or_not_plain_is_refused(name: str) -> None:
    model: Any = create_model("Odd", __base__=Record, **{name: (int, 0)})  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match=name):
        Collection("odd", model)


@pytest.mark.parametrize(
    "annotation",
    [
        list[list[int]],
        list[tuple[int, ...]],
        tuple[set[int], ...],
        list[list[int] | None],
        dict[str, list[list[int]]],
        set[frozenset[int]],
    ],
)
def test_a_list_directly_in_a_list_is_refused_at_declaration(annotation: Any) -> None:
    model: Any = create_model("Odd", __base__=Record, grid=(annotation, ...))
    with pytest.raises(SettingsError, match=r"Odd\.grid.*list"):
        Collection("odd", model)


@pytest.mark.parametrize("annotation", [list[dict[str, list[int]]], list[Row], dict[str, list[int]], list[str] | None])
def test_a_list_in_a_map_in_a_list_is_taken(annotation: Any) -> None:
    model: Any = create_model("Fine", __base__=Record, grid=(annotation, ...))
    assert Collection("fine", model).model is model


def test_two_collections_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="'meals'"):
        check_collections([Collection("meals", Meal), Collection("meals", Meal, owner="app")])
    with pytest.raises(SettingsError, match="no Collection"):
        check_collections([Meal])  # type: ignore[list-item]
    check_collections([Collection("meals", Meal), Collection("recipes", Meal)])
    check_collections([])


def test_declared_queries_give_the_indexes_to_deploy() -> None:
    meals = Collection("meals", Meal, queries=[("kind", "-eaten_at"), ("-kcal",), ("kind", "place.city", "-kcal")])
    assert [index.definition() for index in composite_indexes([meals, Collection("other", Meal)])] == [
        {
            "collectionGroup": "meals",
            "queryScope": "COLLECTION",
            "fields": [
                {"fieldPath": "kind", "order": "ASCENDING"},
                {"fieldPath": "eaten_at", "order": "DESCENDING"},
            ],
        },
        {
            "collectionGroup": "meals",
            "queryScope": "COLLECTION",
            "fields": [
                {"fieldPath": "kind", "order": "ASCENDING"},
                {"fieldPath": "place.city", "order": "ASCENDING"},
                {"fieldPath": "kcal", "order": "DESCENDING"},
            ],
        },
    ]
