"""An app's own routes and functions as tools of agents: as the routes themselves, and no further."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path as File
from typing import Any, Literal

import pytest
from firelaunch.api.base import Body, Path, admins_only, caller, caller_services, data
from firelaunch.api.crud import crud
from firelaunch.api.mcp_own import own_tools
from firelaunch.api.own_routes import OwnRoutes
from firelaunch.api.routes import Routes
from firelaunch.errors import Conflict, SettingsError
from firelaunch.llm.tools import Tool, ToolError
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, User, sign_in, write_app
from flask import Response, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

PLANS = '\n[plans.pro]\nrequests_per_minute = 1000\ndaily_usd = "5"\nfeatures = ["reports"]\n'


class Meal(Record):
    name: str = Field(max_length=20)
    day: date
    kcal: int = 0


class ToolItem(Record):
    name: str


class NewNote(Body):
    text: str = Field(min_length=1, description="What to note.")
    kind: Literal["short", "long"] = "short"
    day: date | None = None


class Note(BaseModel):
    id: str
    text: str
    by: str
    day: date | None = None


class Loud(BaseModel):
    loud: bool = False
    times: list[int] = []


class Numbers(RootModel[list[int]]):
    pass


meals = Collection("meals", Meal, owner="user", queries=[("name", "-day")])
meal_routes = crud(meals)
routes = Routes("notes")
menu = Routes("menu", public=True)


@routes.put("/notes/<id>")
def write(path: Path, query: Loud, body: NewNote) -> Note:
    """Write a note.

    It stays.
    """
    text = f"{body.text.upper() if query.loud else body.text}{len(query.times) or ''}"
    return Note(id=path.id, text=text, by=caller().uid, day=body.day)


@routes.get("/notes/<id>/secret")
def secret(path: Path) -> Note:
    """Read what no tool offers."""
    return Note(id=path.id, text="secret", by=caller().uid)


@routes.get("/notes/<id>")
def read(path: Path) -> Note:
    """Read a note."""
    return Note(id=path.id, text="plain", by=caller().uid)


@routes.get("/sums")
def add_up(query: Loud) -> int:
    """Add up numbers."""
    return sum(query.times)


@routes.get("/reports", feature="reports")
def report() -> list[str]:
    """Read the report."""
    return ["a", "b"]


@routes.get("/admin")
def admin() -> dict[str, Any]:
    """Read what admins read."""
    admins_only()
    return {"ok": True}


@routes.get("/picture")
def picture() -> Response:
    """Read a picture."""
    return Response(b"\x89PNG", mimetype="image/png")


@routes.get("/zip")
def archive() -> Response:
    """Read an archive."""
    return Response(b"PK", mimetype="application/zip")


@routes.post("/faults")
def fault() -> None:
    """Fail."""
    raise RuntimeError("secret of the code")


@routes.delete("/conflicts")
def conflict() -> None:
    """Refuse."""
    raise Conflict("Somebody else has it.")


@routes.post("/headers")
def headers() -> dict[str, Any]:
    """Tell what a request brought."""
    return {"headers": sorted(request.headers.keys()), "body": request.get_data(as_text=True)}


@menu.get("/menu")
def today() -> list[str]:
    """Read the menu."""
    return ["Soup"]


def weigh(grams: int, unit: Literal["g", "kg"] = "g") -> dict[str, Any]:
    """Weigh something.

    Args:
        grams: how much.
    """
    return {"weight": grams / 1000 if unit == "kg" else grams, "by": caller().uid}


def eaten() -> list[str]:
    """List the names of the meals."""
    return [meal.name for meal in data(meals).list().items]


def plan() -> str:
    """Say whether the plan has reports."""
    return "yes" if "reports" in caller_services().features else "no"


def failing(how: str) -> None:
    """Fail in some way."""
    raise {"told": ToolError("No such thing."), "coded": Conflict("Taken.")}.get(
        how, RuntimeError("secret of the code")
    )


EVERYTHING = [meal_routes, routes, menu, weigh, Tool(eaten, seconds=5), plan, failing]
Make = Callable[..., App]


@pytest.fixture
def make(tmp_path: File) -> Iterator[Make]:
    made: list[App] = []

    def make(
        offered: Sequence[Any] = EVERYTHING, own: Sequence[Any] = (meal_routes, routes, menu), more: str = ""
    ) -> App:
        services = build(
            Settings.load(write_app(tmp_path / "app", SETTINGS.replace("[limits]", f"[limits]{more}") + PLANS), {})
        )
        app = App("test", routes=own, collections=[meals], mcp=offered)
        app.services = services  # type: ignore[attr-defined]
        init_app(app, services, lambda _: iter(()))
        made.append(app)
        return app

    yield make
    for app in made:
        app.services.store.close()  # type: ignore[attr-defined]


@pytest.fixture
def app(make: Make) -> App:
    return make()


@pytest.fixture
def ada(app: App) -> User:
    return sign_in(app, "ada")


def rpc(user: User, method: str, params: Any, accept: str = "application/json") -> dict[str, Any]:
    answer = user.client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        headers={"Authorization": f"Bearer {user.token}", "Accept": accept, "X-Other": "x"},
    )
    text = answer.text if answer.mimetype == "application/json" else answer.text.rpartition("data: ")[2]
    found: dict[str, Any] = json.loads(text)
    return found


def call(user: User, tool: str, accept: str = "application/json", **arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = rpc(user, "tools/call", {"name": tool, "arguments": arguments}, accept)["result"]
    return result


def got(result: dict[str, Any]) -> Any:
    assert not result["isError"], result
    return result["structuredContent"]


def code_of(result: dict[str, Any]) -> str:
    assert result["isError"]
    return str(json.loads(result["content"][0]["text"])["error"]["code"])


def test_each_route_and_function_is_a_tool_with_its_own_name_and_schema(ada: User) -> None:
    listed = {tool["name"]: tool for tool in rpc(ada, "tools/list", {})["result"]["tools"]}
    assert set(listed) - {"ask", "list_chats", "search", "list_documents"} == {
        *("list_meals", "add_meal", "get_meal", "update_meal", "delete_meal"),
        *("notes_write", "notes_secret", "notes_read", "notes_add_up", "notes_report", "notes_admin", "notes_picture"),
        *("notes_archive", "notes_fault", "notes_conflict", "notes_headers", "menu_today"),
        *("weigh", "eaten", "plan", "failing"),
    }
    write = listed["notes_write"]
    assert write["inputSchema"]["required"] == ["id", "text"]
    assert set(write["inputSchema"]["properties"]) == {"id", "loud", "times", "text", "kind", "day"}
    assert write["inputSchema"]["properties"]["text"]["description"] == "What to note."
    assert write["inputSchema"]["additionalProperties"] is False
    assert write["description"] == "Write a note.\n\nIt stays."
    assert set(write["outputSchema"]["properties"]) == {"id", "text", "by", "day"}
    assert listed["notes_read"]["annotations"]["readOnlyHint"]
    assert listed["weigh"]["inputSchema"]["required"] == ["grams"]
    assert listed["weigh"]["inputSchema"]["properties"]["grams"]["description"] == "how much."


def test_routes_that_no_agent_can_use_are_left_out_and_refused_if_they_are_named_alone(
    tmp_path: File, caplog: pytest.LogCaptureFixture
) -> None:
    files = Routes("files")

    @files.put("/files/<id>/picture", consumes=["image/png"])
    def put_picture(path: Path) -> None: ...

    @files.get("/files/<id>/film", produces=["video/mp4"])
    def film(path: Path) -> Response: ...

    @files.get("/files/<id>/picture", produces=["image/png"])
    def get_picture(path: Path) -> Response: ...

    items = crud(Collection("tool_items", ToolItem, owner="user"))
    loaded = Settings.load(write_app(tmp_path, SETTINGS), {})
    services = build(loaded)

    def names(*offered: Any) -> set[str]:
        own = OwnRoutes([files, items], [], loaded, [items.collection])
        return {tool.name for tool in own_tools(offered, own, 1)}

    caplog.set_level("INFO")
    assert names(files, items) == {
        *("files_get_picture", "list_tool_items", "add_tool_item", "get_tool_item"),
        *("update_tool_item", "delete_tool_item"),
    }
    assert (
        "mcp leaves out PUT /api/files/<id>/picture: an agent cannot send its body, which is image/png" in caplog.text
    )
    assert "GET /api/files/<id>/film" in caplog.text
    for view in (put_picture, film):
        with pytest.raises(SettingsError, match="an agent cannot"):
            names(view)
    services.store.close()


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/event-stream"])
def test_a_tool_answers_as_its_route_does(ada: User, accept: str) -> None:
    written = call(ada, "notes_write", accept, id="n1", text="hey", loud=True, times=[1, 2], day="2026-03-01")
    assert got(written) == {"id": "n1", "text": "HEY2", "by": "ada", "day": "2026-03-01"}
    assert json.loads(written["content"][0]["text"]) == written["structuredContent"]
    assert got(call(ada, "notes_add_up", accept, times=[1, 2, 3])) == {"result": 6}
    assert got(call(ada, "menu_today", accept)) == {"result": ["Soup"]}
    assert got(call(ada, "weigh", accept, grams=500, unit="kg")) == {"weight": 0.5, "by": "ada"}
    shown = call(ada, "notes_picture", accept)["content"][0]
    assert shown == {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}
    assert code_of(call(ada, "notes_archive", accept)) == "invalid_request"
    assert code_of(call(ada, "notes_conflict", accept)) == "conflict"


def test_the_routes_of_a_collection_reach_the_callers_records_alone(app: App, ada: User) -> None:
    made = got(call(ada, "add_meal", name="Soup", day="2026-03-01", kcal=3))
    call(ada, "add_meal", name="Stew", day="2026-03-02")
    bob = sign_in(app, "bob")
    page = got(call(ada, "list_meals", name="Soup", limit=10))
    assert [meal["name"] for meal in page["items"]] == ["Soup"]
    assert got(call(ada, "update_meal", id=made["id"], kcal=5))["kcal"] == 5
    assert sorted(got(call(ada, "eaten"))["result"]) == ["Soup", "Stew"]
    assert got(call(bob, "eaten")) == {"result": []}
    for name in ("get_meal", "update_meal"):
        change = {"kcal": 9} if name == "update_meal" else {}
        assert code_of(call(bob, name, id=made["id"], **change)) == "not_found"
    assert not call(bob, "delete_meal", id=made["id"])["isError"]
    assert got(call(ada, "get_meal", id=made["id"]))["kcal"] == 5
    assert call(ada, "delete_meal", id=made["id"])["content"][0]["text"] == "Done."
    assert code_of(call(ada, "get_meal", id=made["id"])) == "not_found"


BAD: list[tuple[str, dict[str, Any]]] = [
    ("notes_write", {}),
    ("notes_write", {"id": "n"}),
    ("notes_write", {"id": "n", "text": ""}),
    ("notes_write", {"id": "n", "text": 5}),
    ("notes_write", {"id": "n", "text": "x", "kind": "other"}),
    ("notes_write", {"id": "n", "text": "x", "day": "tomorrow"}),
    ("notes_write", {"id": "n", "text": "x", "loud": "perhaps"}),
    ("notes_write", {"id": "n", "text": "x", "uid": "bob"}),
    ("notes_write", {"id": "n", "text": "x", "times": {"a": 1}}),
    ("notes_add_up", {"times": "many"}),
    ("list_meals", {"limit": 1000}),
    ("list_meals", {"limit": None, "kcal": 5}),
    ("weigh", {}),
    ("weigh", {"grams": "many"}),
    ("weigh", {"grams": 1, "uid": "bob"}),
]


@pytest.mark.parametrize(("name", "arguments"), BAD)
def test_arguments_that_do_not_fit_are_refused(ada: User, name: str, arguments: dict[str, Any]) -> None:
    assert code_of(call(ada, name, **arguments)) in {"invalid_request", "not_found"}


@pytest.mark.parametrize(
    "value", ["n/secret", "n%2Fsecret", "../meals", "..", "", "?a=b", "#", "n\n", "/", "é/x", None, 5, ["n"], {"a": 1}]
)
def test_a_value_of_the_path_leads_to_no_other_route(ada: User, value: Any) -> None:
    result = call(ada, "notes_read", id=value)
    if not result["isError"]:
        assert got(result)["text"] == "plain"
        assert got(result)["id"] == str(value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("an/.%2F?#;\\ \n\0é=&~:")) | st.text())
def test_no_value_of_a_path_reaches_another_route_or_makes_a_500(ada: User, value: str) -> None:
    result = call(ada, "notes_read", id=value)
    if result["isError"]:
        assert code_of(result) in {"not_found", "invalid_request", "rate_limited"}
    else:
        assert (got(result)["text"], got(result)["id"]) == ("plain", value)


def test_gates_of_the_route_are_gates_of_the_tool(app: App, ada: User) -> None:
    assert code_of(call(ada, "notes_report")) == "feature_missing"
    assert got(call(ada, "plan")) == {"result": "no"}
    assert code_of(call(ada, "notes_admin")) == "forbidden"
    assert got(call(sign_in(app, "root", role="admin"), "notes_admin")) == {"ok": True}


def test_the_limits_of_own_routes_hold_for_tools(make: Make) -> None:
    app = make(more="\nown_requests_per_minute = 3")
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    assert not call(ada, "weigh", grams=1)["isError"]
    assert not call(ada, "notes_read", id="n")["isError"]
    assert not call(ada, "weigh", grams=1)["isError"]
    for refused in (call(ada, "notes_read", id="n"), call(ada, "weigh", grams=1)):
        assert code_of(refused) == "rate_limited"
        assert json.loads(refused["content"][0]["text"])["error"]["retry_after_seconds"] >= 1
    assert not call(bob, "weigh", grams=1)["isError"]


def test_a_fault_of_the_apps_code_tells_nothing(ada: User) -> None:
    for result in (call(ada, "notes_fault"), call(ada, "failing", how="")):
        assert result["isError"]
        assert "secret" not in json.dumps(result)
    assert call(ada, "failing", how="told")["content"][0]["text"] == "No such thing."
    assert code_of(call(ada, "failing", how="coded")) == "conflict"


def test_a_route_gets_nothing_of_the_agents_own_request(ada: User) -> None:
    brought = got(call(ada, "notes_headers"))
    assert brought["body"] == ""
    assert not {"X-Other", "Accept", "Mcp-Session-Id"} & set(brought["headers"])


def test_a_client_cannot_name_the_caller_of_a_request(app: App) -> None:
    answer = app.test_client().get("/api/notes/n", headers={"firelaunch.caller": "ada", "Firelaunch-Caller": "ada"})
    assert answer.status_code == 401


def taken() -> None:
    """Do something."""


def unknown(x: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do something."""


