"""The OpenAPI document has what generators of clients need, of firelaunch's routes and of an app's own alike."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from firelaunch import Body, Collection, PageQuery, Record, Routes, crud
from firelaunch import Path as RecordKey
from firelaunch.api.openapi import describe
from firelaunch.api.schemas import Schemas
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.documented import watch
from flask import Response, request
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

REFERENCE = "#/components/schemas/"
MAP_OR_ANYTHING = {"additionalProperties", "description", "type", "readOnly"}
"""The keys of an object's schema that has no fields of its own."""


class Level(IntEnum):
    """How much."""

    LOW = 1
    HIGH = 2


class Found(BaseModel):
    """Something with a field of bytes, which JSON has as a string."""

    content: bytes = b"x"
    level: Level = Level.LOW


class Colour(StrEnum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    """A part: what a client sends of it may be less than what it gets."""

    name: str
    count: int = 1
    colour: Colour = Colour.RED


class Chat(Record):
    """A record with the name of a schema of firelaunch's."""

    title: str
    mood: Literal["good", "bad"] = "good"
    parts: list[Part] = Field(default_factory=list)
    said_at: datetime | None = None
    tone: Literal["soft", "loud"] | None = None
    marks: dict[str, int] | None = None
    links: list[dict[str, str]] | None = None


class Sea(BaseModel):
    """By ship."""

    way: Literal["sea"] = "sea"
    port: str = ""


class Air(BaseModel):
    """By plane."""

    way: Literal["air"] = "air"
    hours: tuple[int, int] = (0, 24)


class Order(Body):
    """Something to be done with parts."""

    part: Part = Part(name="wheel")
    by: Annotated[Sea | Air, Field(discriminator="way")] | None = None
    urgent: bool = False


notes = Collection("notes", Chat, owner="user", queries=[("mood", "-said_at")])
note_routes = crud(notes)
own = Routes("chats-2", prefix="/api")
public = Routes("menu", public=True)


@own.post("/orders")
def create_chat(body: Order) -> Part:
    """Order a part; the view has the name of an operation of firelaunch's."""
    return body.part


@own.get("/orders")
def delete() -> list[Part]:
    """List orders; a view may have any name."""
    return [Part(name="wheel")]


@own.get("/found")
def found(query: PageQuery) -> Found | None:
    """Find it, or nothing."""
    return Found() if query.limit > 1 else None


@own.put("/pictures/<id>", consumes=("image/png", "image/jpeg"))
def put_picture(path: RecordKey) -> None:
    """Keep a picture."""
    assert request.get_data(), path.id


@public.get("/picture", produces=["image/png"])
def picture() -> Response:
    """Read a picture."""
    return Response(b"png", mimetype="image/png")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app with routes of its own, whose names are those of firelaunch's where they can be."""
    app = App("own", routes=[note_routes, own, public], collections=[notes])
    services = build(Settings.load(write_app(tmp_path_factory.mktemp("own") / "app", SETTINGS), {}))
    init_app(app, services, lambda _: iter(()))
    problems = watch(app)
    yield app
    services.store.close()
    assert problems == []  # each answer of these tests is as the document says


@pytest.fixture(scope="module")
def document(app: App) -> dict[str, Any]:
    """Its document."""
    found: dict[str, Any] = app.test_client().get("/openapi.json?admins=true").get_json()
    return found


@pytest.fixture(scope="module")
def schemas(document: dict[str, Any]) -> dict[str, Any]:
    """The document's named schemas."""
    found: dict[str, Any] = document["components"]["schemas"]
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def inner_schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a schema, itself too; not what stands in its examples."""
    if isinstance(value, list):
        for item in value:
            yield from inner_schemas(item)
    elif isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key == "properties":
                yield from inner_schemas(list(item.values()))
            elif key in {"items", "anyOf", "oneOf", "allOf", "additionalProperties", "prefixItems"}:
                yield from inner_schemas(item)


def media(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The media types and schemas of an operation's bodies."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        for media_type, content in part.get("content", {}).items():
            yield media_type, content["schema"]


def used_by_requests(document: dict[str, Any]) -> set[str]:
    """The names of all schemas of what clients send."""
    found: set[str] = set()
    waiting = [
        content["schema"] for _, operation in operations(document) for content in sent_contents(operation).values()
    ]
    while waiting:
        for schema in inner_schemas(waiting.pop()):
            name = schema.get("$ref", "").removeprefix(REFERENCE)
            if name and name not in found:
                found.add(name)
                waiting.append(document["components"]["schemas"][name])
    return found


def sent_contents(operation: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
    return content


def test_operation_ids_are_unique_short_names_in_every_language(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len({name.lower() for name in ids}) == len(ids)
    for name in ids:
        assert re.fullmatch(r"[a-z][A-Za-z0-9]{2,29}", name), name
    assert {"createChat", "sendMessage", "uploadDocument", "listNotes", "getChat", "menuPicture"} <= set(ids)


def test_own_operations_leave_the_ids_and_schemas_of_ours_to_ours(document: dict[str, Any], make_app: Any) -> None:
    ours = make_app().test_client().get("/openapi.json").get_json()
    for path, methods in ours["paths"].items():
        assert document["paths"][path] == methods
    for name, schema in ours["components"]["schemas"].items():
        assert document["components"]["schemas"][name] == schema


def test_the_upload_is_an_operation_of_its_own_and_each_operation_takes_one_kind_of_body(
    document: dict[str, Any], schemas: dict[str, Any]
) -> None:
    upload = document["paths"]["/v1/uploads"]["post"]
    assert list(sent_contents(upload)) == ["multipart/form-data"]
    form = schemas[sent_contents(upload)["multipart/form-data"]["schema"]["$ref"].removeprefix(REFERENCE)]
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}
    assert form["required"] == ["file"]
    for name, operation in operations(document):
        kinds = {media_type.partition("/")[0] for media_type in sent_contents(operation)}
        assert len(kinds) <= 1, name


def test_every_error_has_the_one_schema(document: dict[str, Any]) -> None:
    errors = 0
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "4" and not name.endswith(" /mcp"):  # JSON-RPC has a form of its own
                assert response["content"]["application/json"]["schema"] == {"$ref": f"{REFERENCE}ErrorAnswer"}, name
                errors += 1
    assert errors > 300


def test_every_model_has_a_name(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    assert schemas["Chat2"]["properties"]["tone"]["anyOf"] == [{"$ref": f"{REFERENCE}Chat2Tone"}, {"type": "null"}]
    assert schemas["Chat2Tone"] == {"type": "string", "enum": ["soft", "loud"]}
    for name in schemas:
        assert re.fullmatch(r"[A-Z][A-Za-z]{1,29}(2[A-Za-z]*)?", name), name  # Chat2 is the app's own Chat
    for name, operation in operations(document):
        for media_type, schema in media(operation):
            for part in inner_schemas(schema):
                anonymous = "properties" in part or "allOf" in part or "anyOf" in part
                assert not anonymous, (name, media_type)
    for name, schema in schemas.items():
        fields = [part for key, part in schema.items() if key in {"properties", "items", "anyOf"}]
        for part in inner_schemas([list(each.values()) if isinstance(each, dict) else each for each in fields]):
            assert "properties" not in part, (name, part)
            if {"type": "null"} in part.get("anyOf", ()):
                assert not any("enum" in kind or kind.get("type") == "object" for kind in part["anyOf"]), (name, part)
            assert part.get("type") != "object" or set(part) <= MAP_OR_ANYTHING, (name, part)


def test_clients_of_users_get_under_100_models_and_no_route_of_admins(app: App, document: dict[str, Any]) -> None:
    own: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    assert len(own["components"]["schemas"]) < 100
    admins = {path: item for path, item in document["paths"].items() if path.startswith("/v1/ops/")}
    assert len(admins) > 15
    assert own["paths"].keys() == document["paths"].keys() - admins.keys()


def test_every_reference_leads_to_a_schema_and_every_schema_is_used(
    document: dict[str, Any], schemas: dict[str, Any]
) -> None:
    text = json.dumps({**document, "components": {"schemas": schemas}})
    assert "$defs" not in text
    referred = set(re.findall(rf'"\$ref": "{REFERENCE}([^"]+)"', text))
    assert referred == set(schemas)


def test_times_are_date_times(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    found = 0
    for name, schema in schemas.items():
        for field, said in schema.get("properties", {}).items():
            if re.search(r"(_at|^at|_tick|_ticks)$", field):
                formats = [part.get("format") for part in inner_schemas(said) if part.get("type") == "string"]
                assert formats == ["date-time"], (name, field)
                found += 1
            if field == "day" and name != "OpsBudget":  # there it is the budget of a day
                assert said["format"] == "date", name
    assert found > 20
    queried = {p["name"]: p["schema"] for p in document["paths"]["/api/notes"]["get"]["parameters"]}
    assert queried["said_at_from"] == {"type": "string", "format": "date-time"}


def test_security_is_said_of_each_operation(document: dict[str, Any]) -> None:
    open_paths = {name for name, operation in operations(document) if operation["security"] == []}
    assert {"GET /live", "GET /docs", "POST /dev/token", "GET /api/picture"} <= open_paths
    for name, operation in operations(document):
        assert operation["security"] == ([] if name in open_paths else [{"bearer": []}])
        assert name in open_paths or not name.startswith("GET /dev"), name
    assert not {"GET /v1/me", "POST /v1/chats", "POST /mcp"} & open_paths


def test_there_is_a_server_to_send_to(document: dict[str, Any]) -> None:
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_a_default_makes_nothing_required_of_a_client(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    for name, schema in schemas.items():
        for field, said in schema.get("properties", {}).items():
            assert "default" not in said, (name, field)
    assert schemas["NewChat"].get("required") is None
    sent = used_by_requests(document)
    assert {"NewChat", "Order", "PartInput"} <= sent
    assert schemas["PartInput"]["required"] == ["name"]
    assert schemas["Order"].get("required") is None
    assert schemas["Order"]["properties"]["urgent"]["description"] == "If left out: false."
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert not (parameter.get("required") and "default" in parameter["schema"]), name


def test_the_field_that_tells_a_unions_members_apart_is_required(app: App, schemas: dict[str, Any]) -> None:
    assert schemas["Sea"]["required"] == schemas["Air"]["required"] == ["way"]
    assert schemas["Air"]["properties"]["hours"]["items"] == {}
    ada = sign_in(app, "ada")
    assert ada.post("/api/orders", {"by": {"way": "air", "hours": [1, 2]}}).status_code == 200
    assert ada.post("/api/orders", {"by": {"hours": [1, 2]}}).status_code == 400


def test_what_pydantic_writes_is_always_there_and_the_document_says_so(
    app: App, document: dict[str, Any], schemas: dict[str, Any]
) -> None:
    assert schemas["Part"]["required"] == ["name", "count", "colour"]
    ordered = document["paths"]["/api/orders"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert ordered == {"$ref": f"{REFERENCE}Part"}
    ada = sign_in(app, "ada")
    assert ada.post("/api/orders", {"part": {"name": "wheel"}}).get_json() == {
        "name": "wheel",
        "count": 1,
        "colour": "red",
    }
    note = ada.post("/api/notes", {"title": "x"}).get_json()
    assert {"mood", "parts", "said_at"} <= note.keys()
    assert set(schemas["Chat2"]["required"]) == note.keys()


def test_the_orders_of_a_list_have_names_that_languages_allow(document: dict[str, Any]) -> None:
    parameters = {p["name"]: p["schema"] for p in document["paths"]["/api/notes"]["get"]["parameters"]}
    order = parameters["order"]
    names = dict(zip(order["x-enum-varnames"], order["enum"], strict=True))
    assert names["said_at_descending"] == "-said_at"
    assert all(name.isidentifier() for name in names)


def test_an_answer_that_may_be_nothing_is_a_204_and_its_bytes_and_numbers_are_what_json_has(
    app: App, document: dict[str, Any], schemas: dict[str, Any]
) -> None:
    answers = document["paths"]["/api/found"]["get"]["responses"]
    assert {status for status in answers if status < "3"} == {"200", "204"}
    assert schemas["Found"]["properties"]["content"] == {"type": "string"}
    assert schemas["Level"]["x-enum-varnames"] == ["LOW", "HIGH"]
    ada = sign_in(app, "ada")
    assert ada.get("/api/found").get_json() == {"content": "x", "level": 1}
    assert ada.get("/api/found?limit=1").status_code == 204


def test_a_body_that_is_no_json_is_described_and_no_other_is_taken(app: App, document: dict[str, Any]) -> None:
    kept = document["paths"]["/api/pictures/{id}"]["put"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    assert kept["requestBody"] == {"required": True, "content": {"image/png": binary, "image/jpeg": binary}}
    read = document["paths"]["/api/picture"]["get"]
    assert read["responses"]["200"]["content"] == {"image/png": binary}
    ada = sign_in(app, "ada")
    headers = {"Authorization": f"Bearer {ada.token}"}
    for media_type, status in [("image/png", 204), ("image/jpeg", 204), ("text/html", 400), (None, 400)]:
        answer = ada.client.put("/api/pictures/x", data=b"png", headers=headers, content_type=media_type)
        assert answer.status_code == status, answer.text


def test_the_document_is_compressed_and_has_a_tag(app: App) -> None:
    client = app.test_client()
    plain = client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    packed = client.get("/openapi.json", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 10
    assert {plain.headers["Vary"], packed.headers["Vary"]} == {"Accept-Encoding"}
    refused = client.get("/openapi.json", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers
    for encoding in ("gzip", "identity"):
        headers = {"If-None-Match": packed.headers["ETag"], "Accept-Encoding": encoding}
        same = client.get("/openapi.json", headers=headers)
        assert (same.status_code, same.data) == (304, b"")
        assert same.headers["ETag"] == packed.headers["ETag"]
    other = client.get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    assert packed.headers["Cache-Control"] == "no-cache"


def test_the_tag_is_that_of_every_instance_and_changes_with_the_document(make_app: Any) -> None:
    def tag(settings: str) -> str:
        found: str = make_app(settings).test_client().get("/openapi.json").headers["ETag"]
        return found

    assert tag(SETTINGS) == tag(SETTINGS)
    assert tag(SETTINGS) != tag(SETTINGS.replace('name = "Demo"', 'name = "Other"'))


@given(st.lists(st.sampled_from(["Part", "Chat", "Other"]), min_size=1, max_size=6), st.data())
def test_models_of_one_name_never_share_a_schema_that_is_not_theirs(names: list[str], data: Any) -> None:
    schemas, expected = Schemas(), []
    inner: list[type[BaseModel]] = []
    for name in names:
        fields: dict[str, Any] = {data.draw(st.sampled_from("abc")): data.draw(st.sampled_from([int, str, *inner]))}
        members = {"__annotations__": fields, "__module__": __name__}
        model: type[BaseModel] = type(name, (BaseModel,), members)
        inner.append(model)
        use = data.draw(st.sampled_from(["request", "answer", "whole answer"]))
        expected.append((model, schemas.reference(model, use)))
    for model, reference in expected:
        root = {**reference, "components": {"schemas": schemas.named}}
        theirs = model.model_json_schema()
        for value in ({}, {"a": 1}, {"a": "x"}, {"b": {"a": 1}}, {"a": {"a": "x"}}, {"c": {"b": 2}}, {"b": "x"}):
            assert Draft202012Validator(root).is_valid(value) == Draft202012Validator(theirs).is_valid(value)


def test_an_operation_id_that_is_taken_is_made_free() -> None:
    def routes(name: str, view_name: str, path: str) -> Routes:
        made = Routes(name)

        def view() -> None:
            """Do it."""

        view.__name__ = view_name
        made.get(path)(view)
        return made

    groups = [routes("a", "b_c", "/1"), routes("a_b", "c", "/2"), routes("a-b", "c", "/3")]
    paths = describe("x", "1", [], groups).content["paths"]
    assert [item["get"]["operationId"] for item in paths.values()] == ["aBC", "aBC2", "aBC3"]


# Answers


def test_an_answer_without_a_body_has_no_type(app: App) -> None:
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    for answer in (ada.delete(f"/v1/chats/{chat}"), ada.get(f"/v1/chats/{chat}/stream"), ada.delete("/v1/memory")):
        assert answer.status_code == 204
        assert "Content-Type" not in answer.headers
        assert answer.data == b""


def test_a_slash_at_the_end_of_a_path_changes_nothing(app: App) -> None:
    ada, client = sign_in(app, "ada"), app.test_client()
    headers = {"Authorization": f"Bearer {ada.token}"}
    chat = client.post("/v1/chats/", json={"title": "x"}, headers=headers)
    assert chat.status_code == 201
    path = f"/v1/chats/{chat.get_json()['id']}"
    assert client.get(f"{path}/", headers=headers).get_json() == client.get(path, headers=headers).get_json()
    assert client.delete(f"{path}/", headers=headers).status_code == 204
    assert client.post("/api/orders/", json={}, headers=headers).status_code == 200
    for path in ("/live", "/ready", "/openapi.json", "/api/picture"):
        assert client.get(f"{path}/").status_code == 200, path
    for path in ("/v1/chats/", "/api/orders/"):
        assert client.get(path).status_code == 401, "a token is asked for under both"
        asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        assert client.options(path, headers=asked).headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    page = client.get("/docs/")
    assert (page.status_code, page.headers["Location"]) == (308, "../docs")
    assert client.get("/nothing/").status_code == 404


def test_routes_that_differ_by_a_slash_at_the_end_are_refused(make_own: Callable[..., Any]) -> None:
    routes = Routes("slashes")

    def view() -> None:
        """Do it."""

    routes.get("/x")(view)
    routes.get("/x/")(view)
    with pytest.raises(Exception, match="has this path already"):
        make_own(routes)


@pytest.fixture
def make_own(tmp_path: Path) -> Callable[..., App]:
    def make(*routes: Routes) -> App:
        app = App("own", routes=routes)
        init_app(app, build(Settings.load(write_app(tmp_path / "app", SETTINGS), {})), lambda _: iter(()))
        return app

    return make


# The upload


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/documents"])
def test_a_file_is_taken_at_the_uploads_own_path_and_at_the_one_from_before(app: App, path: str) -> None:
    root = sign_in(app, "root", role="admin")
    for library in ("true", "True", "false", None):
        fields = {"name": f"{path[-3:]}-{library}.txt", **({"library": library} if library else {})}
        data = {**fields, "file": (io.BytesIO(b"Tea is grown in Rize."), "x.txt")}
        answer = root.client.post(path, data=data, headers={"Authorization": f"Bearer {root.token}"})
        assert answer.status_code in {200, 202}, answer.text
        shelf = "library=true" if library in {"true", "True"} else "library=false"
        listed = [item["name"] for item in root.get(f"/v1/documents?{shelf}").get_json()["items"]]
        assert fields["name"] in listed


def test_json_is_no_upload(app: App) -> None:
    answer = sign_in(app, "ada").post("/v1/uploads", {"url": "https://example.com"})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.get_json()["error"]["message"]
