"""What a collection keeps comes back as it was, to its owner alone, and no writer's work is lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from firelaunch import Collection, Record
from firelaunch.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Fenced,
    FirelaunchError,
    InvalidCursor,
    InvalidId,
    NotFound,
    OutsideTransaction,
    PreconditionFailed,
    ScopeViolation,
    SettingsError,
    TooLarge,
)
from firelaunch.records.data import Data
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore, Set, Update
from firelaunch.store.fence import begun_at
from pydantic import BaseModel, Field, field_validator

APP = Scope("demo")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Kind(Enum):
    lunch = "lunch"
    dinner = "dinner"


class Place(BaseModel):
    city: str
    rooms: list[str] = Field(default=[])


@dataclass
class Size:
    width: int


class Meal(Record):
    name: str = Field(max_length=200)
    kcal: int = Field(default=0, ge=0)
    kind: str = "other"
    likes: int = 0
    eaten_at: datetime | None = None


class Everything(Record):
    text: str = "Grüße \U0001f525"
    secret: str = Field(default="hidden", exclude=True)
    other_name: str = Field(default="x", alias="otherName")
    number: int = 2**63 - 1
    half: float = 0.5
    yes: bool = True
    raw: bytes = b"\x00\xff"
    nothing: str | None = None
    at: datetime = NOON
    day: date = date(2026, 3, 1)
    hour: time = time(12, 30)
    took: timedelta = timedelta(seconds=90, microseconds=1)
    price: Decimal = Decimal("12.340")
    key: UUID = UUID("12345678-1234-5678-1234-567812345678")
    kind: Kind = Kind.lunch
    place: Place = Place(city="Rom", rooms=["a"])
    places: list[Place] = Field(default=[Place(city="Bonn")])
    tags: set[str] = Field(default={"b", "a"})
    numbers: frozenset[int] = frozenset({10, 9})
    pair: tuple[int, str] = (1, "x")
    by_day: dict[date, int] = Field(default={date(2026, 3, 1): 5})
    size: Size = Size(3)


meals = Collection("meals", Meal, queries=[("kind", "-eaten_at"), ("kind", "name")])
recipes = Collection("recipes", Meal, owner="app")
things = Collection("things", Everything)


def meal(**fields: Any) -> Meal:
    return Meal(**{"name": "Soup", **fields})


def test_a_record_comes_back_as_it_was_added_with_its_id_times_and_revision(ada: Data) -> None:
    added = ada(meals).add(meal(kcal=300))
    assert (added.kcal, len(added.id), added.revision != "") == (300, 20, True)
    assert added.created_at == added.updated_at == NOON + timedelta(seconds=1)
    assert ada(meals).get(added.id) == added
    assert ada(meals).find(added.id) == added
    assert ada(meals).find("none") is None
    with pytest.raises(NotFound):
        ada(meals).get("none")


def test_values_of_every_type_come_back_equal(ada: Data, store: DocumentStore) -> None:
    added = ada(things).add(Everything(), id="one")
    found = ada(things).get("one")
    assert found == added
    assert found.secret == "hidden"
    stored = store.get("apps/demo/users/ada/things/one")
    assert stored is not None
    assert stored.data["tags"] == ["a", "b"]
    assert stored.data["numbers"] == [9, 10]
    assert (stored.data["price"], stored.data["day"], stored.data["kind"]) == ("12.340", "2026-03-01", "lunch")
    assert stored.data["at"] == NOON


def test_a_response_has_what_is_kept_and_a_request_cannot_set_it(ada: Data) -> None:
    added = ada(meals).add(meal())
    assert {"id", "created_at", "updated_at", "revision", "name"} <= set(added.model_dump(mode="json"))
    assert "id" not in Meal.model_json_schema()["properties"]
    assert "id" in Meal.model_json_schema(mode="serialization")["properties"]
    with pytest.raises(ValueError, match="id"):
        Meal(name="x", id="mine")  # type: ignore[call-arg]
    assert (meal().id, meal().revision) == ("", "")


def test_an_id_of_ones_own_is_taken_once(ada: Data) -> None:
    assert ada(meals).add(meal(), id="2026-03-01").id == "2026-03-01"
    with pytest.raises(AlreadyExists):
        ada(meals).add(meal(name="Other"), id="2026-03-01")
    assert ada(meals).get("2026-03-01").name == "Soup"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "../bob/meals/x", "__x__", "é" * 751, "a\x00", "\ud800", None])
def test_an_id_that_firestore_does_not_take_is_refused(ada: Data, bad: Any) -> None:
    records = ada(meals)
    calls: list[Callable[[], Any]] = [
        lambda: records.get(bad),
        lambda: records.delete(bad),
        lambda: records.increment(bad, "likes"),
    ]
    if bad is not None:
        calls += [lambda: records.add(meal(), id=bad), lambda: records.update(bad, {"kcal": 1})]
    for call in calls:
        with pytest.raises((InvalidId, BadRequest)):
            call()


def test_an_update_stores_what_was_read_and_changed_unless_somebody_came_first(ada: Data) -> None:
    mine = ada(meals).add(meal())
    theirs = ada(meals).get(mine.id)
    mine.kcal = 100
    first = mine.revision
    assert ada(meals).update(mine).revision != first
    mine.kcal = 110
    ada(meals).update(mine)  # it has its new revision, so it can be changed again
    theirs.name = "Stew"
    with pytest.raises(PreconditionFailed):
        ada(meals).update(theirs)
    found = ada(meals).get(mine.id)
    assert (found.name, found.kcal, found.created_at) == ("Soup", 110, mine.created_at)
    assert found.updated_at > found.created_at


def test_an_update_by_id_changes_the_named_fields_alone(ada: Data) -> None:
    added = ada(meals).add(meal(kcal=5))
    changed = ada(meals).update(added.id, {"name": "Stew"})
    assert (changed.name, changed.kcal) == ("Stew", 5)
    assert ada(meals).get(added.id) == changed
    with pytest.raises(PreconditionFailed):
        ada(meals).update(added.id, {"name": "Late"}, revision=added.revision)
    assert ada(meals).update(added.id, {"kcal": 6}, revision=changed.revision).kcal == 6
    with pytest.raises(NotFound):
        ada(meals).update("none", {"kcal": 6})
    for fields, says in (({"calories": 1}, "calories"), ({"kcal": -1}, "kcal"), ({"id": "x"}, "id")):
        with pytest.raises(BadRequest, match=says):
            ada(meals).update(added.id, fields)
    with pytest.raises(BadRequest, match="revision"):
        ada(meals).update(added.id, {"kcal": 1}, revision="yesterday")


def test_a_record_that_was_never_stored_or_was_deleted_is_not_updated(ada: Data) -> None:
    with pytest.raises(BadRequest, match="add it first"):
        ada(meals).update(meal())
    added = ada(meals).add(meal())
    ada(meals).delete(added.id)
    with pytest.raises((NotFound, PreconditionFailed)):
        ada(meals).update(added)
    assert ada(meals).find(added.id) is None


def test_a_record_that_was_changed_is_not_deleted_by_who_read_it_before(ada: Data) -> None:
    mine = ada(meals).add(meal())
    ada(meals).update(mine.id, {"kcal": 1})
    with pytest.raises(PreconditionFailed):
        ada(meals).delete(mine)
    ada(meals).delete(ada(meals).get(mine.id))
    assert ada(meals).find(mine.id) is None
    ada(meals).delete("none")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"eaten_at": datetime(2026, 3, 1)}, "eaten_at.*zone"),  # noqa: DTZ001 - that is the point
        ({"eaten_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "eaten_at.*9999"),
        ({"eaten_at": datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=1)))}, "eaten_at.*9999"),
        ({"kcal": 2**63}, "kcal.*64"),
        ({"name": "\ud800"}, "name"),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_by_its_name(ada: Data, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        ada(meals).add(Meal.model_construct(**{**meal().__dict__, **fields}))


class Loose(Record):
    anything: Any = None


@pytest.mark.parametrize(
    "value",
    [
        [[1]],
        {"a": [(1,)]},
        {"": 1},
        {"__x__": 1},
        {"é" * 800: 1},
        float("nan"),
        float("inf"),
        object(),
        {1: {"": 1}},
        timedelta.max,
        timedelta.min,
    ],
)
def test_a_value_that_firestore_does_not_keep_is_a_bad_request_and_not_a_failure(ada: Data, value: Any) -> None:
    with pytest.raises(BadRequest, match="anything"):
        ada(Collection("loose", Loose)).add(Loose(anything=value))


def test_what_is_nested_too_deep_or_too_large_is_refused(ada: Data) -> None:
    loose = ada(Collection("loose", Loose))
    deep: Any = 1
    for _ in range(20):
        deep = {"a": deep}
    loose.add(Loose(anything=deep))
    with pytest.raises(BadRequest, match="20 deep"):
        loose.add(Loose(anything={"a": deep}))
    with pytest.raises(TooLarge):
        loose.add(Loose(anything="x" * 1_048_576))


def test_a_record_that_was_made_invalid_is_checked_once_more(ada: Data) -> None:
    added = ada(meals).add(meal())
    added.kcal = -5
    with pytest.raises(BadRequest, match="kcal"):
        ada(meals).update(added)
    with pytest.raises(BadRequest):
        ada(meals).add(Loose())  # type: ignore[arg-type]


def seed(ada: Data) -> None:
    for number in range(7):
        kind = "lunch" if number % 2 else "dinner"
        at = None if number == 6 else NOON + timedelta(hours=number // 2)
        ada(meals).add(meal(name=f"m{number}", kcal=number * 100, kind=kind, eaten_at=at), id=f"id{number}")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, "0123456"),
        ({"kind": "lunch"}, "135"),
        ({"kcal >": 400}, "56"),
        ({"kcal >=": 100, "kcal <": 300}, "12"),
        ({"kcal in": [100, 600, 7]}, "16"),
        ({"kind !=": "lunch"}, "0246"),
        ({"eaten_at": None}, "6"),
        ({"eaten_at !=": None}, "012345"),
        ({"eaten_at ==": NOON.astimezone(timezone(timedelta(hours=9)))}, "01"),
        ({"kind": "lunch", "name": "m3"}, "3"),
        ({"kcal": "300"}, "3"),
        ({"created_at <=": NOON + timedelta(seconds=2)}, "01"),
    ],
)
def test_a_list_has_the_records_that_match(ada: Data, where: Any, expected: str) -> None:
    seed(ada)
    page = ada(meals).list(where)
    assert sorted(each.id for each in page.items) == [f"id{number}" for number in expected]
    assert ada(meals).count(where) == len(expected)
    assert page.next_cursor is None


@pytest.mark.parametrize(
    ("where", "order", "expected"),
    [
        (None, "-kcal", "6543210"),
        ({"kind": "lunch"}, "-eaten_at", "531"),
        ({"kind": "dinner"}, "-eaten_at", "4206"),
        (None, "eaten_at", "6012345"),
        (None, "-eaten_at", "5432106"),
        ({"kind in": ["lunch", "dinner"]}, "name", "0123456"),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_show_each_record_once_and_in_order(ada: Data, where: Any, order: Any, expected: str, limit: int) -> None:
    seed(ada)
    seen, cursor = "", None
    while True:
        page = ada(meals).list(where, order, limit, cursor)
        assert len(page.items) <= limit
        seen += "".join(each.id[2:] for each in page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == expected


def test_a_cursor_of_another_query_collection_or_user_is_refused(ada: Data, bob: Data) -> None:
    seed(ada)
    seed(bob)
    cursor = ada(meals).list({"kind": "lunch"}, "-eaten_at", 1).next_cursor
    assert cursor is not None
    assert ada(meals).list({"kind": "lunch"}, "-eaten_at", 5, cursor).items
    others: list[Callable[[], Any]] = [
        lambda: bob(meals).list({"kind": "lunch"}, "-eaten_at", 1, cursor),
        lambda: ada(meals).list({"kind": "dinner"}, "-eaten_at", 1, cursor),
        lambda: ada(meals).list({"kind ==": "lunch"}, "name", 1, cursor),
        lambda: ada(meals).list(None, "-eaten_at", 1, cursor),
        lambda: ada(recipes).list(None, None, 1, cursor),
    ]
    others += [lambda bad=bad: ada(meals).list({"kind": "lunch"}, "-eaten_at", 1, bad) for bad in broken(cursor)]
    for other in others:
        with pytest.raises(InvalidCursor):
            other()


class Kept(Record):
    tags: set[str] = Field(default_factory=set)
    days: list[date] | None = None
    places: list[Place] = Field(default_factory=list)
    owner: str = "a"


kept = Collection("kept", Kept)


def test_a_list_has_the_records_whose_lists_contain_a_value(ada: Data) -> None:
    first = date(2026, 3, 1)
    for number, tags in enumerate([{"hot", "vegan"}, {"hot"}, set(), {"vegan"}, {"hotter"}]):
        ada(kept).add(Kept(tags=tags, days=[first] if number < 2 else None, owner="ab"[number % 2]), id=f"id{number}")

    def ids(where: Any) -> str:
        found = ada(kept).list(where, limit=1)
        ids = [each.id for each in found.items]
        while found.next_cursor:
            found = ada(kept).list(where, limit=1, cursor=found.next_cursor)
            ids += [each.id for each in found.items]
        assert ada(kept).count(where) == len(ids)
        return "".join(ids).replace("id", "")

    assert ids({"tags contains": "hot"}) == "01"
    assert ids({"tags contains": "vegan", "owner": "b"}) == "3"
    assert ids({"days contains": first}) == "01"
    assert ids({"tags contains": "none"}) == ""
    for where, order, says in (
        ({"tags contains": 5}, None, "tags"),
        ({"days contains": "soon"}, None, "days"),
        ({"owner contains": "a"}, None, "only lists and sets"),
        ({"places contains": {"city": "Rom"}}, None, "only lists and sets"),
        ({"tags contains": "hot", "days contains": first}, None, "one filter"),
        ({"tags contains": "hot"}, "owner", "by id alone"),
        ({"tags contains": "hot", "owner >": "a"}, None, "by id alone"),
    ):
        with pytest.raises(BadRequest, match=says):
            ada(kept).list(where, order)


def broken(cursor: str) -> list[str]:
    return ["", "x", "é", cursor[:-2], cursor + "A", cursor.swapcase(), "W10", "bnVsbA", "W1tdXQ"]


@pytest.mark.parametrize(
    ("where", "order", "says"),
    [
        ({"calories": 1}, None, "calories"),
        ({"kcal >": "many"}, None, "kcal"),
        ({"kcal ~": 1}, None, "kcal ~"),
        ({"kcal in": 5}, None, "list of values"),
        ({"kcal in": []}, None, "1 to 30"),
        ({"kcal in": list(range(31))}, None, "1 to 30"),
        ({"kcal >": None}, None, "kcal"),
        ({"eaten_at in": [None]}, None, "null"),
        ({"eaten_at <": None}, None, "eaten_at"),
        ({"eaten_at": datetime(2026, 3, 1)}, None, "zone"),  # noqa: DTZ001 - that is the point
        (None, "calories", "calories"),
        (None, "id", "id"),
        ({"name' OR 1=1 --": "x"}, None, "field's name"),
    ],
)
def test_a_query_that_cannot_be_run_says_why(ada: Data, where: Any, order: Any, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        ada(meals).list(where, order)


def test_a_query_without_its_index_names_the_declaration_to_add(ada: Data) -> None:
    with pytest.raises(SettingsError, match=r"'meals'.*\('kind', '-kcal'\)"):
        ada(meals).list({"kind": "lunch"}, "-kcal")
    with pytest.raises(SettingsError, match=r"\('kind', 'kcal'\)"):
        ada(meals).count({"kind": "lunch", "kcal >": 3})


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_limit(ada: Data, limit: int) -> None:
    with pytest.raises(BadRequest, match="limit"):
        ada(meals).list(limit=limit)


def in_threads(count: int, work: Callable[[int], Any]) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_increments_of_many_at_once_lose_nothing(ada: Data) -> None:
    added = ada(meals).add(meal())
    in_threads(6, lambda _: [ada(meals).increment(added.id, "likes") for _ in range(10)])
    in_threads(4, lambda _: [ada(meals).increment(added.id, "kcal", 2) for _ in range(5)])
    found = ada(meals).get(added.id)
    assert (found.likes, found.kcal) == (60, 40)
    assert found.updated_at > added.updated_at


def test_a_record_is_put_whether_one_is_there_or_not(ada: Data, bob: Data) -> None:
    first = ada(meals).put(meal(kcal=1, kind="lunch"), "today")
    second = ada(meals).put(meal(kcal=2), "today")
    assert (second.id, second.kcal, second.kind) == ("today", 2, "other"), "it is replaced as a whole"
    assert first.created_at == second.created_at < second.updated_at
    assert ada(meals).get("today") == second
    assert bob(meals).find("today") is None
    bob(meals).put(second, "theirs")  # a record of another one's is a record like any other
    assert ada(meals).find("theirs") is None
    stale = ada(meals).get("today")
    ada(meals).update("today", {"kcal": 3})
    assert ada(meals).put(stale, "today").kcal == 2, "the last writer's stands"
    with pytest.raises(BadRequest, match="kcal"):
        ada(meals).put(meal().model_copy(update={"kcal": "much"}), "today")
    with pytest.raises(InvalidId):
        ada(meals).put(meal(), "a/b")


def test_of_many_that_put_and_delete_at_once_nobody_fails_and_one_record_stands_whole(ada: Data) -> None:
    def work(number: int) -> None:
        for _ in range(6):
            ada(meals).put(meal(kcal=number, likes=number), "today")
            if number == 0:
                ada(meals).delete("today")

    in_threads(4, work)
    found = ada(meals).put(meal(kcal=9, likes=9), "today")
    assert (found.kcal, found.likes) == (9, 9)


def test_an_increment_stays_within_its_fields_limits(ada: Data) -> None:
    added = ada(meals).add(meal(kcal=1))
    with pytest.raises(BadRequest, match="kcal"):
        ada(meals).increment(added.id, "kcal", -2)
    for field, by in (("name", 1), ("eaten_at", 1), ("calories", 1), ("likes", 0.5), ("likes", 2**63), ("id", 1)):
        with pytest.raises(BadRequest, match=field):
            ada(meals).increment(added.id, field, by)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        ada(meals).increment("none", "likes")
    assert ada(meals).get(added.id).kcal == 1


def test_writers_of_different_fields_lose_nothing(ada: Data) -> None:
    added = ada(meals).add(meal())
    changes = [{"name": "Stew"}, {"kcal": 7}, {"kind": "lunch"}, {"likes": 3}]
    in_threads(4, lambda number: ada(meals).update(added.id, changes[number]))
    found = ada(meals).get(added.id)
    assert (found.name, found.kcal, found.kind, found.likes) == ("Stew", 7, "lunch", 3)


def test_of_many_that_update_what_they_read_one_wins(ada: Data) -> None:
    added = ada(meals).add(meal())
    copies = [ada(meals).get(added.id) for _ in range(5)]
    won: list[int] = []

    def work(number: int) -> None:
        copies[number].kcal = number + 1
        try:
            ada(meals).update(copies[number])
            won.append(number + 1)
        except FirelaunchError:
            pass

    in_threads(5, work)
    assert won == [ada(meals).get(added.id).kcal]


def test_a_transaction_moves_between_records_and_collections_and_loses_nothing(ada: Data, data: Data) -> None:
    ada(meals).add(meal(kcal=100), id="a")
    ada(meals).add(meal(kcal=0), id="b")
    data(recipes).add(meal(likes=0), id="soup")

    def move(number: int) -> None:
        def work(tx: Any) -> None:
            a, b, soup = tx.get("a"), tx.get("b"), tx.of(recipes).get("soup")
            a.kcal, b.kcal, soup.likes = a.kcal - 1, b.kcal + 1, soup.likes + 1
            tx.update(a)
            tx.update(b)
            tx.of(recipes).update(soup)
            tx.add(meal(), id=f"moved{number}")

        ada(meals).transaction(work)

    in_threads(5, move)
    assert (ada(meals).get("a").kcal, ada(meals).get("b").kcal, data(recipes).get("soup").likes) == (95, 5, 5)
    assert ada(meals).count() == 7


def test_a_transaction_that_fails_leaves_nothing(ada: Data) -> None:
    kept = ada(meals).add(meal(), id="a")

    def work(tx: Any) -> None:
        assert tx.find("none") is None
        assert [each.id for each in tx.list({"kind": "other"})] == ["a"]
        tx.delete("a")
        tx.add(meal(), id="b")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ada(meals).transaction(work)
    assert ada(meals).list().items == [kept]

    with pytest.raises(NotFound):
        ada(meals).transaction(lambda tx: tx.get("none"))
    ada(meals).transaction(lambda tx: tx.delete(tx.get("a")))
    assert ada(meals).count() == 0


def test_a_transaction_stores_no_record_that_was_read_before_another_changed_it(ada: Data) -> None:
    old = ada(meals).add(meal(), id="a")
    ada(meals).update("a", {"kcal": 5})
    for _ in range(2):  # a second try has the same revision as the first
        with pytest.raises(PreconditionFailed):
            ada(meals).transaction(lambda tx: tx.update(old))
    assert ada(meals).get("a").kcal == 5


def test_what_a_transaction_returned_or_changed_has_its_true_revision_once_it_is_committed(ada: Data) -> None:
    ada(meals).add(meal(), id="a")
    fresh, tries = meal(name="New"), []

    def work(tx: Any) -> tuple[Meal, ...]:
        found = tx.get("a")
        found.kcal += 5
        written = (found, tx.update(found), tx.add(fresh, id="b"))
        tries.append(1)
        if len(tries) == 1:
            raise KeyError
        return written

    with pytest.raises(KeyError):
        ada(meals).transaction(work)
    assert (fresh.id, fresh.revision) == ("", ""), "it was not stored"
    found, updated, added = ada(meals).transaction(work)
    assert found == updated == ada(meals).get("a")
    assert fresh == added == ada(meals).get("b")
    assert found.updated_at > found.created_at
    for record in (found, added):  # each is as good for the next change as one that was just read
        record.kcal = 7
        assert ada(meals).update(record).revision
        ada(meals).update(record.id, {"kcal": 8}, revision=record.revision)


@pytest.mark.parametrize(
    "write",
    [
        lambda outer: outer.add(meal()),
        lambda outer: outer.put(meal(), "a"),
        lambda outer: outer.update("a", {"kcal": 1}),
        lambda outer: outer.update(outer.get("a")),
        lambda outer: outer.increment("a", "likes"),
        lambda outer: outer.increment("a", "kcal"),
        lambda outer: outer.delete("a"),
        lambda outer: outer.transaction(lambda tx: tx.delete("a")),
    ],
)
def test_a_write_inside_a_transaction_that_goes_past_it_is_refused_and_nothing_is_written(
    ada: Data, write: Callable[[Any], Any]
) -> None:
    kept = ada(meals).add(meal(), id="a")

    def work(tx: Any) -> None:
        tx.add(meal(), id="b")
        write(ada(meals))

    with pytest.raises(OutsideTransaction, match="use tx"):
        ada(meals).transaction(work)
    assert ada(meals).list().items == [kept]
    ada(meals).add(meal(), id="c")  # afterwards, all is as before


def test_a_read_inside_a_transaction_that_goes_past_it_is_answered(ada: Data) -> None:
    ada(meals).add(meal(kind="lunch"), id="a")

    def work(tx: Any) -> int:
        tx.get("a")
        return len(ada(meals).list({"kind": "lunch"}, "-eaten_at").items) + ada(meals).count()

    assert ada(meals).transaction(work) == 2


def test_a_list_inside_a_transaction_holds_against_what_another_adds_meanwhile(ada: Data) -> None:
    """Two look for a free day and add a record with a random id: one of them sees the other's."""
    first_looks = threading.Barrier(2, timeout=0.5)

    def book(_: int) -> None:
        def work(tx: Any) -> None:
            taken = tx.list({"kind": "monday"})
            with contextlib.suppress(threading.BrokenBarrierError):
                first_looks.wait()  # on SQLite, the second cannot look before the first is done
            if not taken:
                tx.add(meal(kind="monday"))

        ada(meals).transaction(work)

    in_threads(2, book)
    assert ada(meals).count({"kind": "monday"}) == 1


