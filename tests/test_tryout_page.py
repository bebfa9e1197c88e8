"""The page at ``/`` in a real browser: what a founder sees of an answer, of a failure in it, and of a document."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from firelaunch.testing.models import ModelServer, Reply
from support import Server
from websockets.sync.client import connect

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
OPTIONS += ["--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium: install Debian's package chromium")

SAY = "document.getElementById('text').value = {}; document.getElementById('form').requestSubmit()"
LINES = "[...document.querySelectorAll('#log div')].map((each) => [each.className, each.textContent])"


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Callable[[str], Any]]:
    """A page in Chromium; the value of a JavaScript expression on it, which must not throw."""
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = profile / "DevToolsActivePort"
        # From a disk that has not been read yet it takes a minute to start.
        wait_until(lambda: told.exists() and "\n" in told.read_text(), seconds=180)
        port = told.read_text().split()[0]

        def pages() -> list[dict[str, Any]]:
            found = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            return [each for each in found if each["type"] == "page" and each["url"].startswith(url)]

        wait_until(lambda: bool(pages()))
        numbers = count(1)
        with connect(pages()[0]["webSocketDebuggerUrl"], proxy=None) as page:

            def value(expression: str) -> Any:
                number = next(numbers)
                asked = {"expression": expression, "returnByValue": True}
                page.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": asked}))
                while (answer := json.loads(page.recv(timeout=30))).get("id") != number:
                    pass
                if "error" in answer:  # between two pages there is none to ask
                    return None
                assert "exceptionDetails" not in answer["result"], (expression, answer["result"])
                return answer["result"]["result"].get("value")

            # The browser names a page by where it is going while about:blank, just as complete, is still in it.
            ready = f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})"
            wait_until(lambda: value(ready) is True)
            yield value
    finally:
        browser.kill()
        browser.wait()


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "the browser does not get there"
        time.sleep(0.05)


def test_an_answer_is_shown_with_its_cost_and_one_that_breaks_off_with_its_reason(
    app_folder: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    with ModelServer(Reply(words=["Good ", "day."])) as model:
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
        with opened(server.url, tmp_path / "profile") as value:
            value(SAY.format("'Hello'"))
            wait_until(lambda: len(value(LINES)) == 3)
            asked, answer, cost = value(LINES)
            assert (asked, answer) == (["user", "Hello"], ["model", "Good day."])
            assert "tokens in" in cost[1]
            model.script = [Reply(words=["Well ", "then ", "no."], error_after=2)]
            value(SAY.format("'Again'"))
            wait_until(lambda: value(LINES)[-1][0] == "error")
            *_, broken, reason = value(LINES)
    assert broken[1].startswith("Well")
    assert reason == ["error", "model_unavailable: The model is not available at the moment. Try again."]
