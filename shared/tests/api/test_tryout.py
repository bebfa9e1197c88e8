"""The page to try an app in a browser: in development alone, and it may run nothing but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from firelaunch.settings import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.web import App, init_app
from firelaunch.wiring import build


def test_on_a_laptop_the_root_is_a_page_whose_script_alone_may_run(make_app: Any) -> None:
    page = make_app().test_client().get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert "innerHTML" not in page.text
    assert "http" not in page.text


def test_in_the_cloud_there_is_nothing_at_the_root(tmp_path: Path) -> None:
    settings = write_app(tmp_path, SETTINGS)
    environ = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    app = App("cloud")
    init_app(app, build(Settings.load(settings, environ)), lambda _: ())
    assert app.test_client().get("/").status_code == 404


def test_a_price_for_the_offline_model_lets_a_budget_be_used_up_without_a_key(make_app: Any) -> None:
    client = make_app(settings=SETTINGS + '\n[prices.offline]\ninput = "500000"\noutput = "1000000"\n').test_client()
    token = client.post("/dev/token", json={"uid": "ada"}).get_json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    chat = client.post("/v1/chats", json={}, headers=headers).get_json()["id"]
    refused = client.post(f"/v1/chats/{chat}/messages", json={"text": "Hello"}, headers=headers)
    assert refused.status_code == 429
    assert refused.get_json()["error"]["code"] == "budget_exceeded"
    assert "at midnight UTC" in refused.get_json()["error"]["message"]
