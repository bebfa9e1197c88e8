"""Where agents get tokens, and the access tokens of a founder's own authorization server, with real signatures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import jwt
import pytest
from firelaunch.errors import SettingsError
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.settings.app import Settings
from firelaunch.store.base import Delete, Set
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.certificates import CertificateServer
from mcp.client.auth.utils import (
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    handle_protected_resource_response,
)

ISSUER, RESOURCE = "https://auth.example.com", "https://my-app.example.com/mcp"
SERVER = f'[mcp]\nauthorization_server = "{ISSUER}"\nresource = "{RESOURCE}"\n'
WELL_KNOWN = "/.well-known/oauth-protected-resource"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


@pytest.fixture
def app(make_app: Callable[..., App], issuer: CertificateServer) -> App:
    made = make_app(f'{SETTINGS}{SERVER}keys_url = "{issuer.jwks_url}"\n')
    member(made, "ada", "member")
    return made


def member(app: App, uid: str, role: str | None) -> None:
    path = Scope("demo", uid).member()
    store = app.services.store  # type: ignore[attr-defined]
    store.commit([Delete(path) if role is None else Set(path, {"role": role})])


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "sub": "ada", "aud": RESOURCE, "iat": now, "exp": now + 600, "client_id": "agent"}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def post(app: App, token: str | None, path: str = "/mcp", **headers: str) -> Any:
    given = {} if token is None else {"Authorization": f"Bearer {token}"}
    return app.test_client().post(path, json=PING, headers={**given, **headers})


def test_an_agent_finds_the_authorization_server_from_a_401(app: App) -> None:
    """As MCP's own client goes about it."""
    refused = post(app, None)
    assert refused.status_code == 401
    found = httpx2.Response(401, headers={"WWW-Authenticate": refused.headers["WWW-Authenticate"]})
    address = extract_resource_metadata_from_www_auth(found)
    assert address == f"https://my-app.example.com{WELL_KNOWN}/mcp"
    urls = build_protected_resource_metadata_discovery_urls(None, RESOURCE)
    assert [url.removeprefix("https://my-app.example.com") for url in urls] == [f"{WELL_KNOWN}/mcp", WELL_KNOWN]
    for url in urls:
        answer = app.test_client().get(url.removeprefix("https://my-app.example.com"))
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=300")
        metadata = asyncio.run(handle_protected_resource_response(httpx2.Response(200, content=answer.data)))
        assert metadata is not None
        assert [str(each).rstrip("/") for each in metadata.authorization_servers] == [ISSUER]
        assert str(metadata.resource) == RESOURCE
    assert 'error="invalid_token"' in post(app, "x").headers["WWW-Authenticate"]


def test_an_app_without_an_authorization_server_has_no_metadata(make_app: Callable[..., App]) -> None:
    app = make_app()
    assert post(app, None).headers["WWW-Authenticate"] == "Bearer"
    for path in (WELL_KNOWN, f"{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/v1"):
        assert app.test_client().get(path).status_code == 404


def test_without_an_address_in_the_settings_the_resource_is_where_the_client_calls(
    make_app: Callable[..., App],
) -> None:
    app = make_app(f'{SETTINGS}[mcp]\nauthorization_server = "{ISSUER}"\n')
    for host in ("localhost:8080", "my-app-123.a.run.app", "[::1]:8080"):
        address = f"http://{host}{WELL_KNOWN}/mcp"
        assert post(app, None, Host=host).headers["WWW-Authenticate"] == f'Bearer resource_metadata="{address}"'
        answer = app.test_client().get(f"{WELL_KNOWN}/mcp", headers={"Host": host}).get_json()
        assert answer["resource"] == f"http://{host}/mcp"
    for host in ('a"b', "a b", 'x", error="y'):
        told = post(app, None, Host=host).headers.get("WWW-Authenticate", "Bearer")
        assert told == "Bearer"
    # Other routes know nothing of it.
    assert app.test_client().get("/v1/me").headers["WWW-Authenticate"] == "Bearer"


def test_the_metadata_is_bounded_as_public_routes_are(make_app: Callable[..., App]) -> None:
    limits = SETTINGS.replace("[limits]", "[limits]\npublic_requests_per_minute = 3")
    client = make_app(limits + SERVER).test_client()
    assert [client.get(WELL_KNOWN).status_code for _ in range(5)][2:] == [200, 429, 429]


