"""The web client on a laptop: served from where it was built, and by no deployed app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.settings.web_client import client_config, client_headers
from firelaunch.testing.apps import SETTINGS, write_app
from flask.testing import FlaskClient

MakeApp = Callable[..., App]
SITE = SETTINGS.replace("[models]", '[cloud]\nsite = "acme-chat"\n\n[models]', 1)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>The client</title>")
    (folder / "icon.svg").write_text("<svg/>")
    (folder / "secret.json").write_text("{}")
    (folder / "assets" / "main-1a2b.js").write_text("start()")
    return folder


def client_of(folder: Path, **environ: str) -> FlaskClient:
    app = App("test")
    settings = Settings.load(write_app(folder), {"FIRELAUNCH_DATA": str(folder / "data"), **environ})
    init_app(app, build(settings), lambda _: ())
    return app.test_client()


def test_the_built_client_is_at_the_root_with_its_config(tmp_path: Path, built: Path) -> None:
    client = client_of(tmp_path, FIRELAUNCH_WEB=str(built))
    page = client.get("/")
    assert (page.status_code, page.text) == (200, "<title>The client</title>")
    assert page.headers["Cache-Control"] == "no-cache"
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert (page.headers["X-Content-Type-Options"], policy.count("connect-src 'self';")) == ("nosniff", 1)
    asset = client.get("/assets/main-1a2b.js")
    assert (asset.text, asset.mimetype) == ("start()", "text/javascript")
    assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.get("/icon.svg").mimetype == "image/svg+xml"
    config = client.get("/config.json")
    assert config.headers["Cache-Control"] == "no-cache"
    assert config.json["app"] == {"id": "demo", "name": "Demo", "description": ""}
    assert (config.json["mode"], config.json["api"], config.json["firebase"]) == ("embedded", "", None)
    assert [plan["name"] for plan in config.json["plans"]] == ["free"]


def test_nothing_else_of_the_machine_is_served(tmp_path: Path, built: Path) -> None:
    client = client_of(tmp_path, FIRELAUNCH_WEB=str(built))
    for path in ("/secret.json", "/assets/none.js", "/assets/..%2findex.html", "/assets/../../firelaunch.toml", "/x"):
        assert client.get(path).status_code == 404, path
    assert client.get("/v1/me").status_code == 401
    assert client.get("/tryout/page.js").status_code == 200


def test_without_a_built_client_the_root_is_the_plain_page(make_app: MakeApp) -> None:
    client = make_app().test_client()
    assert "tryout/page.js" in client.get("/").text
    assert client.get("/config.json").status_code == 404


def test_no_deployed_app_serves_a_client(tmp_path: Path, built: Path) -> None:
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    with pytest.raises(SettingsError, match="FIRELAUNCH_WEB is set in cloud mode"):
        Settings.load(write_app(tmp_path), {**cloud, "FIRELAUNCH_WEB": str(built)})


def test_the_site_may_call_the_api_and_no_other_page(make_app: MakeApp) -> None:
    client = make_app(SITE).test_client()
    for origin, let_in in {
        "https://acme-chat.web.app": True,
        "https://acme-chat.firebaseapp.com": True,
        "https://acme-chat.web.app.example.com": False,
        "https://acme-chatxweb.app": False,
    }.items():
        answer = client.get("/v1/me", headers={"Origin": origin})
        assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is let_in, origin


def headers_of(settings: Settings, **given: Any) -> dict[str, list[str]]:
    policy = client_headers(client_config(settings, **given))["Content-Security-Policy"]
    return {part.split(" ")[0]: part.split(" ")[1:] for part in policy.split("; ")}


def test_the_policy_lets_the_page_call_what_its_config_names_and_no_more(tmp_path: Path) -> None:
    settings = Settings.load(write_app(tmp_path), {})
    firebase = {"apiKey": "k", "authDomain": "p.firebaseapp.com", "projectId": "p"}
    policy = headers_of(
        settings, mode="cloud", api="https://api.example", membership="https://m.example", firebase=firebase
    )
    assert policy["connect-src"][:3] == ["'self'", "https://api.example", "https://m.example"]
    assert "https://securetoken.googleapis.com" in policy["connect-src"]
    assert policy["frame-src"] == ["https://p.firebaseapp.com"]
    assert policy["script-src"] == ["'self'", "https://apis.google.com"]
    alone = headers_of(settings, mode="embedded")
    assert (alone["connect-src"], alone["frame-src"]) == (["'self'"], ["'none'"])
