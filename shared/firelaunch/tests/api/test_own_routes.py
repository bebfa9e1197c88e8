"""An app's own routes: what they take and answer, who may call them, and what is refused at start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path as File
from typing import Any, Literal

import pytest
from firelaunch.api import base
from firelaunch.api.base import (
    Body,
    PageQuery,
    Path,
    admins_only,
    app_services,
    caller,
    caller_services,
    data,
    enqueue,
    example,
    file_response,
    need_feature,
)
from firelaunch.api.routes import Routes
from firelaunch.errors import ExtractionFailed, NotFound, RateLimited, SettingsError
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.slots import Pace
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.documented import Documented, watch
from firelaunch.worker import JobRun
from firelaunch.worker.job_definitions import job
from flask import Response, request
from pydantic import BaseModel, Field, field_validator

PLANS = """
[plans.pro]
requests_per_minute = 1000
daily_usd = "5"
features = ["diary"]
"""


class Meal(BaseModel):
    model_config = example({"name": "Soup", "kcal": 300, "eaten_at": "2026-03-01T12:00:00Z", "kind": "lunch"})
    name: str
    kcal: int
    eaten_at: datetime
    kind: Literal["lunch", "other"] = "other"


class SecretMeal(Meal):
    secret: str = "hidden"


class NewMeal(Body):
    name: str = Field(max_length=20)
    kcal: int = Field(ge=0)
    eaten_at: datetime
    kind: Literal["lunch", "other"] = "other"


class KindQuery(PageQuery):
    kind: Literal["lunch", "other"] | None = None


class Days(Body):
    days: int = 1


class SharedNote(Record):
    text: str


own_notes = Collection("notes", SharedNote, owner="user")
shared_notes = Collection("shared_notes", SharedNote, owner="app")


class Nap(Body):
    title: str = ""
    long: timedelta = timedelta()
    divided: int = 1

    @field_validator("divided")
    @classmethod
    def _divide(cls, value: int) -> int:
        return 100 // value


class NapQuery(BaseModel):
    long: timedelta = timedelta()


SOUP = Meal(name="Soup", kcal=300, eaten_at=datetime(2026, 3, 1, 12, tzinfo=UTC), kind="lunch")
SENT = {"name": "Soup", "kcal": 300, "eaten_at": "2026-03-01T12:00:00Z", "kind": "lunch"}


def routes_of_meals() -> Routes:  # noqa: C901 - a view for each kind of route
    routes = Routes("meals")

    @routes.post("/meals", status=201)
    def add(body: NewMeal) -> Meal:
        """Note a meal."""
        return Meal(**body.model_dump())

    @routes.get("/meals")
    def index(query: KindQuery) -> list[Meal]:
        return [SOUP] * (1 if query.kind is None else 2)

    @routes.get("/meals/<id>", errors=[NotFound])
    def read(path: Path) -> Meal:
        if path.id == "none":
            raise NotFound
        return SecretMeal(**SENT)  # type: ignore[arg-type]

    @routes.delete("/meals/<id>")
    def delete(path: Path) -> None: ...

    @routes.put("/meals/<id>")
    def put(path: Path, body: NewMeal) -> tuple[Meal, int]:
        return SOUP, 202

    @routes.get("/meals/diary", feature="diary", summary="The diary")
    def diary() -> dict[str, Any]:
        return {"meals": [SOUP], "who": caller().uid}

    @routes.get("/meals/menu", public=True)
    def menu() -> list[str]:
        return ["Soup"]

    @routes.get("/meals/all")
    def everybodys() -> dict[str, str]:
        admins_only()
        return {}

    @routes.get("/meals/root")
    def root() -> dict[str, str]:
        """Where the caller's services end."""
        return {"root": caller_services().store.scope.root}

    return routes


MakeOwn = Callable[..., App]


