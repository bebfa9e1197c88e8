"""The page for admins is a shell without data, and what it asks for is there for the app's own admins alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from firelaunch.api import page_files
from firelaunch.errors import SettingsError
from firelaunch.identity.dev import DevIdentity, load_or_create_key
from firelaunch.server.app import App
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in, write_app
from firelaunch.testing.models import ModelServer, Reply

PAGES = Path(page_files.__file__).parent / "pages"
FOR_ADMINS = ("app", "members", "ratings", "requests/{request}/contents", "jobs", "schedules")


def test_the_shell_is_public_and_the_same_for_everybody_and_names_no_app(make_app: Any) -> None:
    names = ("Secret project", "Another")
    pages = [make_app(SETTINGS.replace('"Demo"', f'"{name}"')).test_client().get("/ops") for name in names]
    assert [page.status_code for page in pages] == [200, 200]
    assert pages[0].data == pages[1].data
    assert b"Secret" not in pages[0].data


def test_the_page_may_run_and_call_its_own_app_and_the_membership_function_alone(make_app: Any) -> None:
    policies = []
    for more in ("", '\n[membership]\nurl = "https://members.example.com"\n'):
        page = make_app(SETTINGS + more).test_client().get("/ops")
        policies.append(dict(part.partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split("; ")))
    for policy in policies:
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src")} == {"'self'"}
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
        assert (policy["frame-ancestors"], policy["form-action"]) == ("'none'", "'none'")
    assert [policy["connect-src"] for policy in policies] == ["'self'", "'self' https://members.example.com"]


@pytest.mark.parametrize(
    "url", ["http://members.example.com", "https://a b", "https://x; script-src *", "javascript:1"]
)
def test_an_address_of_the_membership_function_that_could_widen_the_policy_is_no_setting(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(SettingsError, match=r"membership\.url"):
        Settings.load(write_app(tmp_path, f'{SETTINGS}\n[membership]\nurl = "{url}"\n'), {})


def test_each_file_that_the_page_or_one_of_its_files_names_is_served_and_no_other(make_app: Any) -> None:
    client = make_app().test_client()
    text = client.get("/ops").text
    named = set(re.findall(r'(?:src|href)="/ops/([^"]+)"', text))
    assert not re.findall(r"style=|<style|<script>| on\w+=", text)
    for script in (PAGES / "ops").glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]+)"', script.read_text()))
        assert f"ops/{script.name}", script.name
    assert {"base.css", "uPlot.js", "charts.js", "dom.js"} <= named
    for name in named:
        file = client.get(f"/ops/{name}")
        assert (file.status_code, file.mimetype) == (200, "text/css" if name.endswith("css") else "text/javascript")
    for name in ("ops.html", "page.js", "..%2fops_page.py", "vendor%2fuPlot.js", "README.md"):
        assert client.get(f"/ops/{name}").status_code == 404


def test_the_libraries_of_others_are_the_files_that_were_published_and_the_pages_own_scripts_write_no_html() -> None:
    told = (PAGES / "vendor" / "README.md").read_text()
    for file in (*(PAGES / "vendor").glob("*.js"), *(PAGES / "vendor").glob("*.css")):
        assert sha256(file.read_bytes()).hexdigest() in told, file.name
    for script in (*PAGES.glob("*.js"), *(PAGES / "ops").glob("*.js")):
        written = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\("
        assert not re.findall(written, script.read_text()), script.name


def asked(user: User, request: str) -> list[int]:
    return [user.get(f"/v1/ops/{path}".format(request=request)).status_code for path in FOR_ADMINS]


def test_members_and_admins_of_another_app_get_nothing_that_the_page_shows(model_app: App) -> None:
    ada = sign_in(model_app, "ada")
    request = ada.send(ada.new_chat(), "A secret").get_json()["request_id"]
    settings = model_app.services.settings  # type: ignore[attr-defined]
    elsewhere = DevIdentity("other", load_or_create_key(settings.environment.data)).issue("eve", "admin")
    of_other = model_app.services.dev_identity._serializer.dumps({"sub": "eve", "apps": {"other": "admin"}})  # type: ignore[attr-defined]
    nobody = [ada.client.get(f"/v1/ops/{path}".format(request=request)).status_code for path in FOR_ADMINS]
    assert asked(sign_in(model_app, "root", "admin"), request) == [200] * len(FOR_ADMINS)
    assert asked(ada, request) == [403] * len(FOR_ADMINS)
    assert asked(User(ada.client, of_other), request) == [403] * len(FOR_ADMINS)
    assert asked(User(ada.client, elsewhere), request) == [401] * len(FOR_ADMINS)
    assert nobody == [401] * len(FOR_ADMINS)


def test_members_are_listed_by_pages_whoever_changed_last_first(model_app: App) -> None:
    store = model_app.services.store  # type: ignore[attr-defined]
    for number in range(3):
        at = datetime(2026, 3, number + 1, tzinfo=UTC)
        fields = {"role": "member", "updated_at": at, **({"joined": at} if number else {})}
        store.commit([Set(store.scope.of(f"u{number}").member(), fields)])
    root = sign_in(model_app, "root", "admin")
    first = root.get("/v1/ops/members?limit=2").get_json()
    rest = root.get(f"/v1/ops/members?limit=2&cursor={first['next_cursor']}").get_json()
    assert [(each["uid"], each["role"]) for each in first["items"]] == [("u2", "member"), ("u1", "member")]
    assert ([each["uid"] for each in rest["items"]], rest["next_cursor"]) == (["u0"], None)
    assert rest["items"][0]["joined"] is None


def test_what_was_said_is_read_with_the_passages_it_cites_until_its_chat_or_document_is_gone(
    model_app: App, model: ModelServer
) -> None:
    ada, root = sign_in(model_app, "ada"), sign_in(model_app, "root", "admin")
    document = ada.upload("lamps.md", b"# Lamps\n\nYou may return a lamp within 30 days.").get_json()["id"]
    run_jobs(model_app)
    model.default = Reply(words=["30 days", " [1]."])
    chat = ada.new_chat()
    model_app.extensions["firelaunch"].turns._workflow = lambda turn: (
        (turn.passages and None) or turn.llm.stream([{"role": "user", "content": turn.passages + turn.text}])
    )
    answer = ada.send(chat, "When may I return a lamp?").get_json()
    path = f"/v1/ops/requests/{answer['request_id']}/contents"
    said = root.get(path).get_json()
    assert (said["question"], said["answer"]) == ("When may I return a lamp?", answer["message"]["text"])
    assert [(each["title"], "30 days" in each["text"]) for each in said["passages"]] == [("lamps.md", True)]
    ada.put(f"/v1/chats/{chat}/messages/{answer['message']['id']}/rating", {"value": "down", "text": "No."})
    assert root.get(path).get_json()["rating"]["text"] == "No."
    ada.delete(f"/v1/documents/{document}")
    run_jobs(model_app)
    assert [each["text"] for each in root.get(path).get_json()["passages"]] == [None]
    ada.delete(f"/v1/chats/{chat}")
    gone = root.get(path).get_json()
    assert (gone["question"], gone["answer"], gone["passages"], gone["rating"]) == (None, None, [], None)
    assert root.get("/v1/ops/requests/nothing/contents").status_code == 404


def test_the_audit_log_says_who_read_what_was_said_and_not_what(model_app: App) -> None:
    ada, root = sign_in(model_app, "ada"), sign_in(model_app, "root", "admin")
    request = ada.send(ada.new_chat(), "A secret").get_json()["request_id"]
    assert root.get("/v1/ops/ratings").status_code == 200
    assert root.get("/v1/ops/audit").get_json()["items"] == [], "no contents, no entry"
    root.get(f"/v1/ops/requests/{request}/contents")
    (entry,) = root.get("/v1/ops/audit").get_json()["items"]
    assert (entry["what"], entry["by"], entry["after"]) == ("contents.read", "root", {"request": request})
    root.get("/v1/ops/ratings?contents=true")
    log = root.get("/v1/ops/audit").get_json()["items"]
    assert [each["by"] for each in log] == ["root", "root"]
    assert "secret" not in str(log)
