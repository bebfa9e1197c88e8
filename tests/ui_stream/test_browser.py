"""A page in a real browser, of another origin than the service: CORS, headers and streaming as browsers have them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from firelaunch.testing.models import ModelServer, Reply
from javascript import NoJavaScript, install
from support import ROOT, Server

HERE = Path(__file__).parent / "js"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]


@contextmanager
def site(folder: Path, asked: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], threading.Event]]:
    """The page on a server of its own; what it reports, and when it has."""
    reports: list[dict[str, Any]] = []
    reported = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/asked.json":
                super().do_GET()
                return
            self._send(json.dumps(asked).encode())

        def do_POST(self) -> None:
            reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(b"{}")
            reported.set()

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://localhost:{server.server_port}/page.html", reports, reported
        server.shutdown()


@pytest.mark.skipif(BROWSER is None, reason="no chromium: install Debian's package chromium")
def test_a_page_of_another_origin_streams_resumes_and_stops(
    app_folder: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    try:
        folder = install(HERE, "page.html", ROOT / "build" / "ui_stream_js")
    except NoJavaScript as error:
        pytest.skip(f"no JavaScript SDK: {error}")
    with ModelServer(Reply(words=["one ", "two ", "three "] * 5, pace=0.05)) as model:
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
        token = server.sign_in("ada").headers["Authorization"].removeprefix("Bearer ")
        asked = {"api": f"{server.url}/v1/chat", "token": token}
        with site(folder, asked) as (url, reports, reported):
            command = [
                str(BROWSER),
                *OPTIONS,
                f"--user-data-dir={tmp_path / 'profile'}",
                "--remote-debugging-port=0",
                url,
            ]
            browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                assert reported.wait(60), "the browser told nothing"
            finally:
                browser.kill()
                browser.wait()
    (report,) = reports
    assert report.get("failed") is None
    assert (report["status"], report["resumed"], report["stopped"]) == (200, 204, 204)
    assert report["text"] == "one two three " * 5
    assert report["reads"] > 5  # as it was written, not at its end
    assert report["headers"]["x-vercel-ai-ui-message-stream"] == "v1"
    assert report["headers"]["x-request-id"].startswith("req_")