@pytest.fixture
def make_own(tmp_path: File) -> Iterator[MakeOwn]:
    """Makes an app with own routes; whatever it answers has to be in its own document."""
    made: list[Any] = []
    problems: list[list[str]] = []

    def make(*routes: Routes, settings: str = SETTINGS + "groups = 1\n" + PLANS, checked: bool = True) -> App:
        services = build(Settings.load(write_app(tmp_path / "own", settings), {}))
        made.append(services)
        app = App("own", routes=routes, collections=[own_notes, shared_notes])
        init_app(app, services, lambda _: ())
        if checked:
            problems.append(watch(app))
        return app

    yield make
    for services in made:
        services.store.close()
    assert [problem for found in problems for problem in found] == []


@pytest.fixture
def app(make_own: MakeOwn) -> App:
    return make_own(routes_of_meals())


def test_a_view_takes_a_model_and_its_model_is_the_answer(app: App) -> None:
    ada = sign_in(app, "ada")
    answer = ada.post("/api/meals", SENT)
    assert (answer.status_code, answer.get_json()) == (201, SENT)
    assert ada.get("/api/meals").get_json() == [SENT]
    assert ada.get("/api/meals?kind=lunch").get_json() == [SENT, SENT]
    assert ada.put("/api/meals/m1", SENT).status_code == 202
    deleted = ada.delete("/api/meals/m1")
    assert (deleted.status_code, deleted.data) == (204, b"")


def test_an_answer_has_the_fields_of_the_annotated_model_and_no_more(app: App) -> None:
    assert sign_in(app, "ada").get("/api/meals/m1").get_json() == SENT


def test_a_view_that_returns_something_else_than_it_says_fails_and_shows_nothing(make_own: MakeOwn) -> None:
    routes = Routes("wrong")

    @routes.get("/wrong")
    def wrong() -> Meal:
        return {"password": "hunter2"}  # type: ignore[return-value]

    answer = sign_in(make_own(routes), "ada").get("/api/wrong")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kcal": -1}, "kcal"),
        ({"kcal": "3"}, "kcal"),
        ({"kind": "tea"}, "kind"),
        ({"eaten_at": "yesterday"}, "eaten_at"),
        ({"uid": "bob"}, "uid"),
        ({"name": "x" * 21}, "name"),
    ],
)
def test_a_body_that_does_not_fit_is_a_400_that_names_the_field(app: App, change: dict[str, Any], field: str) -> None:
    answer = sign_in(app, "ada").post("/api/meals", SENT | change)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith(f"{field}:")


def test_a_query_that_does_not_fit_is_a_400_that_names_the_field(app: App) -> None:
    ada = sign_in(app, "ada")
    for query in ("kind=tea", "limit=0", "mine=no"):
        answer = ada.get(f"/api/meals?{query}")
        assert answer.status_code == 400
        assert answer.get_json()["error"]["message"].startswith(f"{query.partition('=')[0]}:")


def test_a_body_over_the_limit_is_a_413(app: App) -> None:
    answer = sign_in(app, "ada").post("/api/meals", {**SENT, "name": "x" * 300_000})
    assert answer.status_code == 413


def test_an_own_route_wants_a_token_unless_it_is_public(app: App) -> None:
    client = app.test_client()
    for method, path in (("GET", "/api/meals"), ("POST", "/api/meals")):
        assert client.open(path, method=method).status_code == 401, path
    assert client.get("/api/meals/menu").get_json() == ["Soup"]
    forged = client.get("/api/meals", headers={"Authorization": "Bearer x.y.z"})
    assert forged.status_code == 401


