"""The OpenAPI document has every route, status and error code; the fixture ``make_app`` holds all other tests to it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import math
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import firelaunch
import pytest
from firelaunch.billing import ledger
from firelaunch.errors import (
    AlreadyExists,
    Contention,
    FeatureMissing,
    FirelaunchError,
    ModelError,
    NotFound,
    PreconditionFailed,
    SettingsError,
    StoreError,
)
from firelaunch.identity import IdentityUnavailable
from firelaunch.jobs.lease import LeaseLost
from firelaunch.llm.types import Chunk
from firelaunch.membership.guests import Guests
from firelaunch.metering import retries as admission
from firelaunch.push import PushUnavailable
from firelaunch.rag.files import LocalFiles
from firelaunch.rag.parse.base import Block
from firelaunch.rag.stored_text import write_blocks
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build, build_store
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Update
from firelaunch.testing.apps import SETTINGS, User, events, sign_in, write_app
from firelaunch.testing.documented import Documented, watch
from firelaunch.testing.stripe import StripeServer
from firelaunch.worker.handlers import JobFailed, TimedOut
from jsonschema import Draft202012Validator
from pydantic.json_schema import GenerateJsonSchema


@pytest.fixture
def app(make_app: Any) -> App:
    made: App = make_app()
    return made


def test_a_request_makes_no_schema_of_its_query_anew(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """flask-openapi3 asks the model for it at each request."""
    ada, made = sign_in(app, "ada"), []
    generate = GenerateJsonSchema.generate

    def counted(self: GenerateJsonSchema, *arguments: Any, **more: Any) -> Any:
        made.append(arguments)
        return generate(self, *arguments, **more)

    ada.get("/v1/chats?limit=5")
    monkeypatch.setattr(GenerateJsonSchema, "generate", counted)
    assert [ada.get(f"/v1/chats?limit={limit}").status_code for limit in (1, 2, "none")] == [200, 200, 400]
    assert made == []


@pytest.fixture
def document(app: App) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json?admins=true").get_json()
    return found


OTHER_PROGRAMS = {"membership", "functions", "rules", "cli", "testing"}
"""Rooms whose code does not run in an app's process."""


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def codes(operation: dict[str, Any]) -> set[tuple[str, str]]:
    """The statuses and codes of the errors that have the form of all routes; JSON-RPC's own codes are numbers."""
    return {
        (status, example["value"]["error"]["code"])
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for example in response["content"]["application/json"].get("examples", {}).values()
        if isinstance(example["value"]["error"]["code"], str)
    }