def test_of_two_who_book_days_that_overlap_one_books_all_of_its_days_and_the_other_none(ada: Data, bob: Data) -> None:
    booked: list[range] = []

    def book(number: int) -> None:
        days = (range(1, 4), range(3, 6))[number]

        def work(tx: Any) -> None:
            if any(tx.find(f"drill_{day}") for day in days):
                raise Conflict
            for day in days:
                tx.add(meal(), id=f"drill_{day}")

        with contextlib.suppress(Conflict, AlreadyExists):
            (ada, bob)[number](recipes).transaction(work)
            booked.append(days)

    in_threads(2, book)
    (days,) = booked
    assert [each.id for each in ada(recipes).list().items] == [f"drill_{day}" for day in days]


def test_a_users_collection_is_reached_by_that_user_alone_and_the_apps_by_all(data: Data, ada: Data, bob: Data) -> None:
    with pytest.raises(ScopeViolation, match="meals"):
        data(meals)
    with pytest.raises(ScopeViolation):
        ada.within(APP.of("bob"))
    with pytest.raises(ScopeViolation):
        ada.within(APP)
    mine = ada(meals).add(meal())
    assert bob(meals).find(mine.id) is None
    for attempt in (lambda: bob(meals).update(mine), lambda: bob(meals).delete(mine)):
        with pytest.raises(ScopeViolation):
            attempt()
    shared = ada(recipes).add(meal())
    assert bob(recipes).get(shared.id) == data(recipes).get(shared.id) == shared
    with pytest.raises(ScopeViolation):
        ada(meals).update(shared)