def test_what_is_no_route_is_a_404_also_for_strangers_since_the_document_lists_the_routes(app: App) -> None:
    ada = sign_in(app, "ada")
    assert ada.get("/api/x").status_code == 404
    assert app.test_client().get("/api/x").status_code == 404
    assert app.test_client().delete("/api/meals").status_code == 405
    missing = ada.patch("/api/meals", {})
    assert (missing.status_code, set(missing.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS", "POST"})


def test_a_view_finds_its_caller_by_the_token_alone(app: App) -> None:
    ada = sign_in(app, "ada", plan="pro")
    answer = ada.client.get("/api/meals/diary?uid=bob", headers={"Authorization": f"Bearer {ada.token}", "uid": "bob"})
    assert answer.get_json() == {"meals": [SENT], "who": "ada"}
    assert ada.get("/api/meals/root").get_json() == {"root": "apps/demo/users/ada"}


def test_a_public_view_has_no_caller_and_reaches_no_users_data(make_own: MakeOwn) -> None:
    routes = Routes("open", public=True)

    @routes.get("/open/root")
    def root() -> dict[str, str]:
        return {"root": caller_services().store.scope.root}

    def their_uid() -> str:
        return caller().uid

    @routes.get("/open/who")
    def who() -> dict[str, str]:
        return {"uid": their_uid()}

    app = make_own(routes, checked=False)
    ada = sign_in(app, "ada")
    assert ada.get("/api/open/root").get_json() == {"root": "apps/demo"}
    answer = ada.get("/api/open/who")  # whoever asks, with a token or without
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "unauthenticated")


def test_a_public_view_that_asks_for_its_caller_is_refused_at_start(make_own: MakeOwn) -> None:
    def who() -> dict[str, str]:
        return {"uid": caller().uid}

    def admin() -> None:
        admins_only()

    def paid() -> None:
        need_feature("diary")

    def listed() -> dict[str, str]:
        return {"n": str(data(own_notes).count())}

    def by_module() -> dict[str, str]:
        return {"n": str(base.data(own_notes).count())}

    for view, name in (
        *((who, "caller()"), (admin, "admins_only()"), (paid, "need_feature()")),
        *((listed, "data() with 'notes'"), (by_module, "data() with 'notes'")),
    ):
        routes = Routes("open", public=True)
        routes.get("/open/who")(view)
        assert f"the view calls {name}" in refusal(make_own, routes)


def test_a_public_view_reads_what_all_share_and_asking_for_a_users_own_is_a_401(make_own: MakeOwn) -> None:
    routes = Routes("open", public=True)

    @routes.get("/open/shared")
    def shared() -> dict[str, int]:
        return {"n": data(shared_notes).count()}

    def own() -> int:
        return data(own_notes).count()

    @routes.get("/open/own")
    def hidden() -> dict[str, int]:
        return {"n": own()}

    @routes.get("/open/bound")
    def bound() -> dict[str, int]:
        services = app_services()
        return {"n": services.data.within(services.store.scope.of("ada"))(own_notes).count()}

    ada = sign_in(make_own(routes, checked=False), "ada")
    assert ada.get("/api/open/shared").get_json() == {"n": 0}
    assert ada.get("/api/open/bound").get_json() == {"n": 0}
    answer = ada.get("/api/open/own")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (401, "unauthenticated")


def test_a_signed_in_view_reaches_the_apps_files_and_what_is_only_the_apps(make_own: MakeOwn) -> None:
    routes = Routes("logos")

    @routes.put("/logo", consumes=["image/png"], body_bytes=1000)
    def put_logo() -> None:
        admins_only()
        app_services().files.put("logo", request.stream, request.mimetype)

    @routes.get("/logo", produces=["image/png"])
    def get_logo() -> Response:
        return file_response(app_services().files, "logo")

    @routes.get("/logo/mine")
    def mine() -> dict[str, Any]:
        app = app_services()
        hidden = (app.dev_identity, app.internal)
        return {"mine": caller_services().files.find("logo") is not None, "hidden": hidden == (None, None)}

    app = make_own(routes)
    root, ada = sign_in(app, "root", role="admin"), sign_in(app, "ada")
    assert ada.put("/api/logo", b"png", Content_Type="image/png").status_code == 403
    assert root.put("/api/logo", b"png", Content_Type="image/png").status_code == 204
    assert ada.get("/api/logo").data == b"png"
    assert root.get("/api/logo/mine").get_json() == {"mine": False, "hidden": True}


def test_a_view_may_need_a_feature_for_some_requests_alone(make_own: MakeOwn) -> None:
    routes = Routes("trips")

    @routes.post("/trips")
    def add(body: Days) -> dict[str, str]:
        if body.days > 3:
            need_feature("diary")
        if body.days > 9:
            need_feature("nobodys")
        return {"plan": "ok"}

    app = make_own(routes)
    bob, ada = sign_in(app, "bob"), sign_in(app, "ada", plan="pro")
    assert bob.post("/api/trips", {"days": 1}).status_code == 200
    refused = bob.post("/api/trips", {"days": 4})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "feature_missing")
    assert "pro" in refused.get_json()["error"]["message"]
    assert ada.post("/api/trips", {"days": 4}).status_code == 200
    assert ada.post("/api/trips", {"days": 10}).status_code == 500, "the log says that no plan has it"


