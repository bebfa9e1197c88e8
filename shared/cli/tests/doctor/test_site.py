"""``firelaunch doctor`` looks at the deployed web client by requests, here to servers of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from firelaunch.settings.app import Settings
from firelaunch.settings.web_client import client_config, client_headers
from firelaunch.testing.apps import write_app
from firelaunch_cli.doctor.site import site_checks

Answer = tuple[dict[str, str], Any]


@contextmanager
def server(answers: Callable[[str], Answer | None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers(self.path)
            self.send_response(200 if answer else 404)
            headers, body = answer or ({}, "")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def looked(tmp_path: Path, change: str = "") -> dict[str, str]:
    """Return the doctor's findings for a client with one fault."""
    with server(
        lambda path: ({}, {"app": "other" if change == "api" else "demo"}) if path == "/ready" else None
    ) as api:
        api = f"{api}/gone" if change == "no api" else api
        config = client_config(Settings.load(write_app(tmp_path), {}), mode="cloud", api=api)
        headers = {**client_headers(config), "Strict-Transport-Security": "max-age=31536000"}
        if change == "policy":
            headers["Content-Security-Policy"] += "; script-src * 'unsafe-inline'"
        if change == "transport":
            del headers["Strict-Transport-Security"]
        if change == "app":
            config["app"]["id"] = "other"
        pages: dict[str, Answer] = {"/": (headers, "<div id=root>"), "/config.json": ({}, config)}
        if change == "empty":
            pages = {"/": ({}, "Site Not Found"), "/config.json": ({}, "<!doctype html>")}
        if change == "gone":
            pages = {}
        with server(pages.get) as site:
            return {finding.name: finding.status for finding in site_checks(site, "demo")}


def test_a_client_that_was_deployed_is_as_it_should_be(tmp_path: Path) -> None:
    assert looked(tmp_path) == {"web client": "ok", "web client's headers": "ok", "web client's API": "ok"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("gone", "web client"),
        ("empty", "web client"),
        ("app", "web client"),
        ("policy", "web client's headers"),
        ("transport", "web client's headers"),
        ("api", "web client's API"),
        ("no api", "web client's API"),
    ],
)
def test_what_is_wrong_with_a_client_is_one_problem(tmp_path: Path, change: str, name: str) -> None:
    found = looked(tmp_path, change)
    assert [each for each, status in found.items() if status == "problem"] == [name]


def test_a_site_that_cannot_be_reached_is_a_problem() -> None:
    (finding,) = site_checks("http://127.0.0.1:9", "demo")
    assert finding.status == "problem"
    assert "cannot be reached" in finding.said
    assert finding.mend == "firelaunch deploy demo"
