"""The page to try an app in a browser: in development only, and it may run nothing but its own files."""

from __future__ import annotations

import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from firelaunch.api import tryout
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app

PAGES = Path(tryout.__file__).parent / "pages"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text in those without children."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_on_a_laptop_the_root_is_a_page_that_may_load_its_own_files_alone(make_app: Any) -> None:
    client = make_app().test_client()
    page = client.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(part.partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    elements = Elements(page.text)
    for _tag, attributes in elements.found:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    loaded = [
        a[name] for tag, a in elements.found for name in ("src", "href") if tag in {"script", "link"} and name in a
    ]
    assert sorted(str(each) for each in loaded) == [
        "data:,",
        "tryout/base.css",
        "tryout/markdown-it.js",
        "tryout/page.css",
        "tryout/page.js",
    ]


def test_each_file_that_the_page_or_one_of_its_files_names_is_served_as_what_it_is(make_app: Any) -> None:
    client = make_app().test_client()
    named = {*re.findall(r'(?:src|href)="tryout/([^"]+)"', client.get("/").text)}
    for script in PAGES.glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]+)"', script.read_text()))
    assert len(named) == 7
    for name in named:
        file = client.get(f"/tryout/{name}")
        assert (file.status_code, file.mimetype) == (200, "text/css" if name.endswith("css") else "text/javascript")
        assert file.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["page.html", "LICENSE", "..%2ftryout.py", "vendor%2fmarkdown-it.js", "none.js"])
def test_no_other_file_is_served(make_app: Any, name: str) -> None:
    assert make_app().test_client().get(f"/tryout/{name}").status_code == 404


def test_the_library_of_others_is_the_file_that_was_published() -> None:
    told = (PAGES / "vendor" / "README.md").read_text()
    assert sha256((PAGES / "vendor" / "markdown-it.js").read_bytes()).hexdigest() in told


def test_no_script_of_the_page_writes_html_or_runs_text() -> None:
    scripts = list(PAGES.glob("*.js"))
    assert scripts
    for script in scripts:
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", script.read_text()
        )
        assert not found, script.name


@pytest.mark.parametrize("name", ["Night school", "<img src=x onerror=alert(1)>", "\"'&APP_NAME</title><script>"])
def test_the_page_bears_the_apps_name_whatever_that_is(make_app: Any, name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    client = make_app(SETTINGS.replace('name = "Demo"', f'name = "{quoted}"')).test_client()
    elements = Elements(client.get("/").text)
    assert elements.texts.count(name) == 2, "the title and the heading"
    assert [tag for tag, _ in elements.found if tag in {"script", "img"}] == ["script", "script"]
    assert dict(elements.found)["body"]["data-app"] == name


def test_in_the_cloud_there_is_nothing_at_the_root(tmp_path: Path) -> None:
    settings = write_app(tmp_path, SETTINGS)
    environ = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    app = App("cloud")
    init_app(app, build(Settings.load(settings, environ)), lambda _: ())
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/", "/tryout/page.js", "/tryout/page.css")] == [404, 404, 404]


def test_a_price_for_the_offline_model_lets_a_budget_be_used_up_without_a_key(make_app: Any) -> None:
    client = make_app(settings=SETTINGS + '\n[prices.offline]\ninput = "500000"\noutput = "1000000"\n').test_client()
    token = client.post("/dev/token", json={"uid": "ada"}).get_json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    chat = client.post("/v1/chats", json={}, headers=headers).get_json()["id"]
    refused = client.post(f"/v1/chats/{chat}/messages", json={"text": "Hello"}, headers=headers)
    assert refused.status_code == 429
    assert refused.get_json()["error"]["code"] == "budget_exceeded"
    assert "at midnight UTC" in refused.get_json()["error"]["message"]