def test_a_route_that_calls_a_model_documents_what_may_come_of_it(make_own: MakeOwn) -> None:
    routes = Routes("trips")

    @routes.post("/trips", calls_model=True)
    def add() -> Days:
        raise ExtractionFailed

    @routes.get("/trips")
    def read() -> Days:
        return Days()

    app = make_own(routes)  # which sees to it that the answer is documented
    ada = sign_in(app, "ada")
    assert ada.post("/api/trips").status_code == 502
    paths = ada.get("/openapi.json").get_json()["paths"]["/api/trips"]
    assert {"502", "503", "504"} <= set(paths["post"]["responses"])
    assert "502" not in paths["get"]["responses"]


def test_a_feature_opens_a_route_to_plans_that_have_it(app: App) -> None:
    refused = sign_in(app, "bob").get("/api/meals/diary")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "feature_missing")
    assert "pro" in refused.get_json()["error"]["message"]
    assert sign_in(app, "ada", plan="pro").get("/api/meals/diary").status_code == 200


def test_a_feature_of_every_plan_costs_no_read(make_own: MakeOwn) -> None:
    app = make_own(routes_of_meals(), settings=SETTINGS + 'features = ["diary"]\n' + PLANS)
    services = app.extensions["firelaunch"].services
    bob = sign_in(app, "bob")
    services.store.close()  # a read would fail
    assert bob.get("/api/meals/diary").status_code == 200


def test_admins_routes_are_for_admins(app: App) -> None:
    assert sign_in(app, "ada").get("/api/meals/all").status_code == 403
    assert sign_in(app, "root", role="admin").get("/api/meals/all").status_code == 200


def test_a_view_enqueues_a_job_for_its_caller_and_for_nobody_else(make_own: MakeOwn) -> None:
    class Days(BaseModel):
        days: int = 7

    def summarise(run: JobRun, payload: Days) -> None: ...

    summarise.__annotations__["payload"] = Days
    summary = job("own_summary")(summarise)
    routes = Routes("summaries")

    @routes.post("/summaries", status=202)
    def begin() -> dict[str, str]:
        return {"id": enqueue(summary, Days(days=1), key="today").id}

    app = make_own(routes)
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    first = ada.post("/api/summaries").get_json()["id"]
    assert ada.post("/api/summaries").get_json()["id"] == first
    assert ada.get(f"/v1/jobs/{first}").get_json()["kind"] == "own_summary"
    assert bob.get(f"/v1/jobs/{first}").status_code == 404
    assert bob.post("/api/summaries").get_json()["id"] != first


# Bounds of public routes


