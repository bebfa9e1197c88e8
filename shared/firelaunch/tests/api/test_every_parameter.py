"""Every parameter of every route, by what ``/openapi.json`` says of it, with the extremes of every type.

Whatever is sent, the answer is one that the document tells of (``make_app`` watches for that), and never a 5xx. A slow
fuzzer, ``make fuzz-api``, looks for combinations; here each parameter is tried alone, and all of them are.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, sign_in

ENDLESS = SETTINGS.replace("= 1000", "= 1000000").replace('"0.50"', '"1000000"') + "groups = 1000\n"


def cursor(position: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


TEXTS = [
    *("", " ", ".", "..", "../../x", "a/b", "__x__", "x" * 65, "x" * 3_000, "\x00", "a\nb", "\r\n", "\u202e", "\ufeff"),
    *(
        "\U0001f600" * 40,
        "é",
        "e\u0301",
        "null",
        "true",
        "NaN",
        "-0",
        "1e999",
        "0x10",
        "1_000",
        "\u0661",
        "%00",
        "%2e%2e",
    ),
    *("javascript:alert(1)", "http://[::1", "http://x:99999/", "http://a\\@b/", "=1+1", "{{7*7}}", "${x}", "';--"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "W10", "bnVsbA", cursor([None, None])),
    *(cursor(["0001-01-01T00:00:00+14:00", "abc"]), cursor(["9999-12-31T23:59:59-12:00", "abc"]), cursor([1e308, {}])),
    *("9" * 5_000, str(2**63), str(2**64), str(-(2**63) - 1), "-1", "0", "1.5"),
]
"""For a path, a query, a header, and for a text in a body."""

TOKENS = [
    *("null", "true", "false", "[]", "{}", "[null]", '[""]', '{"":""}', "[[[[[[]]]]]]", '{"id":{"$gt":""}}'),
    *("0", "-1", "-0", "0.5", "1e308", "-1e308", "1e999", "5e-324", str(2**31), str(2**53 + 1), str(2**63), str(2**64)),
    *("NaN", "Infinity", "9" * 400, "9" * 5_000, '"\\ud800"', '"\\u0000"', '"\\udc00\\ud800"', '"\\uffff"'),
    *("[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "[" + "1," * 5_000 + "1]", '"' + "x" * 100_000 + '"'),
    *(json.dumps(text) for text in TEXTS),
]
"""JSON, as it is written, for a field of a body."""


@pytest.fixture
def app(make_app: Any) -> Iterator[App]:
    made: App = make_app(ENDLESS)
    logging.disable(logging.ERROR)  # a line for each of thousands of requests takes longer than they do
    yield made
    logging.disable(logging.NOTSET)


@pytest.fixture
def root(app: App) -> User:
    """An admin, whom no route turns away."""
    return sign_in(app, "root", role="admin")


_DOCUMENT: dict[str, Any] = {}


def operations(app: App) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Method, path, operation and components of each route that clients may call."""
    if not _DOCUMENT:  # that of each test's app is the same, and takes longer than some of the tests
        _DOCUMENT.update(app.test_client().get("/openapi.json?admins=true").get_json())
    document = _DOCUMENT
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation, document["components"]