def bare() -> None:
    pass


def approved() -> None:
    """Do something."""


taken.__name__ = "ask"
clashing = Routes("clash")
elsewhere = Routes("elsewhere")


@clashing.put("/clash/<text>")
def both(path: type("P", (BaseModel,), {"__annotations__": {"text": str}}), body: NewNote) -> None:  # type: ignore[valid-type]
    """Clash."""


@clashing.post("/other", operation_id="plan")
def other() -> None:
    """Have another's name."""


@clashing.post("/numbers")
def numbers(body: Numbers) -> None:
    """Take numbers."""


@clashing.get("/header")
def header(header: Loud) -> None:
    """Take a header."""


REFUSED: list[tuple[Sequence[Any], str]] = [
    ([5], "it is a int"),
    (["meals"], "it is a str"),
    ([elsewhere], "the app does not declare the routes 'elsewhere'"),
    ([taken], "firelaunch has a tool 'ask' already"),
    ([plan, plan], "has a tool 'plan' already"),
    ([unknown], "Missing"),
    ([bare], "has no docstring"),
    ([Tool(approved, approve=True)], "approval"),
    ([both], "both have a field 'text'"),
    ([numbers], "its body has no fields"),
    ([header], "cannot send the view's 'header'"),
    ([plan, other], "has a tool 'plan' already"),
    ([lambda: None], "no name"),
]


@pytest.mark.parametrize(("offered", "told"), REFUSED)
def test_what_cannot_be_a_tool_is_refused_at_start_with_its_place(
    make: Make, offered: Sequence[Any], told: str
) -> None:
    with pytest.raises(SettingsError, match="mcp=") as refused:
        make(offered, own=(meal_routes, routes, menu, clashing))
    assert told in str(refused.value)
    if callable(offered[-1]):
        assert "test_mcp_own.py:" in str(refused.value)


def test_one_view_can_be_offered_alone(make: Make) -> None:
    listed = rpc(sign_in(make([read]), "ada"), "tools/list", {})["result"]["tools"]
    assert [tool["name"] for tool in listed][4:] == ["notes_read"]