def test_public_routes_are_bounded_a_minute_in_all_and_others_by_their_user(make_own: MakeOwn) -> None:
    settings = SETTINGS.replace("[limits]", "[limits]\npublic_requests_per_minute = 5") + PLANS
    app = make_own(routes_of_meals(), settings=settings)
    client = app.test_client()
    answers = [client.get("/api/meals/menu", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].get_json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 12
    assert client.get("/v1/exports/j1/file?key=x").status_code == 429, "links of exports need no token either"
    assert sign_in(app, "ada").get("/api/meals").status_code == 200


def test_a_users_requests_to_own_routes_are_bounded_a_minute_and_another_users_go_on(make_own: MakeOwn) -> None:
    settings = SETTINGS.replace("[limits]", "[limits]\nown_requests_per_minute = 3") + PLANS
    app = make_own(routes_of_meals(), settings=settings)
    ada = sign_in(app, "ada")
    answers = [ada.get("/api/meals") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
    assert sign_in(app, "bob").get("/api/meals").status_code == 200
    assert ada.get("/v1/chats").status_code == 200


def test_a_route_takes_a_body_up_to_its_own_limit_and_no_larger_one(make_own: MakeOwn) -> None:
    routes = Routes("big")

    @routes.put("/big", body_bytes=300_000)
    def big() -> dict[str, int]:
        return {"bytes": len(request.get_data())}

    @routes.put("/stream", body_bytes=300_000)
    def stream() -> dict[str, int]:
        return {"bytes": len(request.stream.read())}

    ada = sign_in(make_own(routes), "ada")
    for path in ("/api/big", "/api/stream"):
        assert ada.put(path, b"x" * 300_000).get_json() == {"bytes": 300_000}
        assert ada.put(path, b"x" * 300_001).status_code == 413
    too_large = Routes("huge")
    too_large.put("/huge", body_bytes=32 * 2**20)(view)
    assert "Cloud Run ends a larger request" in refusal(make_own, too_large)


def test_a_value_that_makes_its_model_fail_is_a_400_that_names_the_field(make_own: MakeOwn) -> None:
    routes = Routes("naps")

    @routes.post("/naps")
    def add(body: Nap) -> None: ...

    @routes.get("/naps")
    def index(query: NapQuery) -> None: ...

    ada = sign_in(make_own(routes), "ada")
    for wrong in ({"long": "-P999999999DT1S"}, {"divided": 0}):
        answer = ada.post("/api/naps", {"title": "Siesta", **wrong})
        assert answer.status_code == 400
        assert answer.get_json()["error"]["message"].startswith(f"{next(iter(wrong))}:")
    answer = ada.get("/api/naps?long=-P999999999DT1S")
    assert (answer.status_code, answer.get_json()["error"]["message"][:5]) == (400, "long:")


def test_an_error_of_a_view_is_no_fault_of_its_request(make_own: MakeOwn) -> None:
    routes = Routes("bug")

    @routes.post("/bug")
    def bug(body: NewMeal) -> None:
        timedelta(days=10**10)

    assert sign_in(make_own(routes), "ada").post("/api/bug", SENT).status_code == 500


def test_public_routes_take_a_quarter_of_the_threads_at_most_also_while_they_stream(make_own: MakeOwn) -> None:
    routes, entered, go_on = Routes("slow", public=True), threading.Semaphore(0), threading.Event()

    @routes.get("/slow")
    def slow() -> list[str]:
        entered.release()
        go_on.wait(30)
        return []

    @routes.get("/stream")
    def stream() -> Response:
        return Response(iter(["a", "b"]))

    app = make_own(routes, settings=SETTINGS + PLANS + "[cloud]\nconcurrency = 8\n", checked=False)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(app.test_client().get("/api/slow").status_code))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        assert entered.acquire(timeout=30)
    full = app.test_client().get("/api/slow")
    assert (full.status_code, full.headers["Retry-After"]) == (429, "1")
    go_on.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    streams = [app.test_client().get("/api/stream") for _ in range(2)]
    assert app.test_client().get("/api/slow").status_code == 429
    for answer in streams:
        answer.close()
    assert app.test_client().get("/api/slow").status_code == 200


def test_a_pace_admits_a_minutes_units_at_once_and_then_as_time_passes() -> None:
    now = 0.0
    pace = Pace(3, lambda: now)
    assert [pace.admit() for _ in range(4)] == [0, 0, 0, 20]
    now = 10.0
    assert pace.admit() == 10
    now = 20.0
    assert [pace.admit(), pace.admit()] == [0, 20]
    assert [pace.admit("ada") for _ in range(4)] == [0, 0, 0, 20]
    assert pace.admit("bob") == 0


def test_public_routes_are_listed_at_start(make_own: MakeOwn, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        make_own(routes_of_meals())
    listed = [record.getMessage() for record in caplog.records if "public routes" in record.getMessage()]
    assert listed == ["public routes, which need no token: GET /api/meals/menu"]


# The document


def test_the_document_describes_own_routes_under_their_own_tag(app: App) -> None:
    document = app.test_client().get("/openapi.json").get_json()
    operations = {
        (method, path): operation for path, item in document["paths"].items() for method, operation in item.items()
    }
    own = {key: operation for key, operation in operations.items() if key[1].startswith("/api/")}
    assert len(own) == 9
    assert {tuple(operation["tags"]) for operation in own.values()} == {("meals",)}
    assert own["post", "/api/meals"]["summary"] == "Note a meal."
    assert own["get", "/api/meals"]["summary"] == "Index"
    schemas = document["components"]["schemas"]
    listed = own["get", "/api/meals"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert schemas[listed.rpartition("/")[2]]["example"] == [SENT | {"eaten_at": "2026-03-01T12:00:00Z"}]
    assert own["get", "/api/meals/menu"]["security"] == []
    assert own["get", "/api/meals"]["security"] == [{"bearer": []}]
    assert "429" in own["get", "/api/meals/menu"]["responses"]
    assert "feature_missing" in str(own["get", "/api/meals/diary"]["responses"]["403"])
    assert {"204"} == {status for status in own["delete", "/api/meals/{id}"]["responses"] if status < "300"}


def test_own_routes_leave_ours_in_the_document_as_they_are(app: App, documented: Documented) -> None:
    whole, ours = app.test_client().get("/openapi.json?admins=true").get_json(), documented._document
    for path, item in ours["paths"].items():
        assert whole["paths"][path] == item
    for name, schema in ours["components"]["schemas"].items():
        assert whole["components"]["schemas"][name] == schema


def test_models_of_one_name_are_told_apart_in_the_document(make_own: MakeOwn) -> None:
    class Chat(BaseModel):  # the name of a schema of ours
        mine: int

    def other() -> type[BaseModel]:
        class Chat(BaseModel):
            theirs: str

        return Chat

    other_chat = other()
    routes = Routes("names")

    def one() -> Any:
        return Chat(mine=1)

    def two() -> Any:
        return other_chat(theirs="x")

    one.__annotations__["return"], two.__annotations__["return"] = Chat, other_chat
    routes.get("/one")(one)
    routes.get("/two")(two)
    app = make_own(routes)
    document = app.test_client().get("/openapi.json").get_json()
    fields = []
    for path in ("/api/one", "/api/two", "/v1/chats/{id}"):
        operation = document["paths"][path].get("get") or document["paths"][path]["patch"]
        name = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        fields.append(set(document["components"]["schemas"][name]["properties"]))
    assert fields[:2] == [{"mine"}, {"theirs"}]
    assert "messages" in fields[2]
    assert sign_in(app, "ada").get("/api/one").get_json() == {"mine": 1}


# What is refused at start


def refusal(make_own: MakeOwn, *routes: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        make_own(*routes)
    return raised.value.message


def view() -> None:
    """Nothing."""


HERE = f"view ({__file__}:{view.__code__.co_firstlineno})"


OURS = "/v1/chats /v1/own /v2/own /internal/jobs/x /dev/own /docs /docs/own /openapi.json /mcp /live /ready /healthz"


@pytest.mark.parametrize("path", [*OURS.split(), "/readyz", "/tryout/own", "/", "/<page>", "/<path:page>"])
def test_a_route_where_ours_are_is_refused_and_its_view_named(make_own: MakeOwn, path: str) -> None:
    for prefix, rule in ((None, path), ("/" + path.strip("/").partition("/")[0], path)):
        routes = Routes("own", prefix=prefix)
        routes.get(rule)(view)
        said = refusal(make_own, routes)
        assert HERE in said
        if prefix is None:
            assert f"GET {path}," in said


def test_a_placeholder_without_a_field_is_refused_with_a_model_named_after_the_view(make_own: MakeOwn) -> None:
    def price_of() -> None: ...

    routes = Routes("prices")
    routes.get("/prices/<day>")(price_of)
    assert "Add one: class PriceOfPath(BaseModel): day: str" in refusal(make_own, routes)


def test_two_routes_of_one_path_are_refused_whatever_their_placeholders_are_called(make_own: MakeOwn) -> None:
    class MealPath(BaseModel):
        meal: str

    def other(path: MealPath) -> None: ...

    def again(path: Path) -> None: ...

    other.__annotations__["path"] = MealPath
    first, second = Routes("first"), Routes("second")
    first.get("/meals/<meal>")(other)
    second.get("/meals/<id>")(again)
    said = refusal(make_own, first, second)
    assert f"{__file__}:{other.__code__.co_firstlineno}" in said
    assert f"{__file__}:{again.__code__.co_firstlineno}" in said
    make_own(first)


def test_declarations_that_cannot_work_are_refused_with_their_mend(make_own: MakeOwn) -> None:
    def unknown(meal: str) -> None: ...

    def unmodelled(body: str) -> None: ...

    def unsaid():  # type: ignore[no-untyped-def]
        ...

    def unserialisable() -> threading.Event: ...

    def unnamed(path: Path) -> None: ...

    def pathless() -> None: ...

    def undefined() -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    for rule, bad, options, said in (
        ("/x", unknown, {}, "'meal'"),
        ("/x", unmodelled, {}, "'body' is not annotated with a pydantic model"),
        ("/x", unsaid, {}, "say what the view returns"),
        ("/x", unserialisable, {}, "pydantic cannot make JSON"),
        ("/x", unnamed, {}, "'id'"),
        ("/x/<meal>", pathless, {}, "<meal>"),
        ("/x", undefined, {}, "Nowhere"),
        ("x", view, {}, "the path is not valid"),
        ("/x/<nothing:id>", view, {}, "the path is not valid"),
        ("/x", view, {"feature": "dairy"}, 'features = ["dairy"]'),
        ("/x", view, {"feature": "diary", "public": True}, "a public route has no caller"),
    ):
        routes = Routes("own", prefix="/api" if rule != "x" else "")
        routes.get(rule, **options)(bad)  # type: ignore[type-var, arg-type]
        assert said in refusal(make_own, routes), said
    assert "firelaunch's own routes have this name" in refusal(make_own, Routes("chats"))
    assert "firelaunch's own routes have this tag" in refusal(make_own, Routes("own", "useChat"))
    assert "other routes of the app" in refusal(make_own, Routes("own"), Routes("own"))
    assert "a name is" in refusal(make_own, Routes("own.routes"))
    assert "give a Routes" in refusal(make_own, routes_of_meals)


def test_all_faults_are_named_at_once(make_own: MakeOwn) -> None:
    routes = Routes("own", prefix=None)
    routes.get("/v1/a")(view)
    routes.get("/v1/b")(view)
    assert len(refusal(make_own, routes).splitlines()) == 2


def test_one_set_of_routes_serves_any_number_of_apps(make_own: MakeOwn) -> None:
    routes = routes_of_meals()
    for app in (make_own(routes), make_own(routes)):
        assert sign_in(app, "ada").get("/api/meals/m1").get_json() == SENT


def test_pages_of_the_named_origins_may_call_own_routes(make_own: MakeOwn) -> None:
    app = make_own(routes_of_meals(), settings=SETTINGS + PLANS + '[cors]\norigins = ["https://app.example.com"]\n')
    for origin, allowed in (("https://app.example.com", True), ("https://evil.example.com", False)):
        preflight = app.test_client().options(
            "/api/meals/m1", headers={"Origin": origin, "Access-Control-Request-Method": "PUT"}
        )
        assert (preflight.headers.get("Access-Control-Allow-Origin") == origin) is allowed


def test_a_limited_route_says_so_in_the_form_of_all_errors(make_own: MakeOwn) -> None:
    routes = Routes("limited")

    @routes.get("/limited", errors=[RateLimited])
    def limited() -> None:
        raise RateLimited(retry_after=2.5)

    answer = sign_in(make_own(routes), "ada").get("/api/limited")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