def send(user: User, method: str, path: str, query: str = "", body: Any = None, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {user.token}", **more.pop("headers", {})}
    url = f"{path}?{query}" if query else path
    return user.client.open(url, method=method, data=body, headers=headers, **more)


def hold(answer: Any, *sent: Any) -> None:
    """Fail unless an answer is one that a client can do something about, or of the one model that makes values up."""
    unmade = answer.status_code == 502 and answer.get_json()["error"]["code"] == "extraction_failed"
    assert answer.status_code < 500 or unmade, (answer.status_code, answer.get_data()[:300], *sent)
    if answer.status_code >= 400:
        error = answer.get_json()["error"]
        assert set(error) >= {"code", "message"}, sent
    answer.close()


def filled(path: str, name: str = "", value: str = "x1") -> str:
    """A path with its parameters filled in, ``name`` by ``value``."""
    parts = [part[1:-1] if part.startswith("{") else None for part in path.split("/")]
    found = zip(path.split("/"), parts, strict=True)
    return "/".join(part if parameter is None else (value if parameter == name else "x1") for part, parameter in found)


def test_every_path_and_query_parameter(app: App, root: User) -> None:
    tried = 0
    for method, path, operation, _ in operations(app):
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            for text in [*TEXTS, b"\xff", b"\xed\xa0\x80"]:
                value = quote(text, safe="")
                if parameter["in"] == "path":
                    hold(send(root, method, filled(path, name, value)), path, name, text)
                elif parameter["in"] == "query":
                    hold(send(root, method, filled(path), f"{name}={value}"), path, name, text)
                tried += 1
            if parameter["in"] == "query":
                for query in (f"{name}=1&{name}=2", f"{name}[]=1", f"{name}", f"={name}", f"{name}=1;{name}=2"):
                    hold(send(root, method, filled(path), query), path, query)
    assert tried > 1_000


HEADERS = [
    *("Idempotency-Key", "Last-Event-ID", "Range", "If-None-Match", "If-Modified-Since", "Accept", "Accept-Encoding"),
    *("X-Cloud-Trace-Context", "X-Forwarded-For", "Origin", "Cookie", "Content-Encoding", "X-HTTP-Method-Override"),
    *("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "X-Firebase-AppCheck", "Access-Control-Request-Method"),
    *("Host", "Authorization", "Content-Type", "Accept-Language"),
]
ODD_HEADERS = [
    *("bytes=0-", "bytes=-1", "bytes=9-1", "bytes=" + "0-1," * 500, "text/event-stream", "*/*;q=9", "a/b;q=-1", ";;;"),
    *("application/json; charset=utf-16", "application/json; charset=nothing", "multipart/form-data", "gzip", "Bearer"),
    *("multipart/form-data; boundary=" + "x" * 300, "Bearer \xff", "=?base64?!!!?=", "=?base64?/w==?=", "é", "\x7f"),
]


def test_every_header_that_anything_reads(app: App, root: User) -> None:
    chat = root.new_chat()
    routes = {
        ("GET", "/v1/chats", None): HEADERS,
        ("OPTIONS", "/v1/chats", None): ["Origin", "Access-Control-Request-Method", "Host"],
        ("GET", f"/v1/chats/{chat}/stream", None): ["Last-Event-ID", "Range", "Accept"],
        ("POST", f"/v1/chats/{chat}/messages", b'{"text": ""}'): ["Idempotency-Key", "Accept", "Content-Type"],
        ("POST", "/v1/batches", BATCH): ["Idempotency-Key", "Content-Type"],
        ("POST", "/mcp", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'): HEADERS,
        ("POST", "/v1/documents", b'{"upload": ".."}'): ["Content-Type", "Content-Encoding"],
    }
    values = [*ODD_HEADERS, *(text for text in TEXTS if text.isprintable() and _is_latin(text))]
    for (method, path, body), names in routes.items():
        for name in names:
            kind = {"content_type": "application/json"} if body and name != "Content-Type" else {}
            for value in values:
                hold(send(root, method, path, body=body, headers={name: value}, **kind), path, name, value)
    message = ("POST", f"/v1/chats/{chat}/messages", "", b'{"text": "hello"}')
    for value in ODD_HEADERS:
        hold(send(root, *message, headers={"Idempotency-Key": value}, content_type="application/json"), value)


BATCH = b'{"inputs": [{"text": "x"}], "budget_micro_usd": -1}'


def _is_latin(text: str) -> bool:
    return all(ord(character) < 256 for character in text)


def resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = components["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in an example something can be put in the place of something."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*at, key))


def put(value: Any, at: tuple[Any, ...], new: str) -> str:
    """JSON of ``value`` with the JSON ``new`` in the place ``at``."""
    if not at:
        return new
    copied = json.loads(json.dumps(value))
    inner = copied
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = "@@here@@"
    return json.dumps(copied).replace('"@@here@@"', new)


def bodies(app: App) -> Iterator[tuple[str, str, Any, list[tuple[Any, ...]]]]:
    """Method and path of each route with a JSON body, an example of the body, and the places in it."""
    for method, path, operation, components in operations(app):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        schema = resolved(content.get("schema", {}), components)
        examples = content.get("examples", {}).values()
        example = content.get("example") or schema.get("example") or next((each["value"] for each in examples), {})
        own = [(name,) for name in schema.get("properties", {}) if name not in example]
        yield method, path, example, [*places(example), *own]


def test_every_field_of_every_body(app: App, root: User) -> None:
    seen = 0
    for method, path, example, found in bodies(app):
        ready = filled(path) if "{id}" not in path else path.replace("{id}", root.new_chat())
        for at in found:
            for token in [*TOKENS, '{"unknown": 1}']:
                body = put(example, at, token).encode()
                hold(send(root, method, ready, body=body, content_type="application/json"), path, at, token[:80])
                seen += 1
    assert seen > 1_000


RAW = {
    "nothing": b"",
    "a byte order mark": b'\xef\xbb\xbf{"text": "x"}',
    "UTF-16": '{"text": "x"}'.encode("utf-16"),
    "the same key twice": b'{"text": "x", "text": 5}',
    "more after it": b'{"text": "x"} {"text": "y"}',
    "a comment": b'{"text": "x" /* y */}',
    "single quotes": b"{'text': 'x'}",
    "only braces": b"{" * 100_000,
    "only brackets": b"[" * 100_000,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "zeros": b"\x00" * 1_000,
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_every_route_with_a_body_that_is_no_json_of_ours(app: App, root: User, raw: bytes) -> None:
    for method, path, _, _ in bodies(app):
        for kind in (
            "application/json",
            "multipart/form-data; boundary=x",
            "text/plain",
            "application/json; charset=x",
        ):
            hold(send(root, method, filled(path), body=raw, content_type=kind), path, kind)


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"id": "m1", "role": "user", "parts": list(parts), **more}


TEXT = {"type": "text", "text": "hello"}
UI_MESSAGES = {
    "none": [],
    "one of another role": [message(TEXT, role="system")],
    "an unknown role": [message(TEXT, role="root")],
    "no parts": [message()],
    "a part of an unknown type": [message({"type": "hologram", "x": 1}, TEXT)],
    "a file": [message({"type": "file", "url": "data:text/html,x", "mediaType": "text/html"}, TEXT)],
    "a part that is none": [message(None, TEXT)],
    "a tool's result": [message({"type": "tool-x", "toolCallId": "1", "state": "output-available", "output": {}})],
    "ten thousand parts": [message(*[TEXT] * 10_000)],
    "ten thousand messages": [message(TEXT)] * 10_000,
    "the text of no text": [message({"type": "text"})],
    "a deep part": [message({"type": "x", "deep": json.loads("[" * 90 + "]" * 90)}, TEXT)],
    "metadata of any kind": [message(TEXT, metadata={"a": [None] * 100}, createdAt="0001-01-01T00:00:00+14:00")],
}


@pytest.mark.parametrize("messages", UI_MESSAGES.values(), ids=UI_MESSAGES.keys())
@pytest.mark.parametrize("more", [{}, {"trigger": "regenerate-message"}, {"trigger": "x", "messageId": "m1"}], ids=str)
def test_the_ai_sdks_messages_of_every_form(root: User, messages: Any, more: Any) -> None:
    body = json.dumps({"id": "c1", "messages": messages, **more}).encode()
    hold(send(root, "POST", "/v1/chat", body=body, content_type="application/json"), more)


def rpc(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, **fields}).encode()


def test_every_argument_of_every_tool_over_mcp(root: User) -> None:
    def call(body: bytes) -> Any:
        return send(root, "POST", "/mcp", body=body, content_type="application/json")

    tools = call(rpc(method="tools/list")).get_json()["result"]["tools"]
    assert len(tools) > 3
    for tool in tools:
        for name in [*tool["inputSchema"].get("properties", {}), "unknown"]:
            for token in TOKENS:
                given = put({name: 1}, (name,), token)
                body = rpc(method="tools/call", params={"name": tool["name"], "arguments": "@@"})
                hold(call(body.replace(b'"@@"', given.encode())), tool["name"], name, token[:80])
    for key in (
        "jsonrpc",
        "id",
        "method",
        "params",
        "params.name",
        "params.arguments",
        "params._meta",
        "params.cursor",
    ):
        good = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tools[0]["name"]}}
        for token in TOKENS:
            hold(call(put(good, tuple(key.split(".")), token).encode()), key, token[:80])


PARTS = [
    b"",
    b"--b--",
    b"--b\r\n",
    b"--b\r\n\r\n\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nno file name\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\x00.txt"\r\n\r\nx\r\n--b--\r\n',
    b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''%ff%fe\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="library"\r\n\r\nmaybe\r\n--b--\r\n',
    b"--b\r\nno header at all\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\n" + b"X-A: b\r\n" * 3_000 + b"\r\nx\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=" + b"x" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 2_000 + b"--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"\xff" * 100 + b"\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nnever ends',
]


@pytest.mark.parametrize("body", PARTS, ids=range(len(PARTS)))
def test_forms_of_every_kind_for_a_document(root: User, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data; boundary=other", "multipart/form-data"):
        hold(send(root, "POST", "/v1/documents", body=body, content_type=kind), kind)
