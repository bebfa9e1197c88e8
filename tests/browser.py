"""A real Chromium, driven over its DevTools protocol: what a page shows, and what people do to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

__all__ = ["BROWSER", "NO_BROWSER", "Page", "browser", "wait_until"]

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "no chromium: install Debian's package chromium"

_OPTIONS = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-quic",
]
_OPTIONS += ["--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9}


def wait_until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Return once ``holds()`` is true."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "the browser does not get there"
        time.sleep(0.05)


def _shown(selector: str) -> str:
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return f"{found}.filter((e) => e.checkVisibility({{visibilityProperty: true}}))"


class Page:
    """One page.

    Attributes:
        requested: every address that it asked for.
        complaints: what its scripts threw, and what its console and its policy reported.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.requested: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command of the protocol gives."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while (message := json.loads(self._socket.recv(timeout=30))).get("id") != self._number:
            self._note(message)
        assert "error" not in message, (method, params, message["error"])
        result: dict[str, Any] = message["result"]
        return result

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        # A status that is an error is reported as one, and tests ask for some.
        if message["method"] == "Log.entryAdded" and params["entry"]["source"] != "network":
            self.complaints.append(params["entry"]["text"])

    def go(self, url: str) -> None:
        """Open an address; return when it is there, scripts included."""
        self.command("Page.navigate", url="about:blank")
        self.command("Page.navigate", url=url)
        self._loaded(url)

    def reload(self) -> None:
        """Load the page anew."""
        url = self("location.href")
        self("window.before = true")
        self.command("Page.reload")
        wait_until(lambda: self("window.before") is None)
        self._loaded(url)

    def _loaded(self, url: str) -> None:
        wait_until(lambda: self(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})"))

    def __call__(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page, which must not throw."""
        self._number += 1
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        self._socket.send(json.dumps({"id": self._number, "method": "Runtime.evaluate", "params": params}))
        while (message := json.loads(self._socket.recv(timeout=30))).get("id") != self._number:
            self._note(message)
        if "error" in message:  # between two pages there is none to ask
            return None
        assert "exceptionDetails" not in message["result"], (expression, message["result"])
        return message["result"]["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The text of each element that is shown."""
        found: list[str] = self(f"{_shown(selector)}.map((e) => e.innerText.trim())") or []
        return found

    def until(self, selector: str, text: str = "", seconds: float = 30) -> None:
        """Wait for an element that is shown and holds ``text``."""
        wait_until(lambda: any(text in each for each in self.texts(selector)), seconds)

    def click(self, selector: str, text: str = "") -> None:
        """Click in the middle of the first such element that holds ``text``, as a mouse does."""
        self.until(selector, text)
        found = f"{_shown(selector)}.find((e) => e.innerText.includes({json.dumps(text)}))"
        self(f"{found}.scrollIntoView({{block: 'nearest'}})")
        box = self(f"{found}.getBoundingClientRect().toJSON()")
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, **at)

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.command("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, and let go of it."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.command("Input.dispatchKeyEvent", type="keyUp", **code)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page another screen."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    def scheme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path: Path) -> None:
        """Keep what is on the screen as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(self.command("Page.captureScreenshot")["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page in a Chromium of its own, with an empty ``profile``."""
    command = [str(BROWSER), *_OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = profile / "DevToolsActivePort"
        # From a disk that has not been read yet it takes a minute to start.
        wait_until(lambda: told.exists() and "\n" in told.read_text(), seconds=180)
        port = told.read_text().split()[0]

        def pages() -> list[dict[str, Any]]:
            found = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            return [each for each in found if each["type"] == "page"]

        wait_until(lambda: bool(pages()))
        with connect(pages()[0]["webSocketDebuggerUrl"], proxy=None, max_size=None) as socket:
            yield Page(socket)
    finally:
        process.kill()
        process.wait()
