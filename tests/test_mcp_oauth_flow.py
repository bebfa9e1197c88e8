"""MCP's own client signs a user in: from a 401 to the metadata, the authorization server, and a call with its token."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import support
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.testing.certificates import CertificateServer
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from support import copy_template, served


class AuthorizationServer(ThreadingHTTPServer):
    """Registers any client, and signs everybody in as Ada. Tokens are for the resource that the client asks for."""

    def __init__(self, keys: CertificateServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys, self.url = keys, f"http://127.0.0.1:{self.server_port}"
        self.asked: list[dict[str, list[str]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: AuthorizationServer

    def do_GET(self) -> None:
        url = self.server.url
        self._answer(
            {
                "issuer": url,
                "authorization_endpoint": f"{url}/authorize",
                "token_endpoint": f"{url}/token",
                "registration_endpoint": f"{url}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/register":
            self._answer({**json.loads(body), "client_id": "agent", "token_endpoint_auth_method": "none"}, 201)
            return
        form = parse_qs(body)
        self.server.asked.append(form)
        now = int(time.time())
        claims = {"iss": self.server.url, "sub": "ada", "aud": form["resource"][0], "iat": now, "exp": now + 600}
        self._answer({"access_token": self.server.keys.sign(claims), "token_type": "Bearer", "expires_in": 600})

    def _answer(self, body: Any, status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class Storage:
    """Keeps tokens for one run."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


async def chats_of_whoever_signs_in(address: str) -> list[str]:
    states: list[str] = []

    async def redirect(url: str) -> None:
        states.append(parse_qs(urlsplit(url).query)["state"][0])

    async def callback() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code="code", state=states[-1])

    metadata = OAuthClientMetadata.model_validate(
        {"redirect_uris": ["http://localhost:1/callback"], "client_name": "t", "token_endpoint_auth_method": "none"}
    )
    auth = OAuthClientProvider(address, metadata, Storage(), redirect, callback)
    async with (
        httpx2.AsyncClient(auth=auth, trust_env=False, timeout=20) as http,
        Client(streamable_http_client(address, http_client=http)) as agent,
    ):
        listed = await agent.call_tool("list_chats", {})
    assert listed.structured_content is not None
    return [chat["title"] for chat in listed.structured_content["items"]]


def test_an_agent_signs_a_user_in_and_acts_as_that_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_template(tmp_path / "my-app")
    with CertificateServer() as keys:
        issuer = AuthorizationServer(keys)
        threading.Thread(target=issuer.serve_forever, args=(0.02,), daemon=True).start()
        settings = folder / "firelaunch.toml"
        port = support.free_port()  # the settings name the app's address before it is served
        monkeypatch.setattr(support, "free_port", lambda: port)
        section = f'\n[mcp]\nauthorization_server = "{issuer.url}"\nkeys_url = "{keys.jwks_url}"\n'
        settings.write_text(settings.read_text() + section + f'resource = "http://127.0.0.1:{port}/mcp"\n')
        services = build(Settings.load(settings, {}))
        services.store.commit([Set(Scope("my-app", "ada").member(), {"role": "member"})])
        services.store.close()
        with served(folder) as app:
            ada = app.sign_in("ada")
            ada.call("POST", "/v1/chats", {"title": "Hers"})
            assert asyncio.run(chats_of_whoever_signs_in(f"{app.url}/mcp")) == ["Hers"]
            assert [form["resource"] for form in issuer.asked] == [[f"{app.url}/mcp"]]
        issuer.shutdown()
        issuer.server_close()