def test_the_document_is_of_openapi_3_1_and_has_every_route_and_method_and_no_other(
    app: App, document: dict[str, Any]
) -> None:
    assert document["openapi"].startswith("3.1")
    served = {
        (method, str(rule).replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_the_errors_that_the_code_raises_and_those_of_the_document_are_the_same(documented: Documented) -> None:
    root = Path(firelaunch.__file__).parent
    files = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in OTHER_PROGRAMS]
    files.append(root / "membership/guests.py")  # the one of its room that services run, too
    for path in files:
        module = ".".join(["firelaunch", *path.relative_to(root).with_suffix("").parts])
        if path.name not in {"__init__.py", "__main__.py"}:
            importlib.import_module(module)  # its errors take their place in the tree
    kinds = {kind.__name__: kind for kind in tree(FirelaunchError)}
    raised = {FirelaunchError}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            # Also one that is made here and raised elsewhere.
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                raised.add(kinds[node.func.id])
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in kinds:
                raised.add(kinds[node.exc.id])
    raised -= {SettingsError}  # at boot alone
    raised -= {JobFailed, TimedOut, LeaseLost, PushUnavailable}  # told in a job's own error, by no route
    raised -= {FeatureMissing}  # told by an app's own routes alone
    of_gunicorn = {("414", "invalid_request"), ("431", "invalid_request"), ("503", "overloaded")}
    told = {found for _, _, operation in operations(dict(documented._document)) for found in codes(operation)}
    assert {(str(kind.status), kind.code) for kind in raised} | of_gunicorn == told
    assert len(raised) > 20


def tree(kind: type[FirelaunchError]) -> Iterator[type[FirelaunchError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def test_routes_want_a_token_but_for_those_that_anyone_may_call(app: App, document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        answer = app.test_client().open(filled(path, "x"), method=method)
        assert (answer.status_code == 401) == (operation.get("security") == [{"bearer": []}]), path
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_every_example_is_as_its_own_schema_says(document: dict[str, Any]) -> None:
    shown = 0

    def check(schema: dict[str, Any], value: Any) -> None:
        nonlocal shown
        Draft202012Validator({**schema, "components": document["components"]}).validate(value)
        shown += 1

    for schema in document["components"]["schemas"].values():
        if "example" in schema:
            check(schema, schema["example"])
    for _, _, operation in operations(document):
        for response in operation["responses"].values():
            for media in response.get("content", {}).values():
                for example in media.get("examples", {}).values():
                    check(media["schema"], example["value"])
    assert shown > 100


def test_a_client_of_an_app_without_groups_has_fewer_than_100_models(make_app: Any) -> None:
    document = make_app().test_client().get("/openapi.json").json
    assert len(document["components"]["schemas"]) < 100


def test_each_body_that_is_taken_or_given_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for method, path, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [response.get("content", {}) for response in operation["responses"].values()]
        for content in contents:
            name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            assert not name or "example" in schemas[name], f"{method} {path}: {name}"


def test_a_streamed_answer_has_the_events_and_fields_of_the_documents_example(
    app: App, document: dict[str, Any]
) -> None:
    ada = sign_in(app, "ada")
    send = document["paths"]["/v1/chats/{id}/messages"]["post"]
    shown: Any = app.response_class(send["responses"]["200"]["content"]["text/event-stream"]["example"])
    told = [(name, sorted(data)) for name, data in events(shown)]
    streamed = ada.stream(ada.new_chat(), "Hello")
    assert streamed.mimetype == "text/event-stream"
    seen = [(name, sorted(data)) for name, data in events(streamed)]
    assert [e for e in seen if e[0] != "delta"] == [e for e in told if e[0] != "delta"]
    assert {tuple(fields) for name, fields in seen if name == "delta"} == {("text",)}


class FailingStore:
    """A store that fails as the real ones may. ``armed`` is called with the number and the writes of each call."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls = 0
        self.armed: Any = lambda _number, _writes: None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any) -> Any:
            self.calls += 1
            self.armed(self.calls, list(args[0]) if name == "commit" else [])
            return method(*args)

        return call


def failures_of(writes: list[Any]) -> Iterator[type[StoreError | NotFound]]:
    """What a store may say to a call with these writes (none: a read)."""
    yield from (StoreError, Contention)
    for write in writes:
        if isinstance(write, Create):
            yield AlreadyExists
        if isinstance(write, Update):
            yield NotFound
        if getattr(write, "if_updated_at", None) is not None:
            yield PreconditionFailed


SOLD = """
[plans.pro]
requests_per_minute = 1000
daily_usd = "5"
stripe_price = "price_pro"

[billing]
return_url = "https://app.example.com/"
"""


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


def filled(path: str, found: str) -> str:
    if path == "/ops/{name}":
        return "/ops/ops.js"
    return (
        path.replace("{id}", found).replace("{file}", "start.js").replace("{name}", "page.js").replace("{uid}", "bob")
    )


def a_job(store: FailingStore, path: str) -> str:
    """A job that ada's request to ``path`` finds as it should be, made past what makes the store fail."""
    job_id = f"j{secrets.token_hex(16)}"
    now = datetime.now(UTC)
    uid = None if path == "/v1/ops/jobs/{id}" else "ada"
    fields = {"kind": "batch", "uid": uid, "state": "dead" if "/ops/" in path else "queued", "payload": "{}"}
    numbers = {"attempts": 0, "max_attempts": 1, "seconds": 1.0, "fence": 0, "due_at": now, "created_at": now}
    store._store.commit([Create(f"apps/demo/jobs/{job_id}", {**fields, **numbers})])
    return job_id


def a_document(store: FailingStore, files: LocalFiles) -> str:
    """A document of ada's with a file and its text, made past what makes the store fail."""
    name = f"d{secrets.token_hex(15)}"
    path = f"apps/demo/users/ada/documents/{name}"
    fields = {"name": "a.txt", "status": "ready", "hash": "t", "text": "t", "job": "", "created_at": datetime.now(UTC)}
    source = Create(Scope("demo", "ada").source(name), {"uid": "ada", "document": name, "link_key": "00" * 32})
    store._store.commit([Create(path, {**fields, "bytes": 7}), source])
    files.put(f"{path}/t", io.BytesIO(b"A text."))
    text = io.BytesIO()
    write_blocks([Block("A text.", "paragraph", 0)], text)
    text.seek(0)
    files.put(f"{path}/t.text", text)
    return name


def a_record(store: FailingStore) -> str:
    """The record of a request of ada's, made past what makes the store fail."""
    name, now = f"r{secrets.token_hex(16)}", datetime.now(UTC)
    fields = {"uid": "ada", "state": "reserved", "day": f"{now:%Y-%m-%d}", "plan": "free", "created_at": now}
    store._store.commit([Create(f"apps/demo/requests/{name}", fields)])
    return name


def an_export(store: FailingStore, files: LocalFiles) -> str:
    """A finished export of ada's with its file, made past what makes the store fail."""
    job_id = a_job(store, "/v1/me/exports/{id}")
    path = f"apps/demo/users/ada/exports/{job_id}"
    until = datetime.now(UTC) + timedelta(hours=9)
    store._store.commit([Create(path, {"bytes": 3, "expires_at": until, "link_key": "00" * 32})])
    files.put(f"{path}/data.zip", io.BytesIO(b"zip"))
    return job_id


GUESTS = """
[plans.guest]
requests_per_minute = 5
daily_usd = "0.05"

[budget]
guests_daily_usd = "5"
"""
OAUTH = """
[mcp]
authorization_server = "https://auth.example.com"
"""


def a_file(store: FailingStore, files: LocalFiles, chat: str) -> str:
    """A file of ada's messages, made past what makes the store fail."""
    of_chat, now = hashlib.sha256(chat.encode()).hexdigest()[:16], datetime.now(UTC)
    name = f"file_{of_chat}{secrets.token_hex(16)}"
    path = f"apps/demo/users/ada/kept_files/{name}"
    facts = {"content": "c", "content_type": "image/png", "bytes": 1, "created_at": now, "updated_at": now}
    store._store.commit([Create(path, facts)])
    files.put(f"{path}/c", io.BytesIO(b"x"))
    return name


def an_answer(store: FailingStore, chat: str) -> str:
    """An answer in ada's chat with its request's record, made past what makes the store fail."""
    request, user = f"r{secrets.token_hex(16)}", Scope("demo", "ada")
    message = {"role": "assistant", "text": "Yes.", "request_id": request, "created_at": datetime.now(UTC)}
    record = {"uid": "ada", "chat_id": chat, "turn_id": request, "state": "settled"}
    store._store.commit([Create(user.message(chat, f"{request}-a"), message), Create(user.request(request), record)])
    return f"{request}-a"


LINKED = {"/v1/exports/{id}/file": "/v1/me/exports/{id}", "/v1/documents/{id}/content": "/v1/documents/{id}/file"}
"""Routes that need a link, and those that give it."""


def request_of(
    method: str, path: str, document: dict[str, Any], user: User, store: FailingStore, files: LocalFiles
) -> Any:
    """A request that the document says is good."""
    operation = document["paths"][path][method.lower()]
    found = user.new_chat()
    if "/jobs/" in path or "/batches/" in path:
        found = a_job(store, path)
    if "/exports/" in path:
        found = an_export(store, files)
    if "/devices/" in path:
        found = user.post("/v1/devices", {"token": "t", "platform": "web"}).get_json().get("id", "gone")
    if path == "/v1/chats/{id}/files/{file}":
        path = path.replace("{file}", a_file(store, files, found))
    if "{message}" in path:
        path = path.replace("{message}", an_answer(store, found))
    if path.startswith("/v1/ops/requests/{id}"):
        found = an_answer(store, found).removesuffix("-a") if "contents" in path else a_record(store)
    if path.startswith("/v1/documents/{id}"):
        found = a_document(store, files)
    if path in LINKED:
        link = user.get(LINKED[path].format(id=found)).get_json()
        return user.client.get(link.get("url") or filled(path, found))
    content = operation.get("requestBody", {}).get("content", {})
    headers = {"Authorization": f"Bearer {user.token}"}
    if "multipart/form-data" in content:
        data = {"file": (io.BytesIO(secrets.token_bytes(8).hex().encode()), "a.txt")}
        return user.client.open(filled(path, found), method=method, data=data, headers=headers)
    body = documented_example(content.get("application/json", {}).get("schema", {}), document, user)
    return user.client.open(filled(path, found), method=method, json=body, headers=headers)


def documented_example(schema: dict[str, Any], document: dict[str, Any], user: User) -> Any:
    if "$ref" not in schema:
        return None
    if schema["$ref"].endswith("/GuestMerge"):
        guest = {"uid": f"guest-{secrets.token_hex(8)}", "guest": True}
        return {"guest_token": user.client.post("/dev/token", json=guest).get_json()["token"]}
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["example"]


def test_whatever_the_database_says_the_answer_is_in_the_document(
    tmp_path: Path,
    documented: Documented,
    document: dict[str, Any],
    stripe: StripeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "_SECONDS", 0.05)
    monkeypatch.setattr(ledger, "_GIVE_UP_SECONDS", 0.05)
    stripe.account.prices.add("price_pro")
    environ = {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url}
    settings = Settings.load(write_app(tmp_path / "failing", SETTINGS + SOLD + OAUTH + GUESTS), environ)
    store = FailingStore(build_store(settings))
    app = App("failing")
    services = build(settings, store=store)
    # Looked up again after a minute of tests, ada would have one more call before those that are counted.
    services = replace(services, guests=Guests(services.store, seconds=math.inf))
    init_app(app, services, lambda _: [Chunk("Yes.")])
    problems = watch(app, documented)
    files = LocalFiles(settings.environment.data / "files")
    seen = set()
    for method, path, _ in operations(document):
        user = sign_in(app, "ada", role="admin")
        for number, kind, lasting in tries(store, lambda: request_of(method, path, document, user, store, files)):  # noqa: B023
            seen.add((number, kind, lasting))
    assert problems == []
    assert {kind for _, kind, _ in seen} == {StoreError, Contention, AlreadyExists, NotFound, PreconditionFailed}


def tries(store: FailingStore, send: Any) -> Iterator[tuple[int, Any, bool]]:
    """Sends with each call of the store failing in each way it may, that once or from there on."""
    written: list[list[Any]] = []
    store.armed = lambda _number, writes: written.append(writes)
    assert send().status_code < 300
    for number, writes in enumerate(written[1:], 2):  # the first makes the chat
        for kind in sorted(set(failures_of(writes)), key=lambda kind: kind.__name__):
            for lasting in (False, True):
                fail(store, number, kind, lasting=lasting)
                send()
                store.armed = lambda _number, _writes: None
                yield number, kind, lasting


def fail(store: FailingStore, at: int, kind: Any, *, lasting: bool) -> None:
    began = store.calls

    def armed(number: int, writes: list[Any]) -> None:
        here = number - began
        if (here == at or (lasting and here > at)) and kind in set(failures_of(writes)):
            raise kind

    store.armed = armed


@pytest.mark.parametrize("kind", sorted(tree(ModelError), key=lambda kind: kind.__name__))
def test_whatever_the_model_says_the_answer_is_in_the_document(make_app: Any, kind: type[FirelaunchError]) -> None:
    def answer(_: Any) -> Iterator[Any]:
        raise kind
        yield

    ada = sign_in(make_app(answer=answer), "ada")
    chat = ada.new_chat()
    assert ada.send(chat, "Hello").get_json()["error"]["code"] == kind.code
    assert [data["error"]["code"] for name, data in events(ada.stream(chat, "Hello")) if name == "error"] == [kind.code]


def test_where_sign_in_cannot_be_checked_each_route_that_needs_it_says_so(
    app: App, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = sign_in(app, "ada")

    def verify(_self: Any, _token: str) -> Any:
        raise IdentityUnavailable

    monkeypatch.setattr(type(app.services.identity), "verify", verify)  # type: ignore[attr-defined]
    for method, path, operation in operations(document):
        headers = {"Authorization": f"Bearer {user.token}"}
        answer = user.client.open(filled(path, "x"), method=method, json={}, headers=headers)
        told = operation["security"] != []
        assert (answer.status_code == 503) == told
        assert (("503", "identity_unavailable") in codes(operation)) == told


def test_the_judge_says_what_the_document_lacks(documented: Documented, document: dict[str, Any]) -> None:
    me = document["components"]["schemas"]["Me"]["example"]

    def problem(status: int, body: Any, path: str = "/v1/me", media_type: str = "application/json") -> str | None:
        return documented.problem("GET", path, status, media_type, json.dumps(body).encode())

    error = {"error": {"code": "unauthenticated", "message": "m", "request_id": "r"}}
    assert problem(200, me) is None
    assert problem(401, error) is None
    assert "route" in (problem(200, me, path="/v1/nothing") or "")
    assert "status" in (problem(418, error) or "")
    assert "code" in (problem(401, {"error": {**error["error"], "code": "forbidden"}}) or "")
    assert "uid" in (problem(200, {**me, "uid": 5}) or "")
    assert "text/plain" in (problem(200, me, media_type="text/plain") or "")


def test_the_page_for_people_brings_all_it_needs_and_may_run_nothing_else(app: App) -> None:
    client = app.test_client()
    page = client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in page.text
    for file, kind in [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")]:
        assert f"docs/{file}" in page.text
        got = client.get(f"/docs/{file}")
        assert (got.status_code, got.mimetype) == (200, kind)
        assert len(got.data) > 100_000
    assert client.get("/docs/start.js").mimetype == "text/javascript"
    for other in ("swagger-ui.css.map", "..", "%2e%2e%2fx", "__init__.py", "swagger.svg", "x" * 300):
        assert client.get(f"/docs/{other}").status_code == 404
