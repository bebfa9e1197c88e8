"""``POST /mcp`` from a hostile or mistaken client: an error by its code, and nothing done."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from firelaunch.server.app import App
from firelaunch.store.base import Query
from firelaunch.testing.apps import SETTINGS, User, sign_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STATELESS = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": STATELESS, "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture
def app(make_app: Any) -> App:
    made: App = make_app()
    return made


@pytest.fixture
def ada(app: App) -> User:
    return sign_in(app, "ada")


def raw(user: User, body: bytes, **headers: str) -> Any:
    given = {"Authorization": f"Bearer {user.token}", "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return user.client.post("/mcp", data=body, headers=given)


def call(user: User, method: str, params: Any = None, *, id: Any = 1, **headers: str) -> Any:  # noqa: A002
    """A request of an older revision."""
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return raw(user, json.dumps(message if params is None else {**message, "params": params}).encode(), **headers)


def stateless(user: User, method: str, params: Any = None, **headers: str) -> Any:
    """A request of the stateless revision; ``headers`` stand in for its own, and are left out where empty."""
    params = {"_meta": META, **(params or {})}
    told = {"MCP_Protocol_Version": STATELESS, "Mcp_Method": method}
    if "name" in params:
        told["Mcp_Name"] = str(params["name"])
    return call(user, method, params, **{name: value for name, value in {**told, **headers}.items() if value})


def refused(answer: Any, status: int, code: int, message_id: Any = 1) -> str:
    body = answer.get_json()
    assert (answer.status_code, body["error"]["code"], body["id"]) == (status, code, message_id), body
    assert body["jsonrpc"] == "2.0"
    assert "result" not in body
    message: str = body["error"]["message"]
    return message


def nothing_was_done(app: App) -> None:
    store = app.services.store  # type: ignore[attr-defined]
    assert store.count(Query("apps/demo/users/ada/chats")) == 0
    assert store.count(Query("apps/demo/requests")) == 0


ASK = {"name": "ask", "arguments": {"text": "x"}}
UNREADABLE = {
    "empty": b"",
    "no JSON": b"hello",
    "half of it": b'{"jsonrpc": "2.0"',
    "not UTF-8": b'{"jsonrpc": "2.0", "method": "\xff"}',
    "a lone surrogate": b'{"jsonrpc": "2.0", "method": "\\ud800", "id": 1}',
    "NaN": b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}',
    "deeply nested": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": '
    + b'{"a":' * 20_000
    + b"1"
    + b"}" * 20_001,
    "a list in a list without end": b"[" * 100_000,
}
NO_MESSAGE = {
    "a batch": json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ASK}] * 50),
    "an empty batch": "[]",
    "a string": '"ping"',
    "null": "null",
    "nothing in it": "{}",
    "another version": '{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
    "no version": '{"id": 1, "method": "ping"}',
    "no method": '{"jsonrpc": "2.0", "id": 1}',
    "a method that is a number": '{"jsonrpc": "2.0", "id": 1, "method": 5}',
    "a method without end": json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x" * 10_000}),
    "parameters by position": '{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}',
    "an answer": '{"jsonrpc": "2.0", "id": 1, "result": {}}',
    "an id that is null": '{"jsonrpc": "2.0", "id": null, "method": "ping"}',
    "an id that is an object": '{"jsonrpc": "2.0", "id": {}, "method": "ping"}',
    "an id that is true": '{"jsonrpc": "2.0", "id": true, "method": "ping"}',
    "an id that is no whole number": '{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}',
    "an id of 5,000 digits": '{"jsonrpc": "2.0", "id": ' + "9" * 5_000 + ', "method": "ping"}',
    "a notification that is none": '{"jsonrpc": "2.0", "method": null}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_json_is_a_parse_error(app: App, ada: User, body: bytes) -> None:
    refused(raw(ada, body), 400, -32700, None)
    nothing_was_done(app)


@pytest.mark.parametrize("body", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
@pytest.mark.parametrize("version", ["", "2025-03-26", STATELESS])
def test_what_is_no_message_is_an_invalid_request(app: App, ada: User, body: str, version: str) -> None:
    headers = {"MCP_Protocol_Version": version} if version else {}
    answer = raw(ada, body.encode(), **headers)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] in {-32600, -32700}
    nothing_was_done(app)


def test_an_error_has_the_id_of_its_request_where_that_can_be_read(ada: User) -> None:
    refused(raw(ada, b'{"jsonrpc": "2.0", "id": "seven", "method": 5}'), 400, -32600, "seven")
    for message_id in (0, -1, 2**53 - 1, "", "é", "x" * 1000):
        assert call(ada, "ping", id=message_id).get_json() == {"jsonrpc": "2.0", "id": message_id, "result": {}}


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_handshake_of_older_revisions_names_a_session_that_nobody_has_to_keep(ada: User, version: str) -> None:
    asked = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begun = call(ada, "initialize", asked)
    assert begun.get_json()["result"]["protocolVersion"] == version
    session = begun.headers["Mcp-Session-Id"]
    assert session != call(ada, "initialize", asked).headers["Mcp-Session-Id"]
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
    taken = raw(ada, note, MCP_Protocol_Version=version)
    assert (taken.status_code, taken.data) == (202, b"")
    for headers in ({}, {"Mcp_Session_Id": session}, {"Mcp_Session_Id": "another"}):
        listed = call(ada, "tools/list", MCP_Protocol_Version=version, **headers).get_json()
        assert listed["result"]["tools"][0]["name"] == "ask"


def test_a_revision_that_is_not_spoken_is_offered_the_latest_or_refused(ada: User) -> None:
    for wanted in ("2024-11-05", "2099-01-01", "", "x" * 1000):
        assert (
            call(ada, "initialize", {"protocolVersion": wanted}).get_json()["result"]["protocolVersion"] == "2025-11-25"
        )
    refused(call(ada, "initialize", {"protocolVersion": 5}), 200, -32602)
    for version in ("2024-11-05", "2099-01-01", "nonsense"):
        answer = call(ada, "tools/list", MCP_Protocol_Version=version)
        refused(answer, 400, -32022)
        assert STATELESS in answer.get_json()["error"]["data"]["supported"]


def test_what_one_revision_has_the_others_do_not(ada: User) -> None:
    refused(call(ada, "server/discover", {}), 200, -32601)
    refused(stateless(ada, "initialize", {"protocolVersion": STATELESS}), 404, -32601)
    refused(stateless(ada, "ping"), 404, -32601)
    assert stateless(ada, "server/discover").get_json()["result"]["supportedVersions"] == [STATELESS]


HEADERS: dict[str, dict[str, str]] = {
    "another revision": {"MCP_Protocol_Version": "2025-06-18, 2026-07-28"},
    "no revision": {"MCP_Protocol_Version": ""},
    "no method": {"Mcp_Method": ""},
    "another method": {"Mcp_Method": "tools/list"},
    "no name": {"Mcp_Name": ""},
    "another name": {"Mcp_Name": "list_chats"},
    "a name twice": {"Mcp_Name": "ask,ask"},
    "a name in broken base64": {"Mcp_Name": "=?base64?!!?="},
    "a name in base64 that is no text": {"Mcp_Name": "=?base64?/w==?="},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_say_something_else_than_the_body_are_refused(
    app: App, ada: User, headers: dict[str, str]
) -> None:
    answer = stateless(ada, "tools/call", ASK, **headers)
    assert answer.get_json()["error"]["code"] in {-32020, -32022}
    assert answer.status_code == 400
    nothing_was_done(app)


def test_a_name_may_come_in_base64(ada: User) -> None:
    coded = f"=?base64?{base64.b64encode(b'list_chats').decode()}?="
    answer = stateless(ada, "tools/call", {"name": "list_chats"}, Mcp_Name=coded)
    assert answer.get_json()["result"]["structuredContent"] == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("meta", [None, [], "x", {}, {"io.modelcontextprotocol/protocolVersion": STATELESS}])
def test_a_stateless_request_without_its_envelope_is_refused(app: App, ada: User, meta: Any) -> None:
    refused(stateless(ada, "tools/call", {**ASK, "_meta": meta}), 400, -32602)
    nothing_was_done(app)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": None},
        {"name": "nothing"},
        {"name": ["ask"]},
        {"name": {"ask": 1}},
        {"name": "__class__"},
        {"name": "ask", "arguments": []},
        {"name": "ask", "arguments": None},
        {"name": "ask", "arguments": "x"},
    ],
)
def test_a_call_that_names_no_tool_or_brings_no_arguments_is_refused(app: App, ada: User, params: Any) -> None:
    refused(call(ada, "tools/call", params), 200, -32602)
    nothing_was_done(app)


@pytest.mark.parametrize("token", [True, 1.5, [1], {"a": 1}, "x" * 256])
def test_a_progress_token_that_is_none_is_refused(app: App, ada: User, token: Any) -> None:
    refused(call(ada, "tools/call", {**ASK, "_meta": {"progressToken": token}}), 200, -32602)
    refused(stateless(ada, "tools/call", {**ASK, "_meta": {**META, "progressToken": token}}), 400, -32602)
    nothing_was_done(app)


@pytest.mark.parametrize("key", ["", 5, None, ["a"], "x" * 256])
def test_a_key_that_is_none_is_refused(app: App, ada: User, key: Any) -> None:
    if key is not None:
        refused(call(ada, "tools/call", {**ASK, "_meta": {"firelaunch/idempotency-key": key}}), 200, -32602)
        nothing_was_done(app)


STREAM = "application/json, text/event-stream"


@pytest.mark.parametrize("token", [0, -1, "", "é\n\ndata: x", "</script>", 2**53])
def test_a_progress_token_comes_back_as_it_was_and_cannot_end_its_event(ada: User, token: Any) -> None:
    params = {**ASK, "_meta": {"progressToken": token}}
    lines = call(ada, "tools/call", params, Accept=STREAM).text.split("\n\n")
    assert lines.pop() == ""
    progress, answer = (json.loads(line.partition("data: ")[2]) for line in lines)
    assert progress["method"] == "notifications/progress"
    assert progress["params"]["progressToken"] == token
    assert (answer["id"], answer["result"]["isError"]) == (1, False)


def test_only_who_names_a_stream_gets_one(ada: User) -> None:
    for accepted in ("*/*", "application/json", "text/*", "text/event-stream;q=0", ""):
        assert call(ada, "tools/call", ASK, Accept=accepted).mimetype == "application/json"
    assert call(ada, "tools/call", ASK, Accept=STREAM).mimetype == "text/event-stream"
    assert call(ada, "tools/call", {"name": "ask", "arguments": {}}, Accept=STREAM).mimetype == "application/json"


@pytest.mark.parametrize("request_id", [None, 7, "7", True, 1.5, [], {}, "x" * 100_000])
def test_a_cancellation_of_nothing_is_taken_and_does_nothing(app: App, ada: User, request_id: Any) -> None:
    for params in ({"requestId": request_id}, {"requestId": request_id, "reason": ["timed out"]}, {}):
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode()
        assert raw(ada, note).status_code == 202
    nothing_was_done(app)


def test_there_is_one_page_of_tools(ada: User) -> None:
    refused(call(ada, "tools/list", {"cursor": "x"}), 200, -32602)
    assert call(ada, "tools/list", {"cursor": None}).status_code == 200


def test_whom_the_app_belongs_to_is_never_an_argument(app: App, ada: User) -> None:
    for extra in ({"uid": "bob"}, {"app_id": "other"}, {"role": "admin"}):
        result = call(ada, "tools/call", {"name": "ask", "arguments": {"text": "x", **extra}}).get_json()["result"]
        assert result["isError"] is True
        assert json.loads(result["content"][0]["text"])["error"]["code"] == "invalid_request"
    nothing_was_done(app)


def test_an_answer_names_the_request_that_the_log_knows(ada: User) -> None:
    answer = call(ada, "tools/call", {"name": "ask", "arguments": {}})
    error = json.loads(answer.get_json()["result"]["content"][0]["text"])["error"]
    assert error["request_id"] == answer.headers["X-Request-Id"]


def test_a_page_elsewhere_may_not_call(app: App, ada: User, make_app: Any) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1\nx", ""):
        if "\n" not in origin:
            answer = call(ada, "tools/call", ASK, Origin=origin)
            assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "forbidden")
    nothing_was_done(app)
    assert call(ada, "ping", Origin="http://localhost:5173").status_code == 200
    named = sign_in(make_app(SETTINGS + '[cors]\norigins = ["https://app.example.com"]\n'), "ada")
    assert call(named, "ping", Origin="https://app.example.com").status_code == 200
    assert call(named, "ping", Origin="https://appXexample.com").status_code == 403


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_a_page_elsewhere_is_no_message(app: App, ada: User, content_type: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ASK}).encode()
    answer = raw(ada, body, Content_Type=content_type)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_request")
    nothing_was_done(app)


def test_a_body_over_the_limit_is_a_413(app: App, ada: User) -> None:
    answer = call(ada, "tools/call", {"name": "ask", "arguments": {"text": "x" * 1_000_000}})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (413, "too_large")
    nothing_was_done(app)


def test_there_is_no_stream_and_no_session_to_end(app: App, ada: User) -> None:
    for method in ("GET", "DELETE"):
        answer = app.test_client().open("/mcp", method=method, headers={"Authorization": f"Bearer {ada.token}"})
        assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"OPTIONS", "POST"})


def test_a_fault_on_our_side_is_a_500_that_tells_nothing(ada: User, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(type(app.services.chats), "list", fail)  # type: ignore[attr-defined]
    answer = call(ada, "tools/call", {"name": "list_chats"})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
METHODS = ["initialize", "ping", "server/discover", "tools/list", "tools/call", "notifications/cancelled"]
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.sampled_from(["ask", "list_chats"]),
        "arguments": JSON,
        "_meta": JSON | st.just(META),
        "protocolVersion": JSON,
        "cursor": JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": st.sampled_from(METHODS) | JSON},
    optional={"id": st.integers() | st.text() | JSON, "params": PARAMS | JSON},
)
VERSIONS = st.sampled_from(["", "2025-06-18", STATELESS]) | st.text(alphabet=[chr(n) for n in range(33, 127)])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MESSAGES | JSON, VERSIONS)
def test_no_message_makes_a_500_or_an_answer_that_the_document_does_not_know(
    ada: User, message: Any, version: str
) -> None:
    headers = {"MCP_Protocol_Version": version} if version else {}
    assert raw(ada, json.dumps(message).encode(), **headers).status_code in (200, 202, 400, 404)
