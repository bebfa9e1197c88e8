"""The routes that ``crud`` makes of a collection: what they do, for whom, and how they are taken over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path as File
from typing import Annotated, Any, Literal

import pytest
from firelaunch.api.base import example
from firelaunch.api.crud import crud
from firelaunch.api.routes import Routes
from firelaunch.errors import SettingsError
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, User, sign_in, write_app
from firelaunch.testing.documented import Documented, watch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, field_validator

PLANS = """
[plans.pro]
requests_per_minute = 1000
daily_usd = "5"
features = ["diary"]
"""


class Place(BaseModel):
    city: str


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Meal(Record):
    """Something eaten."""

    model_config = example({"name": "Soup", "kcal": 300, "eaten_at": "2026-03-01T12:00:00Z"})
    name: str = Field(min_length=1, max_length=200)
    kcal: int = Field(ge=0)
    kind: Literal["lunch", "other"] = "other"
    eaten_at: datetime
    mood: Mood | None = None
    place: Place | None = None
    tags: Annotated[list[str], Field(max_length=3)] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def _no_poison(cls, name: str) -> str:
        if name == "poison":
            raise ValueError("that is no meal")
        return name


class Recipe(Record):
    title: str


meals = Collection("meals", Meal, owner="user", queries=[("kind", "-eaten_at"), ("place.city",)])
recipes = Collection("recipes", Recipe, owner="app")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOUP = {"name": "Soup", "kcal": 300, "eaten_at": "2026-03-01T12:00:00Z"}

MakeApp = Callable[..., App]


@pytest.fixture
def make(tmp_path: File) -> Iterator[MakeApp]:
    """Makes an app with routes; whatever it answers has to be in its own document."""
    made: list[Any] = []
    problems: list[list[str]] = []

    def make(*routes: Routes, documented: Documented | None = None, **environ: str) -> App:
        services = build(Settings.load(write_app(tmp_path / "crud", SETTINGS + PLANS), environ))
        made.append(services)
        app = App("crud", routes=routes, collections=[meals, recipes])
        init_app(app, services, lambda _: ())
        problems.append(watch(app, documented))
        return app

    yield make
    for services in made:
        services.store.close()
    assert [problem for found in problems for problem in found] == []


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Documented:
    """The document of the app, which takes a while to make."""
    app = App("documented", routes=[crud(meals), crud(recipes)], collections=[meals, recipes])
    services = build(Settings.load(write_app(tmp_path_factory.mktemp("documented"), SETTINGS), {}))
    init_app(app, services, lambda _: ())
    return Documented(app.test_client().get("/openapi.json").get_json())


@pytest.fixture
def app(make: MakeApp, documented: Documented) -> App:
    return make(crud(meals), crud(recipes), documented=documented)


@pytest.fixture
def ada(app: App) -> User:
    return sign_in(app, "ada")


@pytest.fixture(params=["sqlite", "emulator"])
def any_app(
    request: pytest.FixtureRequest, make: MakeApp, documented: Documented, monkeypatch: pytest.MonkeyPatch
) -> App:
    """The app on either store."""
    if request.param == "sqlite":
        return make(crud(meals), crud(recipes), documented=documented)
    host = request.getfixturevalue("firestore_emulator").host
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)  # Google's library looks nowhere else
    project = request.getfixturevalue("firestore_project")
    environ = {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": project}
    return make(crud(meals), crud(recipes), documented=documented, **environ)


def add(user: User, **fields: Any) -> dict[str, Any]:
    answer = user.post("/api/meals", SOUP | fields)
    assert answer.status_code == 201, answer.text
    meal: dict[str, Any] = answer.get_json()
    return meal


def names(user: User, query: str = "") -> list[str]:
    answer = user.get(f"/api/meals?{query}")
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.get_json()["items"]]


def test_a_record_is_added_read_changed_and_deleted(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    meal = add(ada, mood="good", place={"city": "Bonn"}, tags=["a"])
    assert meal == {
        **SOUP,
        "kind": "other",
        "mood": "good",
        "place": {"city": "Bonn"},
        "tags": ["a"],
        **{name: meal[name] for name in ("id", "created_at", "updated_at", "revision")},
    }
    url = f"/api/meals/{meal['id']}"
    assert ada.get(url).get_json() == meal
    changed = ada.patch(url, {"kcal": 250, "mood": None}).get_json()
    assert (changed["kcal"], changed["mood"], changed["name"]) == (250, None, "Soup")
    assert changed["revision"] != meal["revision"]
    assert changed["created_at"] == meal["created_at"]
    deleted = ada.delete(url)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert ada.get(url).status_code == 404
    assert ada.delete(url).status_code == 204


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kcal": -1}, "kcal"),
        ({"kcal": "300"}, "kcal"),
        ({"name": ""}, "name"),
        ({"name": "poison"}, "name"),
        ({"kind": "tea"}, "kind"),
        ({"eaten_at": "now"}, "eaten_at"),
        ({"eaten_at": "0001-01-01T00:00:00+01:00"}, "eaten_at"),
        ({"eaten_at": "2026-03-01T12:00:00"}, "eaten_at"),
        ({"tags": ["a", "b", "c", "d"]}, "tags"),
        ({"place": {"town": "Bonn"}}, "place"),
        ({"kcal": None}, "kcal"),
        ({"kcal": 2**70}, "kcal"),
        ({"id": "mine"}, "id"),
        ({"revision": "1"}, "revision"),
        ({"created_at": "2026-03-01T12:00:00Z"}, "created_at"),
        ({"uid": "bob"}, "uid"),
        ({"schema_version": 2}, "schema_version"),
        ({"_stored": {}}, "_stored"),
    ],
)
def test_what_does_not_fit_the_model_is_a_400_that_names_the_field_and_changes_nothing(
    ada: User, change: dict[str, Any], field: str
) -> None:
    meal = add(ada)
    for answer in (ada.post("/api/meals", SOUP | change), ada.patch(f"/api/meals/{meal['id']}", change)):
        assert answer.status_code == 400
        assert answer.get_json()["error"]["message"].startswith(field)
    assert ada.get("/api/meals").get_json()["items"] == [meal]


def test_a_change_of_nothing_is_refused(ada: User) -> None:
    assert ada.patch(f"/api/meals/{add(ada)['id']}", {}).status_code == 400


def test_of_two_who_change_a_revision_the_second_is_told_and_loses_nothing(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    meal = add(ada)
    url, match = f"/api/meals/{meal['id']}", f'"{meal["revision"]}"'
    assert ada.patch(url, {"kcal": 1}, If_Match=match).status_code == 200
    late = ada.patch(url, {"kcal": 2}, If_Match=match)
    assert (late.status_code, late.get_json()["error"]["code"]) == (409, "precondition_failed")
    assert ada.delete(url, If_Match=match).status_code == 409
    now = ada.get(url).get_json()
    assert now["kcal"] == 1
    assert ada.patch(url, {"kcal": 3}, If_Match="*").status_code == 200
    for nonsense in ("nonsense", f"W/{match}", "00", '"', f'"{"0" * 17}"', f"{match}, {match}"):
        assert ada.patch(url, {"kcal": 3}, If_Match=nonsense).status_code == 400
        assert ada.delete(url, If_Match=nonsense).status_code == 400
    latest = ada.get(url).get_json()["revision"]
    assert ada.delete(url, If_Match=f'"{latest}"').status_code == 204
    assert ada.get(url).status_code == 404


def test_many_who_change_one_field_each_lose_nothing(app: App, ada: User) -> None:
    meal = add(ada)
    changes: list[dict[str, Any]] = [{"kcal": 5}, {"kind": "lunch"}, {"mood": "bad"}, {"tags": ["x"]}]
    statuses: list[int] = []

    def change(fields: dict[str, Any]) -> None:
        statuses.append(sign_in(app, "ada").patch(f"/api/meals/{meal['id']}", fields).status_code)

    threads = [threading.Thread(target=change, args=(fields,)) for fields in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    now = ada.get(f"/api/meals/{meal['id']}").get_json()
    assert {name: now[name] for fields in changes for name in fields} == {
        name: value for fields in changes for name, value in fields.items()
    }


# Lists


def test_a_list_comes_in_the_declared_order_and_in_pages(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    for number in range(5):
        add(ada, name=f"m{number}", eaten_at=(NOON + timedelta(days=number)).isoformat())
    first = ada.get("/api/meals?limit=2").get_json()
    assert [item["name"] for item in first["items"]] == ["m4", "m3"]
    second = ada.get(f"/api/meals?limit=2&cursor={first['next_cursor']}").get_json()
    assert [item["name"] for item in second["items"]] == ["m2", "m1"]
    last = ada.get(f"/api/meals?limit=2&cursor={second['next_cursor']}").get_json()
    assert ([item["name"] for item in last["items"]], last["next_cursor"]) == (["m0"], None)


def test_a_page_ends_at_a_text_however_long_it_is(make: MakeApp) -> None:
    ada = sign_in(make(crud(meals)), "ada")
    for number in range(3):
        add(ada, name="meal", place={"city": "д" * 700 + str(number)})
    url, seen = "/api/meals?order=place.city&limit=1", []
    page = ada.get(url).get_json()
    while page["next_cursor"]:
        seen += page["items"]
        page = ada.get(f"{url}&cursor={page['next_cursor']}").get_json()
    assert [item["place"]["city"][-1] for item in [*seen, *page["items"]]] == ["0", "1", "2"]


def test_a_list_is_filtered_and_sorted_by_what_the_collection_declares(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    add(ada, name="early", kind="lunch", place={"city": "Bonn"})
    add(ada, name="late", kind="lunch", eaten_at="2026-03-02T12:00:00Z")
    add(ada, name="other", eaten_at="2026-03-03T12:00:00Z")
    assert names(ada, "kind=lunch") == ["late", "early"]
    assert names(ada, "kind=lunch&order=-eaten_at") == ["late", "early"]
    assert names(ada, "eaten_at_from=2026-03-02T12:00:00Z") == ["other", "late"]
    assert names(ada, "eaten_at_before=2026-03-02T12:00:00Z") == ["early"]
    assert names(ada, "kind=lunch&eaten_at_from=2026-03-02T00:00:00Z") == ["late"]
    assert names(ada, "place.city=Bonn") == ["early"]
    assert names(ada, "order=created_at") == ["early", "late", "other"]


@pytest.mark.parametrize(
    "query",
    [
        "kind=tea",
        "kcal=300",
        "order=kcal",
        "eaten_at_from=soon",
        "eaten_at_from=0.5",
        "eaten_at_from=0001-01-01T00:00:00%2B01:00",
        "eaten_at_before=2026-03-01",
        "limit=101",
        "kind=lunch&order=created_at",
        "owner=bob",
    ],
)
def test_a_list_that_the_collection_does_not_declare_is_a_400(ada: User, query: str) -> None:
    add(ada)
    assert ada.get(f"/api/meals?{query}").status_code == 400


# Isolation


def test_a_user_reaches_nobody_elses_records_by_id(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    meal = add(ada)
    for other in (sign_in(any_app, "bob"), sign_in(any_app, "root", role="admin")):
        url = f"/api/meals/{meal['id']}"
        assert other.get(url).status_code == 404
        assert other.patch(url, {"kcal": 0}).status_code == 404
        assert other.delete(url).status_code == 204  # as of any record that is not there
        assert other.delete(url, If_Match=f'"{meal["revision"]}"').status_code == 204
        assert names(other) == []
    assert ada.get(f"/api/meals/{meal['id']}").get_json() == meal


def test_a_cursor_is_refused_to_another_user_query_and_collection(any_app: App) -> None:
    ada = sign_in(any_app, "ada")
    for number in range(3):
        add(ada, kind="lunch", name=f"m{number}")
    cursor = ada.get("/api/meals?limit=1&kind=lunch").get_json()["next_cursor"]
    assert ada.get(f"/api/meals?limit=1&kind=lunch&cursor={cursor}").status_code == 200
    bob = sign_in(any_app, "bob")
    for user, url in (
        (bob, "/api/meals?kind=lunch"),
        (ada, "/api/meals?kind=other"),
        (ada, "/api/meals?order=created_at"),
        (ada, "/api/recipes?"),
    ):
        answer = user.get(f"{url}&cursor={cursor}")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_cursor")


HOSTILE = ["..", ".", "__x__", "a%2Fb", "..%2F..%2Fbob%2Fmeals%2Fm", "%00", "x" * 200, "%ff", "*", "a b", "ä"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_id_finds_nothing_and_breaks_nothing(ada: User, hostile: str) -> None:
    for answer in (
        ada.get(f"/api/meals/{hostile}"),
        ada.patch(f"/api/meals/{hostile}", {"kcal": 1}),
        ada.delete(f"/api/meals/{hostile}"),
    ):
        assert answer.status_code in {204, 400, 404, 405}, answer.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=60), cursor=st.text(max_size=60), match=st.text('abcdef0123456789"*W/', max_size=20))
def test_whatever_bob_sends_adas_records_stay_as_they_are(app: App, path: str, cursor: str, match: str) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    if not names(ada):
        add(ada, name="secret")
    before = ada.get("/api/meals").get_json()
    url = f"/api/meals/{path}"
    for answer in (
        bob.get(url),
        bob.client.get("/api/meals", query_string={"cursor": cursor}, headers={"Authorization": f"Bearer {bob.token}"}),
        bob.patch(url, {"kcal": 7}, If_Match=match),
        bob.delete(url, If_Match=match),
    ):
        assert answer.status_code < 500
        assert "secret" not in answer.text
    assert ada.get("/api/meals").get_json() == before


def test_all_members_read_an_app_wide_collection_and_admins_write_it(app: App, ada: User) -> None:
    root = sign_in(app, "root", role="admin")
    assert ada.post("/api/recipes", {"title": "Stew"}).status_code == 403
    recipe = root.post("/api/recipes", {"title": "Stew"}).get_json()
    url = f"/api/recipes/{recipe['id']}"
    assert ada.get(url).get_json() == recipe
    assert ada.get("/api/recipes").get_json()["items"] == [recipe]
    assert ada.patch(url, {"title": "Mine"}).status_code == 403
    assert ada.delete(url).status_code == 403
    assert root.patch(url, {"title": "Goulash"}).get_json()["title"] == "Goulash"
    assert root.delete(url).status_code == 204


def test_nobody_reaches_records_without_a_token(app: App) -> None:
    client = app.test_client()
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PATCH", "/x"), ("DELETE", "/x")):
        assert client.open(f"/api/meals{path}", method=method, json={}).status_code == 401


# Taking over


def test_a_view_takes_the_place_of_the_one_that_crud_made(make: MakeApp) -> None:
    routes = crud(meals)

    class MealPath(BaseModel):
        meal: str

    def mine(path: MealPath) -> dict[str, str]:
        return {"mine": path.meal}

    mine.__annotations__["path"] = MealPath
    routes.get("/meals/<meal>", summary="Mine")(mine)
    app = make(routes)
    ada = sign_in(app, "ada")
    meal = add(ada)
    assert ada.get(f"/api/meals/{meal['id']}").get_json() == {"mine": meal["id"]}
    assert ada.patch(f"/api/meals/{meal['id']}", {"kcal": 1}).status_code == 200


def test_a_fixed_path_stands_beside_the_ids(make: MakeApp) -> None:
    routes = crud(meals)

    @routes.get("/meals/today")
    def today() -> dict[str, str]:
        return {"day": "today"}

    assert sign_in(make(routes), "ada").get("/api/meals/today").get_json() == {"day": "today"}


def test_only_the_named_routes_are_made_below_the_named_prefix(make: MakeApp) -> None:
    app = make(crud(meals, prefix="/diary", only=("list", "add"), name="diary", feature="diary"))
    ada = sign_in(app, "ada", plan="pro")
    assert ada.post("/diary/meals", SOUP).status_code == 201
    assert ada.get("/diary/meals/x").status_code == 404
    assert ada.delete("/diary/meals").status_code == 405
    assert sign_in(app, "bob").get("/diary/meals").status_code == 403


def test_a_collection_that_the_app_does_not_declare_gets_no_routes(make: MakeApp) -> None:
    with pytest.raises(SettingsError, match=r"crud\('notes'\): the app does not declare the collection"):
        make(crud(Collection("notes", Recipe)))


def test_what_cannot_be_made_is_refused_with_its_place(make: MakeApp) -> None:
    with pytest.raises(SettingsError, match="give a Collection"):
        crud(Meal)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="'remove' is none of list, add, get, update, delete"):
        crud(meals, only=("remove",))  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as raised:
        make(crud(meals), crud(meals, name="again"))
    assert f"crud('meals') ({__file__}:" in raised.value.message
    make(crud(meals))


def test_the_document_tells_a_new_record_a_change_and_a_record_apart(app: App) -> None:
    document = app.test_client().get("/openapi.json").get_json()
    schemas, item = document["components"]["schemas"], document["paths"]["/api/meals/{id}"]
    assert "id" in schemas["Meal"]["properties"]
    assert "id" not in schemas["NewMeal"]["properties"]
    assert schemas["NewMeal"]["required"] == ["name", "kcal", "eaten_at"]
    assert "required" not in schemas["MealChange"]
    assert [header["name"] for header in item["patch"]["parameters"]] == ["id", "If-Match"]
    parameters = {each["name"] for each in document["paths"]["/api/meals"]["get"]["parameters"]}
    assert {"limit", "cursor", "kind", "order", "eaten_at_from", "eaten_at_before", "place.city"} <= parameters
    validator = Draft202012Validator({**schemas["MealPage"], "components": document["components"]})
    validator.validate(schemas["MealPage"]["example"])


class Booking(BaseModel):
    name: str
    seats: int = Field(ge=1)
    day: str
    place: int | bool
    hour: int
    minute: int


def test_an_error_names_each_wrong_field_once_and_five_at_most(make: MakeApp) -> None:
    routes = Routes("bookings")

    @routes.post("/bookings")
    def book(body: Booking) -> None:
        """Book."""

    ada = sign_in(make(routes), "ada")
    wrong = {"name": 1, "seats": 0, "day": "x", "place": "maybe", "hour": 1, "minute": 2}
    message = ada.post("/api/bookings", wrong).get_json()["error"]["message"]
    assert [part.split(":")[0] for part in message.split("; ")] == ["name", "seats", "place.int"]
    message = ada.post("/api/bookings", {"x": 1}).get_json()["error"]["message"]
    assert [part.split(":")[0] for part in message.split("; ")] == [
        "name",
        "seats",
        "day",
        "place",
        "hour",
        "and 1 more",
    ]


def test_a_list_answers_an_unknown_filter_with_those_that_its_queries_give(ada: User) -> None:
    refused = ada.get("/api/meals?name=Soup")
    message = refused.get_json()["error"]["message"]
    assert refused.status_code == 400
    assert message.startswith("name: there is no such parameter. There are: ")
    assert {"kind", "eaten_at_from", "order"} <= set(message.replace(",", "").replace(".", " ").split()), message
    assert message.endswith("A collection's filters come from its queries")
