"""What bad input gets: a 4xx in the error form, and nothing written."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from firelaunch.functions.membership import membership_app
from firelaunch.functions.stripe_webhook import reconciliation_app, webhook_app
from firelaunch.server.app import App, trust_hops
from firelaunch.store.base import Query
from firelaunch.testing.apps import SETTINGS, User, sign_in
from firelaunch_cli.deploy.functions import BILLING, DOCUMENTS, EVERY_APP
from flask import request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st


@pytest.fixture
def app(make_app: Any) -> App:
    made: App = make_app(SETTINGS + "groups = 3\n")
    return made


@pytest.fixture
def ada(app: App) -> User:
    return sign_in(app, "ada")


def error_of(response: Any) -> dict[str, str]:
    body = response.get_json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["request_id"] == response.headers["X-Request-Id"]
    error: dict[str, str] = body["error"]
    return error


def raw(user: User, body: bytes, content_type: str = "application/json", path: str = "/v1/chats") -> Any:
    headers = {"Authorization": f"Bearer {user.token}", "Content-Type": content_type}
    return user.client.post(path, data=body, headers=headers)


DEEP = b'{"title":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = {
    "empty": b"",
    "no JSON": b"hello",
    "half of it": b'{"title": "x"',
    "not UTF-8": b'{"title": "\xff\xfe"}',
    "a lone surrogate": b'{"title": "\\ud800"}',
    "deeply nested": DEEP,
    "deeply nested objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "a list": b"[]",
    "a string": b'"{}"',
    "null": b"null",
    "a number": b"1e999",
    "NaN": b'{"title": NaN}',
    "wrong type": b'{"title": 5}',
    "wrong type inside": b'{"title": {"x": 1}}',
    "unknown key": b'{"uid": "bob"}',
    "app of another": b'{"app_id": "other"}',
    "too long a title": json.dumps({"title": "x" * 201}).encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_no_good_is_a_400_and_nothing_is_made(ada: User, body: bytes) -> None:
    response = raw(ada, body)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_request"
    assert ada.get("/v1/chats").get_json()["items"] == []


def test_a_body_over_the_limit_is_a_413(ada: User) -> None:
    response = raw(ada, json.dumps({"title": "x" * 1_000_000}).encode())
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert ada.get("/v1/chats").get_json()["items"] == []


def test_a_body_over_the_limit_that_does_not_say_its_length_is_a_413(ada: User) -> None:
    import io

    body = io.BytesIO(json.dumps({"title": "x"}).encode() + b" " * 300_000)
    headers = {"Authorization": f"Bearer {ada.token}", "Transfer-Encoding": "chunked"}
    response = ada.client.post(
        "/v1/chats",
        input_stream=body,
        headers=headers,
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert ada.get("/v1/chats").get_json()["items"] == []


def test_a_message_over_the_limit_is_a_413_and_an_empty_one_a_400(ada: User) -> None:
    chat = ada.new_chat()
    assert ada.send(chat, "x" * 16_001).status_code == 413
    assert ada.send(chat, "").status_code == 400
    assert ada.get(f"/v1/chats/{chat}").get_json()["messages"] == []
    assert ada.send(chat, "x" * 16_000).status_code == 200


def test_a_body_of_another_type_is_refused(ada: User) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = raw(ada, b'{"title": "x"}', content_type)
        assert response.status_code == 400
        assert "application/json" in error_of(response)["message"]


BAD_IDS = [
    "..",
    "%2e%2e",
    "__x__",
    "a%2Fb",
    "a%2F..%2Fb",
    "x" * 2_000,
    "%00",
    "a b",
    "é",
    "%ff",
    "a.b",
    "-%0a",
    "*",
    "~",
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda value: value[:12])
def test_an_id_that_could_mean_something_else_is_refused_for_every_verb(ada: User, app: App, bad: str) -> None:
    path = f"/v1/chats/{bad}"
    answers = [
        ada.get(path),
        ada.patch(path, {"title": "x"}),
        ada.delete(path),
        ada.send(bad, "hello"),
        ada.stream(bad, "hello"),
    ]
    for response in answers:
        assert 400 <= response.status_code < 500
        error_of(response)
    store = app.services.store  # type: ignore[attr-defined]
    assert store.count(Query("apps/demo/users/ada/chats")) == 0
    assert store.count(Query("apps/demo/requests")) == 0


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=", "cursor=W10", "other=1"])
def test_a_page_that_cannot_be_is_a_400(ada: User, query: str) -> None:
    for path in ("/v1/chats", f"/v1/chats/{ada.new_chat()}"):
        response = ada.get(f"{path}?{query}")
        assert response.status_code == 400
        error_of(response)


def cursor_of(position: Any) -> str:
    raw = position if isinstance(position, bytes) else json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


TIMES = st.one_of(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))])).map(
        datetime.isoformat
    ),
    st.datetimes().map(datetime.isoformat),
    st.sampled_from(
        ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999999Z", "0001-01-01", ""]
    ),
    st.text(max_size=8),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["", "\x80" * 70])
@given(st.tuples(TIMES | st.none() | st.integers() | st.floats(), st.text(max_size=70) | st.integers()).map(list))
@example(["0001-01-01T00:00:00+14:00", "abc"])
@example(["9999-12-31T23:59:59-12:00", "abc"])
@example(b"1" * 300)
@example(b"[" * 300)
def test_a_crafted_cursor_is_refused_unless_it_is_written_as_ours_are(ada: User, position: Any) -> None:
    answer = ada.get(f"/v1/chats?cursor={cursor_of(position)}")
    ours = isinstance(position, list) and str(position[0])[-8:-7] == "." and str(position[0]).endswith("Z")
    assert answer.status_code in ((200, 400) if ours else (400,))
    if answer.status_code == 400:
        too_long = len(cursor_of(position)) > 500
        assert error_of(answer)["code"] == ("invalid_request" if too_long else "invalid_cursor")


def test_a_cursor_that_was_handed_out_leads_on_from_any_time(ada: User) -> None:
    made = [ada.new_chat() for _ in range(3)]
    page = ada.get("/v1/chats?limit=1").get_json()
    seen = page["items"]
    while page["next_cursor"]:
        page = ada.get(f"/v1/chats?limit=1&cursor={page['next_cursor']}").get_json()
        seen += page["items"]
    assert [chat["id"] for chat in seen] == made[::-1]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\n"), max_size=60))
def test_no_cursor_makes_a_500(ada: User, cursor: str) -> None:
    from urllib.parse import quote

    assert ada.get(f"/v1/chats?cursor={quote(cursor, safe='')}").status_code in (200, 400)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_no_json_value_makes_a_500(ada: User, value: Any) -> None:
    body = json.dumps(value).encode()
    for path in ("/v1/chats", "/v1/chats/nothing/messages", "/dev/token"):
        assert raw(ada, body, path=path).status_code < 500


@pytest.mark.parametrize("path", ["/v1/chats", "/v1/me", "/v1/usage", "/v1/chats/x"])
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "a.b.c"])
def test_without_a_token_that_holds_there_is_only_a_401_that_does_not_say_why(
    app: App, path: str, header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("firelaunch").propagate = True
    headers = {} if header is None else {"Authorization": header}
    response = app.test_client().get(path, headers=headers)
    assert response.status_code == 401
    error = error_of(response)
    assert (error["code"], error["message"]) == (
        "unauthenticated",
        "Sign in first: send a valid token as 'Authorization: Bearer <token>'.",
    )
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert any("unauthenticated" in record.message and "(" in record.message for record in caplog.records)


def test_a_token_of_another_app_does_not_hold(app: App, make_app: Any, tmp_path: Path) -> None:
    other = make_app(SETTINGS.replace('id = "demo"', 'id = "other"'))
    stranger = User(app.test_client(), sign_in(other, "ada").token)
    assert stranger.get("/v1/me").status_code == 401


def test_the_uid_of_a_dev_token_is_checked(app: App) -> None:
    client = app.test_client()
    for uid in ("a/b", "..", "__x__", "", "x" * 129, 5, None, ["a"]):
        assert client.post("/dev/token", json={"uid": uid}).status_code == 400
    assert client.post("/dev/token", json={"uid": "ada", "role": "Bad Role"}).status_code == 400


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8080", "x"])
def test_a_page_whose_name_leads_to_this_machine_gets_no_dev_token(app: App, host: str) -> None:
    refused = app.test_client().post("/dev/token", json={"uid": "ada"}, headers={"Host": host})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:9", "[::1]:8080", "192.168.1.5", "a.localhost"]
)
def test_a_dev_token_is_handed_out_under_this_machines_own_names(app: App, host: str) -> None:
    assert app.test_client().post("/dev/token", json={"uid": "ada"}, headers={"Host": host}).status_code == 200


def test_what_is_not_there_and_what_is_not_allowed_have_the_error_form(app: App, ada: User) -> None:
    assert error_of(ada.get("/v1/nothing"))["code"] == "not_found"
    assert error_of(app.test_client().get("/v1/nothing"))["code"] == "not_found", "before a token is asked for"
    assert error_of(app.test_client().get("/nothing"))["code"] == "not_found"
    wrong = ada.client.put("/v1/chats", json={}, headers={"Authorization": f"Bearer {ada.token}"})
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]


def test_health_needs_no_token_and_names_the_app(app: App) -> None:
    client = app.test_client()
    assert client.get("/live").get_json() == {"status": "ok"}
    assert client.get("/ready").get_json() == {"status": "ready", "app": "demo", "model": "offline"}


def test_no_public_path_ends_in_z_which_googles_front_end_may_answer_by_itself(app: App) -> None:
    nobody: Any = None
    others = [membership_app(nobody, nobody), webhook_app(nobody, nobody), reconciliation_app(nobody, None)]
    paths = {rule.rule for served in (app, *others) for rule in served.url_map.iter_rules()}
    paths |= {f"/{name}" for name in (*EVERY_APP, *BILLING, *DOCUMENTS)}
    assert {path for path in paths if path.rstrip("/").endswith("z")} == {"/healthz", "/readyz"}
    documented = app.test_client().get("/openapi.json?admins=true").get_json()["paths"]
    assert {path for path in documented if not documented[path].get("get", {}).get("deprecated")}.isdisjoint(
        {"/healthz", "/readyz"}
    )


@pytest.mark.parametrize(("old", "new"), [("/healthz", "/live"), ("/readyz", "/ready")])
def test_the_old_names_of_the_probes_answer_for_one_version_and_name_the_new(app: App, old: str, new: str) -> None:
    client = app.test_client()
    answer = client.get(old)
    assert answer.get_json() == client.get(new).get_json()
    assert answer.headers["Deprecation"] == "true"
    assert f"<{new}>" in answer.headers["Link"]
    assert "Deprecation" not in client.get(new).headers


@pytest.mark.parametrize(
    ("hops", "seen"), [(1, "203.0.113.9"), (2, "198.51.100.7"), (4, "192.0.2.1")], ids=["one", "two", "more than came"]
)
def test_a_clients_address_is_what_the_trusted_hop_wrote_whatever_the_client_wrote_before_it(
    hops: int, seen: str
) -> None:
    app = App("whoami")
    trust_hops(app, hops)
    app.add_url_rule("/whoami", "whoami", lambda: request.remote_addr or "")
    forged = "6.6.6.6, 198.51.100.7, 203.0.113.9"
    answer = app.test_client().get(
        "/whoami", headers={"X-Forwarded-For": forged}, environ_base={"REMOTE_ADDR": "192.0.2.1"}
    )
    assert answer.text == seen


def test_me_is_who_the_token_says(app: App) -> None:
    admin = sign_in(app, "root", role="admin")
    expected = {"app_id": "demo", "uid": "root", "role": "admin", "email": None, "plan": "free", "features": []}
    assert admin.get("/v1/me").get_json() == expected


def test_pages_on_localhost_may_call_and_pages_elsewhere_may_not(app: App, make_app: Any) -> None:
    def allowed(app: App, origin: str) -> str | None:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = app.test_client().options("/v1/chats", headers=asked)
        return answer.headers.get("Access-Control-Allow-Origin")

    assert allowed(app, "http://localhost:5173") == "http://localhost:5173"
    for origin in ("https://evil.example", "http://localhost.evil.example", "https://app.example.com", "null"):
        assert allowed(app, origin) is None
    named = make_app(SETTINGS + '[cors]\norigins = ["https://app.example.com"]\n')
    assert allowed(named, "https://app.example.com") == "https://app.example.com"
    assert allowed(named, "https://appXexample.com") is None


def test_an_unknown_parameter_is_answered_with_those_that_there_are(ada: User) -> None:
    message = error_of(ada.get("/v1/chats?size=3"))["message"]
    assert message.startswith("size: there is no such parameter. There are: ")
    assert {"limit", "cursor"} <= set(message.replace(",", "").split())