def test_an_access_token_names_a_user_whose_role_is_that_of_their_membership(
    app: App, issuer: CertificateServer
) -> None:
    list_chats = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_chats", "arguments": {}}}
    sign_in(app, "ada").post("/v1/chats", {"title": "Hers"})
    for token in (issuer.sign(claims()), issuer.sign(claims(aud=["other", RESOURCE + "/"], iss=ISSUER + "/"))):
        answer = app.test_client().post("/mcp", json=list_chats, headers={"Authorization": f"Bearer {token}"})
        assert answer.get_json()["result"]["structuredContent"]["items"][0]["title"] == "Hers"
    token = issuer.sign(claims(apps={"demo": "admin"}))
    assert post(app, token).status_code == 200
    for path in ("/v1/ops/usage", "/v1/me"):
        answer = app.test_client().get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, "it is for /mcp alone"
    member(app, "ada", None)
    assert (post(app, token).status_code, post(app, token).get_json()["error"]["code"]) == (403, "forbidden")
    # The tokens that every app takes are taken, too.
    assert post(app, sign_in(app, "bob").token).status_code == 200


NOW = int(time.time())
BAD: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://evil.example"},
    "of an issuer that begins alike": {"iss": ISSUER + ".evil.example"},
    "without an issuer": {"iss": None},
    "for another resource": {"aud": "https://other.example.com/mcp"},
    "for the same host only": {"aud": "https://my-app.example.com"},
    "for a client, as an ID token is": {"aud": "agent"},
    "without an audience": {"aud": None},
    "with an audience that is an object": {"aud": {RESOURCE: 1}},
    "that has expired": {"iat": NOW - 7200, "exp": NOW - 3600},
    "that never expires": {"exp": None},
    "with an end that is text": {"exp": "tomorrow"},
    "from the future": {"iat": NOW + 3600, "exp": NOW + 7200},
    "not valid yet": {"nbf": NOW + 3600},
    "without a user": {"sub": None},
    "of a user that is a number": {"sub": 7},
    "of a user with a slash": {"sub": "ada/chats"},
    "of an empty user": {"sub": ""},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_an_access_token_is_not_taken(app: App, issuer: CertificateServer, changes: dict[str, Any]) -> None:
    assert post(app, issuer.sign(claims(**changes))).status_code == 401


def test_a_signature_that_anybody_could_make_is_none(app: App, issuer: CertificateServer) -> None:
    kid = jwt.get_unverified_header(issuer.sign(claims()))["kid"]
    forged = [
        jwt.encode(claims(), None, algorithm="none", headers={"kid": kid}),
        jwt.encode(claims(), "k" * 64, algorithm="HS256", headers={"kid": kid}),
        issuer.sign(claims())[:-8] + "AAAAAAAA",
        issuer.sign(claims()) + ".x",
    ]
    with CertificateServer() as other:
        forged.append(other.sign(claims()))
        assert [post(app, token).status_code for token in forged] == [401] * len(forged)


def test_a_user_who_is_no_member_is_refused(app: App, issuer: CertificateServer) -> None:
    assert post(app, issuer.sign(claims(sub="eve"))).status_code == 403
    member(app, "eve", "not a role!")
    assert post(app, issuer.sign(claims(sub="eve"))).status_code == 403


def test_another_claim_may_have_the_uid(make_app: Callable[..., App], issuer: CertificateServer) -> None:
    app = make_app(f'{SETTINGS}{SERVER}keys_url = "{issuer.jwks_url}"\nuser_claim = "external_id"\n')
    member(app, "ada", "member")
    assert post(app, issuer.sign(claims(sub="user_1", external_id="ada"))).status_code == 200
    assert post(app, issuer.sign(claims(sub="ada"))).status_code == 401


def test_keys_that_cannot_be_fetched_are_a_503(make_app: Callable[..., App], issuer: CertificateServer) -> None:
    app = make_app(f'{SETTINGS}{SERVER}keys_url = "http://127.0.0.1:9/keys"\n')
    assert post(app, issuer.sign(claims())).status_code == 503
    assert post(app, sign_in(app, "bob").token).status_code == 200


@pytest.mark.parametrize(
    "section",
    [
        'authorization_server = "http://auth.example.com"',
        'authorization_server = "auth.example.com"',
        'authorization_server = "https://"',
        'authorization_server = "https://auth.example.com/?a=b"',
        'authorization_server = "javascript:alert(1)"',
        'keys_url = "https://auth.example.com/keys"',
        'resource = "https://my-app.example.com/mcp"',
        'authorization_server = "https://auth.example.com"\nwait_seconds = -1',
    ],
)
def test_settings_that_do_not_hold_together_are_refused(tmp_path: Any, section: str) -> None:
    with pytest.raises(SettingsError, match="mcp"):
        Settings.load(write_app(tmp_path, f"{SETTINGS}[mcp]\n{section}\n"), {})


def test_keys_without_an_address_are_refused_at_start(make_app: Callable[..., App]) -> None:
    section = f'[mcp]\nauthorization_server = "{ISSUER}"\nkeys_url = "{ISSUER}/keys"\n'
    with pytest.raises(SettingsError, match=r"mcp\.resource"):
        make_app(SETTINGS + section)