def test_work_that_began_before_an_erasure_adds_nothing_after_it(ada: Data, store: DocumentStore) -> None:
    with begun_at(datetime.now(UTC) - timedelta(minutes=1)):
        before = ada(meals).add(meal(), id="before")
        store.commit([Set(APP.of("ada").erasure(), {"at": NOON})])
        store.delete_tree(APP.of("ada").root)
        for attempt in (
            lambda: ada(meals).add(meal(), id="after"),
            lambda: ada(meals).transaction(lambda tx: tx.add(meal(), id="after")),
        ):
            with pytest.raises(Fenced):
                attempt()
        for change in (
            lambda: ada(meals).update(before),
            lambda: ada(meals).update("before", {"kcal": 1}),
            lambda: ada(meals).increment("before", "likes"),
        ):
            with pytest.raises((NotFound, PreconditionFailed)):
                change()
    assert list(store.tree(APP.of("ada").root)) == []
    with begun_at(datetime.now(UTC) + timedelta(minutes=1)):
        assert ada(meals).add(meal(), id="again").id == "again"  # the user has come back


def test_what_a_client_wrote_by_the_rules_is_read_as_well(ada: Data, store: DocumentStore) -> None:
    at = store.commit([Set("apps/demo/users/ada/meals/mine", {"name": "Mine", "more": 1})])
    found = ada(meals).get("mine")
    assert (found.name, found.created_at, found.updated_at) == ("Mine", at, at)
    found.kcal = 5
    ada(meals).update(found)
    assert ada(meals).get("mine").kcal == 5


def test_another_instances_newer_field_survives_an_update_by_an_older_one(ada: Data, store: DocumentStore) -> None:
    added = ada(meals).add(meal())
    path = f"apps/demo/users/ada/meals/{added.id}"
    store.commit([Update(path, {"new_field": 1})])
    ada(meals).update(added.id, {"kcal": 1})
    found = store.get(path)
    assert found is not None
    assert found.data["new_field"] == 1


class Checked(Record):
    count: int = 0

    @field_validator("count")
    @classmethod
    def small(cls, value: int) -> int:
        if value > 3:
            raise ValueError("too many")
        return value


def test_an_increment_minds_a_models_own_checks(ada: Data) -> None:
    counters = ada(Collection("counters", Checked))
    counters.add(Checked(count=3), id=str(uuid4()).replace("-", "a"))
    (one,) = counters.list().items
    with pytest.raises(BadRequest, match="too many"):
        counters.increment(one.id, "count")
