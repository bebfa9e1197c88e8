"""Records of groups: members share them by role, and nobody else reaches them, by whatever path, cursor or token."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path as File
from typing import Any

import pytest
from firelaunch.api.base import Body, GroupPath, data
from firelaunch.api.crud import crud
from firelaunch.api.routes import Routes
from firelaunch.errors import Fenced, Forbidden, NotFound, ScopeViolation, SettingsError
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.records.user_ids import UserId
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.services.groups import guard_of
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Delete, Query, Set, TreeStore, Update
from firelaunch.store.guard import Guard
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in, write_app
from firelaunch.testing.documented import watch
from firelaunch.worker.tasks.erase import ERASE, Erase
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

WITH_GROUPS = SETTINGS + "groups = 5\n"


class Meal(Record):
    """A meal of a family."""

    name: str
    kind: str = "lunch"
    added_by: UserId | None = None


class Note(Record):
    text: str
    by: UserId | None = None


class Plan(Record):
    week: int
    cook: UserId | None = None


class Own(Record):
    text: str


meals = Collection(
    "meals", Meal, owner="group", written_by="added_by", on_erase="anonymize", queries=[("kind", "-created_at")]
)
notes = Collection("notes", Note, owner="group", written_by="by", on_erase="delete")
plans = Collection("plans", Plan, owner="group", written_by="cook", on_erase="hand_over")
diary = Collection("diary", Own)
COLLECTIONS = (meals, notes, plans, diary)

extra = Routes("extra")


class Pair(Body):
    first: str
    second: str


@extra.post("/groups/<group>/pairs")
def add_pair(path: GroupPath, body: Pair) -> list[Meal]:
    """Add two meals at once."""

    def work(transaction: Any) -> list[Meal]:
        transaction.list(limit=1)
        return [transaction.add(Meal(name=name)) for name in (body.first, body.second)]

    return data(meals, group=path.group).transaction(work)


class CountingStore(SQLiteStore):
    """Counts the round trips of reads and commits."""

    trips = 0

    def get_many(self, paths: Any) -> Any:
        self.trips += 1
        return super().get_many(paths)

    def read(self, paths: Any, queries: Any) -> Any:
        self.trips += 1
        return super().read(paths, queries)

    def query(self, query: Query) -> Any:
        self.trips += 1
        return super().query(query)


@pytest.fixture
def app(tmp_path: File) -> Iterator[App]:
    path = write_app(tmp_path / "app", WITH_GROUPS)
    services = build(Settings.load(path, {}))
    routes = [crud(meals), crud(notes), crud(plans), crud(diary), extra]
    made = App("kitchen", routes=routes, collections=COLLECTIONS)
    made.services = services  # type: ignore[attr-defined]
    init_app(made, services, lambda _: iter(()))
    problems = watch(made)
    yield made
    services.store.close()
    assert problems == []


def new_group(owner: User, **members: User) -> str:
    """Make a group with one member of each role that is named."""
    group: str = owner.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        assert user.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    return group


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_members_share_records_by_role_and_nobody_else_reaches_them(app: App) -> None:
    ada, bob, cat, eve, boss = (sign_in(app, uid) for uid in ("ada", "bob", "cat", "eve", "boss"))
    boss = sign_in(app, "boss", role="admin")
    group = new_group(ada, editor=bob, viewer=cat)
    path = f"/api/groups/{group}/meals"
    soup = bob.post(path, {"name": "Soup"})
    assert (soup.status_code, soup.get_json()["added_by"]) == (201, "bob")
    one = f"{path}/{soup.get_json()['id']}"
    for user in (ada, bob, cat):
        assert [meal["name"] for meal in user.get(path).get_json()["items"]] == ["Soup"]
        assert user.get(one).get_json()["name"] == "Soup"
    assert code_of(cat.post(path, {"name": "Cake"})) == (403, "forbidden")
    assert code_of(cat.patch(one, {"name": "Cake"})) == (403, "forbidden")
    assert code_of(cat.delete(one)) == (403, "forbidden")
    assert code_of(cat.post(f"/api/groups/{group}/pairs", {"first": "a", "second": "b"})) == (403, "forbidden")
    for user in (eve, boss):
        assert code_of(user.get(path)) == (404, "not_found")
        assert code_of(user.get(one)) == (404, "not_found")
        assert code_of(user.post(path, {"name": "Cake"})) == (404, "not_found")
        assert code_of(user.patch(one, {"name": "Cake"})) == (404, "not_found")
        assert code_of(user.delete(one)) == (404, "not_found")
        assert code_of(user.post(f"/api/groups/{group}/pairs", {"first": "a", "second": "b"})) == (404, "not_found")
    changed = ada.patch(one, {"name": "Stew"}).get_json()
    assert (changed["name"], changed["added_by"]) == ("Stew", "bob")
    pair = ada.post(f"/api/groups/{group}/pairs", {"first": "a", "second": "b"}).get_json()
    assert [meal["added_by"] for meal in pair] == ["ada", "ada"]
    assert bob.delete(one).status_code == 204


def test_no_client_says_who_wrote_a_record(app: App) -> None:
    ada = sign_in(app, "ada")
    path = f"/api/groups/{new_group(ada)}/meals"
    assert code_of(ada.post(path, {"name": "Soup", "added_by": "bob"})) == (400, "invalid_request")
    one = f"{path}/{ada.post(path, {'name': 'Soup', 'added_by': None}).get_json()['id']}"
    assert ada.get(one).get_json()["added_by"] == "ada"
    assert code_of(ada.patch(one, {"added_by": "bob"})) == (400, "invalid_request")


def test_a_removed_member_reaches_nothing_by_old_cursors_revisions_and_links(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    path = f"/api/groups/{group}/meals"
    ids = [bob.post(path, {"name": str(number)}).get_json() for number in range(3)]
    page = bob.get(f"{path}?limit=1").get_json()
    assert ada.delete(f"/v1/groups/{group}/members/bob").status_code == 204
    assert code_of(bob.get(f"{path}?limit=1&cursor={page['next_cursor']}")) == (404, "not_found")
    assert code_of(bob.patch(f"{path}/{ids[0]['id']}", {"name": "x"}, If_Match=ids[0]["revision"])) == (
        404,
        "not_found",
    )
    assert code_of(bob.delete(f"{path}/{ids[0]['id']}")) == (404, "not_found")
    assert len(ada.get(path).get_json()["items"]) == 3


def test_a_cursor_of_one_group_leads_nowhere_in_another(app: App) -> None:
    ada = sign_in(app, "ada")
    first, second = (f"/api/groups/{new_group(ada)}/meals" for _ in range(2))
    for path in (first, second):
        for number in range(3):
            ada.post(path, {"name": str(number)})
    cursor = ada.get(f"{first}?limit=1").get_json()["next_cursor"]
    assert code_of(ada.get(f"{second}?limit=1&cursor={cursor}")) == (400, "invalid_cursor")


def test_a_read_checks_the_membership_in_the_same_round_trip(tmp_path: File) -> None:
    raw = CountingStore(tmp_path / "data.sqlite3")
    place = Scope("demo").of_group("g1")
    raw.commit([Set(place.group_member("ada"), {"role": "viewer"}), Set(place.record("meals", "m"), {"name": "Soup"})])
    store = ScopedStore(raw, Scope("demo"))

    def trips(work: Callable[[ScopedStore], Any]) -> int:
        before = raw.trips
        work(store.within(place, guard_of(place, "ada")))
        return raw.trips - before

    assert trips(lambda own: own.get(place.record("meals", "m"))) == 1
    assert trips(lambda own: own.query(Query(place.records("meals")))) == 1
    assert trips(lambda own: own.read([place.root], [Query(place.records("meals"))])) == 1
    raw.close()


@pytest.fixture(params=["sqlite", "firestore"])
def raw(request: pytest.FixtureRequest, tmp_path: File) -> Iterator[TreeStore]:
    if request.param == "firestore":
        yield request.getfixturevalue("emulator_store")
        return
    store = SQLiteStore(tmp_path / "data.sqlite3")
    yield store
    store.close()


@pytest.mark.parametrize("change", ["removed", "demoted", "deleted"])
def test_a_write_does_not_land_once_the_membership_has_changed_however_late_it_comes(
    raw: TreeStore, change: str
) -> None:
    place = Scope("demo").of_group("g1")
    store = ScopedStore(raw, Scope("demo"))
    store.commit([Set(place.group_member("ada"), {"role": "editor"})])
    own = store.within(place, guard_of(place, "ada"))
    store.commit([Create(place.record("meals", "old"), {"name": "Soup"})])
    own.get(place.record("meals", "m"))  # which checks the membership
    old = own.get(place.record("meals", "old"))
    assert old is not None
    if change == "removed":
        raw.delete_tree(place.group_member("ada"))
    elif change == "deleted":  # the group, whose members and records a job removes
        store.commit([Set(place.erasure(), {"closed": True})])
    else:
        store.commit([Set(place.group_member("ada"), {"role": "viewer"})])
    with pytest.raises((NotFound, Forbidden, Fenced)):
        own.commit([Create(place.record("meals", "m"), {"name": "late"})])
    with pytest.raises((NotFound, Forbidden, Fenced)):
        own.transaction(lambda transaction: transaction.write(Create(place.record("meals", "m"), {"name": "late"})))
    for at in (None, old.update_time):
        late = Update(old.path, {"name": "late"}, if_updated_at=at)
        with pytest.raises((NotFound, Forbidden, Fenced)):
            own.commit([late])
        with pytest.raises((NotFound, Forbidden, Fenced)):
            own.transaction(lambda transaction, late=late: transaction.write(late))  # type: ignore[misc]
    with pytest.raises((NotFound, Forbidden, Fenced)):
        own.commit([Delete(old.path, old.update_time)])
    assert raw.get(place.record("meals", "m")) is None
    assert raw.get(old.path) == old


def test_a_guarded_store_gives_nothing_to_who_is_no_member_by_any_method(tmp_path: File) -> None:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    place = Scope("demo").of_group("g1")
    raw.commit([Create(place.record("meals", "m"), {"name": "Soup"})])
    meal, collection = place.record("meals", "m"), place.records("meals")
    attempts: list[Callable[[ScopedStore], Any]] = [
        lambda own: own.get(meal),
        lambda own: own.get_many([meal]),
        lambda own: own.query(Query(collection)),
        lambda own: own.count(Query(collection)),
        lambda own: own.read([meal], [Query(collection)]),
        lambda own: list(own.ids(collection)),
        lambda own: list(own.collections(place.root)),
        lambda own: list(own.tree(place.root)),
        lambda own: own.delete_tree(meal),
        lambda own: own.commit([Set(meal, {"name": "x"})]),
        lambda own: own.transaction(lambda transaction: transaction.get(meal)),
        lambda own: own.within(place).get(meal),
    ]
    for attempt in attempts:
        store = ScopedStore(raw, Scope("demo")).within(place, guard_of(place, "eve"))
        with pytest.raises((NotFound, ScopeViolation)):
            attempt(store)
        with pytest.raises((NotFound, ScopeViolation)):
            attempt(store)  # a refusal is no membership
    assert raw.get(meal) is not None
    raw.close()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "list", "get", "change", "delete", "role", "expel"]),
        st.sampled_from(["ada", "bob", "cat"]),
        st.integers(0, 1),
        st.integers(0, 5),
        st.sampled_from(["viewer", "editor"]),
    ),
    max_size=30,
)


@given(operations=OPERATIONS)
@hypothesis_settings(max_examples=40)
def test_whatever_members_of_two_groups_do_each_reaches_what_their_role_in_that_group_allows(
    operations: list[tuple[str, str, int, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = SQLiteStore(tmp_path_factory.mktemp("groups") / "data.sqlite3")
    store = ScopedStore(raw, Scope("demo"))
    places = [Scope("demo").of_group(f"g{number}") for number in range(2)]
    roles: dict[tuple[str, int], str] = {}
    held: list[dict[str, str]] = [{}, {}]
    for what, uid, group, record, role in operations:
        place, mine, there = places[group], roles.get((uid, group)), held[group]
        own, path = store.within(place, guard_of(place, uid)), place.record("meals", f"m{record}")
        outcome: Any = None
        match what:
            case "role":
                store.commit([Set(place.group_member(uid), {"role": role})])
                roles[uid, group] = role
            case "expel":
                raw.delete_tree(place.group_member(uid))
                roles.pop((uid, group), None)
            case "list":
                with suppress(NotFound):
                    outcome = {each.id: each.data["by"] for each in own.query(Query(place.records("meals")))}
                assert outcome == (there if mine else None)
            case "get":
                with suppress(NotFound):
                    found = own.get(path)
                    outcome = (None if found is None else found.data["by"],)
                assert outcome == ((there.get(f"m{record}"),) if mine else None)
            case _:
                with suppress(NotFound, Forbidden):
                    outcome = own.commit([Set(path, {"by": uid})])
                assert (outcome is not None) == (mine == "editor")
                if outcome is not None:
                    there[f"m{record}"] = uid
    for place, there in zip(places, held, strict=True):
        assert {each.id: each.data["by"] for each in store.query(Query(place.records("meals")))} == there
    raw.close()


def live(app: App) -> tuple[str, dict[str, User]]:
    users = {uid: sign_in(app, uid) for uid in ("ada", "bob", "cat")}
    group = new_group(users["ada"], editor=users["bob"])
    for uid in ("ada", "bob"):
        for name, body in (("meals", {"name": uid}), ("notes", {"text": uid}), ("plans", {"week": 1})):
            assert users[uid].post(f"/api/groups/{group}/{name}", body).status_code == 201
    return group, users


def rows(user: User, group: str, name: str, field: str) -> list[Any]:
    return sorted((row[field] or "-") for row in user.get(f"/api/groups/{group}/{name}").get_json()["items"])


@pytest.mark.parametrize("left", [False, True])
def test_what_an_erased_member_wrote_is_deleted_anonymized_or_handed_over_also_after_they_left(
    app: App, left: bool
) -> None:
    group, users = live(app)
    if left:
        users["bob"].delete(f"/v1/groups/{group}/members/bob")
    app.services.jobs.enqueue(Scope("demo"), ERASE, Erase(uid="bob"))  # type: ignore[attr-defined]
    run_jobs(app)
    assert rows(users["ada"], group, "meals", "added_by") == ["-", "ada"]
    assert rows(users["ada"], group, "notes", "by") == ["ada"]
    assert rows(users["ada"], group, "plans", "cook") == ["ada", "ada"]


def test_an_erased_owner_leaves_their_group_and_what_they_wrote_goes_as_each_collection_says(app: App) -> None:
    group, users = live(app)
    app.services.jobs.enqueue(Scope("demo"), ERASE, Erase(uid="ada"))  # type: ignore[attr-defined]
    run_jobs(app)
    assert users["bob"].get(f"/v1/groups/{group}").get_json()["role"] == "owner"
    assert rows(users["bob"], group, "meals", "added_by") == ["-", "bob"]
    assert rows(users["bob"], group, "notes", "by") == ["bob"]
    assert rows(users["bob"], group, "plans", "cook") == ["bob", "bob"]
    kept = list(app.services.store.tree(Scope("demo").of_group(group).root))  # type: ignore[attr-defined]
    assert [path for path in kept if re.search(r"\bada\b", path)] == []


def test_an_export_holds_what_a_member_wrote_in_groups_and_nothing_of_others(app: App) -> None:
    group, users = live(app)
    job = users["bob"].post("/v1/me/exports").get_json()["id"]
    run_jobs(app)
    archive = zipfile.ZipFile(io.BytesIO(users["bob"].get(f"/v1/me/exports/{job}/file").data))
    texts = {name: archive.read(name).decode() for name in archive.namelist()}
    [row] = json.loads(texts[f"of_groups/{group}/notes.by.json"])
    assert (row["data"]["text"], row["data"]["by"]) == ("bob", "bob")
    assert [entry["id"] for entry in json.loads(texts["memberships.json"])] == [group]
    assert not [name for name, text in texts.items() if '"ada"' in text]


def test_records_that_name_an_erased_user_are_not_written_by_work_from_before(app: App) -> None:
    group, _ = live(app)
    store, place = app.services.store, Scope("demo").of_group(group)  # type: ignore[attr-defined]
    from firelaunch.errors import Fenced
    from firelaunch.store.fence import begun_at

    began = datetime.now(UTC)
    app.services.jobs.enqueue(Scope("demo"), ERASE, Erase(uid="bob"))  # type: ignore[attr-defined]
    run_jobs(app)
    with begun_at(began), pytest.raises(Fenced):
        store.commit([Create(place.record("meals", "late"), {"name": "x", "added_by": "bob"})])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"written_by": "added_by"}, "say what an erasure of a member does"),
    ({"written_by": "added_by", "on_erase": "keep"}, "'delete' or 'anonymize' or 'hand_over'"),
    ({"on_erase": "anonymize"}, "written_by"),
    ({"on_erase": "hand_over"}, "written_by"),
    ({"written_by": "name", "on_erase": "delete"}, "no field 'name' of type UserId"),
]


@pytest.mark.parametrize(("options", "says"), BAD)
def test_a_collection_of_groups_that_does_not_say_what_an_erasure_does_is_refused(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        Collection("meals", Meal, owner="group", **options)


def test_what_is_for_groups_alone_is_refused_elsewhere() -> None:
    with pytest.raises(SettingsError, match="written_by is for"):
        Collection("meals", Meal, owner="app", written_by="added_by", on_erase="delete")
    with pytest.raises(SettingsError, match="'delete' or 'anonymize', not 'hand_over'"):
        Collection("meals", Meal, owner="app", on_erase="hand_over")


def test_a_collection_of_groups_needs_a_plan_with_groups(tmp_path: File) -> None:
    services = build(Settings.load(write_app(tmp_path / "app", SETTINGS), {}))
    with pytest.raises(SettingsError, match="no plan has groups"):
        init_app(App("kitchen", collections=[meals]), services, lambda _: iter(()))
    services.store.close()


def test_collections_of_groups_and_of_users_are_bound_to_their_kind_of_owner(app: App) -> None:
    bound = app.services.data  # type: ignore[attr-defined]
    for scope, collection, says in (
        (
            Scope("demo"),
            meals,
            r"'meals' is groups' own, and no group is bound.* call data\(meals, group=id\)",
        ),
        (Scope("demo", "ada"), meals, r"'meals' is groups' own.* turn\.scope\.group is None here"),
        (Scope("demo").of_group("g1"), diary, r"'diary' is users' own, and a group is bound.* turn\.scope\.group"),
        (Scope("demo"), diary, r"'diary' is users' own, and no user is bound: take services\.within\(user\)\.data"),
    ):
        with pytest.raises(ScopeViolation, match=says):
            bound.within(scope)(collection)
    with pytest.raises(ScopeViolation):
        bound.within(Scope("demo").of_group("g1")).for_member(
            Scope("demo").of_group("g2"), "ada", Guard("x", "y", print)
        )


def test_a_public_route_that_reads_a_groups_records_is_refused_at_start(tmp_path: File) -> None:
    routes = Routes("open", public=True)

    @routes.get("/open/<group>")
    def read(path: GroupPath) -> list[Meal]:
        return data(meals, group=path.group).list().items

    services = build(Settings.load(write_app(tmp_path / "app", WITH_GROUPS), {}))
    with pytest.raises(SettingsError, match="whose records are groups' own"):
        init_app(App("kitchen", routes=[routes], collections=[meals]), services, lambda _: iter(()))
    services.store.close()


def test_agents_reach_records_of_groups_as_their_user_does(tmp_path: File) -> None:
    services = build(Settings.load(write_app(tmp_path / "app", WITH_GROUPS), {}))
    routes = crud(meals)
    app = App("kitchen", routes=[routes], collections=[meals], mcp=[routes])
    init_app(app, services, lambda _: iter(()))
    ada, cat, eve = (sign_in(app, uid) for uid in ("ada", "cat", "eve"))
    group = new_group(ada, viewer=cat)

    def call(user: User, tool: str, **arguments: Any) -> Any:
        request = {"name": tool, "arguments": {"group": group, **arguments}}
        answer = user.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request})
        result = answer.get_json()["result"]
        return json.loads(result["content"][0]["text"])["error"]["code"] if result["isError"] else result

    assert "Soup" in str(call(ada, "add_meal", name="Soup"))
    assert "Soup" in str(call(cat, "list_meals"))
    assert call(cat, "add_meal", name="Cake") == "forbidden"
    assert call(eve, "list_meals") == "not_found"
    assert call(eve, "add_meal", name="Cake") == "not_found"
    ada.delete(f"/v1/groups/{group}/members/cat")
    assert call(cat, "list_meals") == "not_found"
    services.store.close()
