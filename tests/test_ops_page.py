"""The page at ``/ops`` in a real browser, on two days of an app's life: it says why yesterday was dear."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, NO_BROWSER, Page, browser, wait_until
from firebase_admin import credentials
from firelaunch.functions.membership import membership_app
from firelaunch.identity.dev import DevIdentity, load_or_create_key
from firelaunch.membership.firebase import FirebaseDirectory
from firelaunch.membership.members import Membership
from firelaunch.membership.policy import Policy
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.accounts import AccountServer
from firelaunch.testing.models import ModelServer
from google.oauth2.credentials import Credentials
from javascript import NoJavaScript, install
from ops_seed import CAUSE, DEAD_JOB, seed
from support import ROOT, Server, copy_template, served
from werkzeug.serving import make_server

pytestmark = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)

DESKTOP, PHONE = (1280, 900), (390, 844)
APP = "my-app"
VIEWS = {"overview": ".why", "requests": "table .open", "jobs": "h2", "people": ".form"}


class _Key(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Credentials:
        return Credentials(token="owner")  # type: ignore[no-untyped-call]


class DevTokens:
    """The tokens of the served app, as the membership function reads those of Firebase."""

    def __init__(self, data: Path) -> None:
        self._identity = DevIdentity(APP, load_or_create_key(data))

    def claims(self, token: str) -> dict[str, Any]:
        return {"sub": self._identity.verify(token).uid, "iat": time.time()}


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(one_browser: Page) -> Iterator[Page]:
    """A page on a desktop's screen. Whatever a test does, its scripts throw nothing and break no policy."""
    one_browser.resize(*DESKTOP)
    one_browser.scheme("light")
    one_browser.complaints.clear()
    one_browser.requested.clear()
    yield one_browser
    assert one_browser.complaints == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app that has lived for two days."""
    folder = copy_template(tmp_path_factory.mktemp("lived") / APP)
    settings = folder / "firelaunch.toml"
    text = settings.read_text().replace('daily_usd = "0.50"', 'daily_usd = "50.00"')
    settings.write_text(text.replace("requests_per_minute = 20", "requests_per_minute = 2000"))
    with ModelServer() as model:
        seed(folder, model, each_hour=1)
    return folder


@pytest.fixture(scope="module")
def accounts() -> Iterator[AccountServer]:
    with AccountServer("demo-ops") as accounts:
        accounts.add("root", claims={"apps": {APP: "admin"}})
        accounts.add("bob", claims={"apps": {APP: "member"}})
        yield accounts


@pytest.fixture(scope="module")
def membership(folder: Path, accounts: AccountServer) -> Iterator[str]:
    """The address of the membership function, on the app's own database."""
    data = folder / ".firelaunch"
    store = SQLiteStore(data / "data.sqlite3")
    store.commit([Set(f"apps/{APP}", {"name": "My app", **Policy().data()})])
    directory = FirebaseDirectory("demo-ops", toolkit_url=accounts.toolkit_url, credential=_Key())
    function = membership_app(Membership(directory, lambda _: store, store, lambda: datetime.now(UTC)), DevTokens(data))
    server = make_server("127.0.0.1", 0, function, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    store.close()


@pytest.fixture(scope="module")
def server(folder: Path, membership: str) -> Iterator[Server]:
    settings = folder / "firelaunch.toml"
    before = settings.read_text()
    budget = '[budget]\ndaily_usd = "5.00"\nmonthly_usd = "100.00"\n\n'
    settings.write_text(budget + before.replace("[membership]\n", f'[membership]\nurl = "{membership}"\n'))
    with served(folder) as server:
        settings.write_text(before)
        yield server


def enter(page: Page, url: str, view: str = "view=overview&range=today") -> Page:
    page.go(f"{url}/ops/ops.css")  # of the same origin, and without a script that signs in meanwhile
    page("sessionStorage.clear()")
    page.go(f"{url}/ops#{view}")
    page.click("#sign-in button", "Sign in")
    page.until("#as", "root")
    settled(page)
    return page


def settled(page: Page) -> None:
    wait_until(lambda: page("document.getElementById('view').ariaBusy === 'false' && !!view.dataset.shows"))


@pytest.fixture
def there(page: Page, server: Server) -> Page:
    return enter(page, server.url)


def open_view(page: Page, view: str, **more: str) -> None:
    place = "&".join(f"{name}={value}" for name, value in {"view": view, "range": "yesterday", **more}.items())
    page(f"location.hash = '#{place}'")
    wait_until(lambda: f"view={view}" in (page("view.dataset.shows") or ""))
    settled(page)


def test_why_yesterday_was_dear_is_said_after_one_click_and_the_requests_after_the_second(there: Page) -> None:
    there.click("#ranges button", "Yesterday")
    there.until(".why b", "more")
    settled(there)
    (said,) = there.texts(".why")
    causes = {row.split("\t")[0]: row.split("\t")[1] for row in there.texts(".why tbody tr")}
    assert (causes["Model"], causes["Prompt"], causes["User"]) == tuple(CAUSE.values())
    assert "each cost" in said
    there.click(".why a", "The dearest requests")
    there.until("table .open")
    rows = there.texts("#view tbody tr")
    assert {row.split("\t")[1] for row in rows[:5]} == {CAUSE["user"]}


def test_budgets_are_shown_with_what_is_used_of_them_and_a_month_with_its_forecast(there: Page) -> None:
    there.until(".pot", "of $5.00")
    there.until(".pot", "of $100.00")
    assert not [text for text in there.texts(".budget p") if "so far" in text]
    there.click("#ranges button", "30 days")
    there.until(".budget p", "if each day that is left costs")


def test_a_request_opens_as_a_waterfall_with_its_prompt_and_by_the_keyboard_alone(there: Page) -> None:
    open_view(there, "requests", order="dearest")
    there("document.querySelector('table .open').focus()")
    there.press("Enter")
    there.until("#request .waterfall li", "Model: gpt-6.1-terra")
    there.until("#request dd", CAUSE["prompt"])
    assert "request=" in there("location.hash"), "the address names it, to be sent to a colleague"
    assert there.texts("#request a") == [], "on a laptop there is no Cloud Logging"
    there.click("#request-body button", "Show what was said")
    there.until("#request .text", "Tell me everything")
    there.press("Escape")
    wait_until(lambda: not there("request.open") and "request=" not in there("location.hash"))
    there("history.back()")
    wait_until(lambda: there("request.open"))


def test_failed_and_rated_requests_are_listed_by_their_cause(there: Page) -> None:
    open_view(there, "overview")
    there.until("th", "model_refused")
    there.click("#view a", "The failed requests")
    there.until("td.bad", "model_refused")
    there.click(".choice", "Rated down")
    there.until("td", "incorrect")
    assert {row.split("\t")[3] for row in there.texts("#view tbody tr")} == {CAUSE["prompt"]}


def test_the_page_breaks_no_rule_of_accessibility_in_any_view_and_fits_a_phone(there: Page) -> None:
    try:
        packages = install(ROOT / "tests" / "axe", "package.json", ROOT / "build" / "axe")
    except NoJavaScript as reason:
        pytest.skip(str(reason))
    axe = (packages / "node_modules" / "axe-core" / "axe.min.js").read_text()
    found = []
    for scheme, screen in (("light", DESKTOP), ("dark", PHONE)):
        there.scheme(scheme)
        there.resize(*screen, phone=screen == PHONE)
        for view, shown in VIEWS.items():
            open_view(there, view)
            there.until(shown)
            found += violations(there, axe, f"{view}, {scheme}")
            assert there("document.documentElement.scrollWidth") <= screen[0], (view, screen)
        open_view(there, "requests")
        there.click("table .open")
        there.until(".waterfall li")
        found += violations(there, axe, f"request, {scheme}")
        there.press("Escape")
        wait_until(lambda: not there("request.open"))
    there.click("#sign-out")
    there.until("#sign-in")
    found += violations(there, axe, "signing in")
    assert found == []


def violations(page: Page, axe: str, where: str) -> list[str]:
    page.command("Runtime.evaluate", expression=axe)
    found = page("axe.run(document).then((all) => all.violations.map((one) => `${one.id}: ${one.nodes[0].html}`))")
    return [f"{where}: {each}" for each in found]


def test_every_control_of_the_overview_is_reached_by_tab(there: Page) -> None:
    open_view(there, "overview")
    there("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        there.press("Tab")
        reached.add(there("document.activeElement.innerText || document.activeElement.ariaLabel"))
    assert {"Overview", "Requests", "Yesterday", "90 days", "The dearest requests", "Sign out"} <= reached
    assert any("As a table" in str(each) for each in reached)


def test_a_chart_is_drawn_and_its_figures_are_a_table_too(there: Page) -> None:
    open_view(there, "overview")
    wait_until(lambda: there("document.querySelectorAll('.plot canvas').length") == 4)
    there.click("summary", "As a table")
    rows = [row.split("\t") for row in there.texts("figure:first-child tbody tr")]
    assert len(rows) == 24
    total = sum(float(row[1].strip("$")) for row in rows)
    shown = float(there.texts(".tile dd")[0].split("\n")[0].strip("$"))
    assert total == pytest.approx(shown, abs=0.01)


def test_hours_are_those_of_the_viewer_and_days_those_of_utc(page: Page, server: Server) -> None:
    page.command("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    try:
        enter(page, server.url, "view=overview&range=yesterday")
        page.until("#zone", "Asia/Tokyo")
        page.until("#zone", "9:00")
        page.click("summary", "As a table")
        assert "09:00" in page.texts("figure:first-child tbody tr")[0]
    finally:
        page.command("Emulation.setTimezoneOverride", timezoneId="")


def test_a_dead_job_is_tried_anew_once_the_admin_says_so(there: Page, server: Server) -> None:
    open_view(there, "jobs")
    there.until("td", "The database was away.")
    there.click("table button", "Try anew")
    there.until("#question-title", "Try the job erase anew?")
    there.click("#question-no")
    there.until("table button", "Try anew")
    there.click("table button", "Try anew")
    there.click("#question-yes")
    there.until(".empty", "No job is dead.")
    token = server.client.post("/dev/token", json={"uid": "root", "role": "admin"}).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    job = f"/v1/ops/jobs/{DEAD_JOB}"
    wait_until(lambda: server.client.get(job, headers=headers).json()["state"] == "succeeded")


def test_roles_are_changed_by_the_membership_function_with_the_admins_own_token(
    there: Page, accounts: AccountServer
) -> None:
    open_view(there, "people")
    there("const role = document.querySelector('select[aria-label=\"Role of bob\"]'); role.value = 'editor'; "
          "role.dispatchEvent(new Event('change'))")  # fmt: skip
    there.click("#question-yes")
    there.until(".good", "bob is now editor.")
    assert accounts.claims("bob") == {"apps": {APP: "editor"}}
    there("document.querySelector('[aria-label^=\"Remove bob\"]').click()")
    there.click("#question-yes")
    wait_until(lambda: accounts.claims("bob") == {})
    wait_until(lambda: not [row for row in there.texts("tbody tr") if row.startswith("bob")])


def test_a_plan_is_granted_and_without_the_functions_address_the_page_gives_the_command(
    page: Page, folder: Path
) -> None:
    with served(folder) as server:
        enter(page, server.url, "view=people")
        page("document.getElementById('changed-uid').value = \"o'dan!\"")
        page("document.getElementById('changed-plan').value = 'pro'")
        page.click(".form button", "Grant the plan")
        page.click("#question-yes")
        page.until(".good", "has the plan pro")
        page.click("#views a", "Jobs")
        page.until("h2", "Dead jobs")
        page.click("#views a", "People")
        page.until("td", "plan.granted")
        page("document.getElementById('changed-uid').value = \"o'dan!\"")
        page.click(".form button", "Remove and keep out")
        page.until("pre", f"$MEMBERSHIP_URL/apps/{APP}/members/o%27dan%21")


def test_a_member_gets_no_data_and_a_token_that_ended_leads_to_the_sign_in(there: Page, server: Server) -> None:
    token = server.client.post("/dev/token", json={"uid": "ada"}).json()["token"]
    for kept, said in ((token, "Only the app's admins may do this."), ("expired", "")):
        there(f"sessionStorage.setItem('firelaunch-ops', {json.dumps(kept)})")
        there.reload()
        there.until("#sign-in")
        there.until("#sign-in-problem" if said else "#sign-in", said)
        assert there.texts("#signed-in") == []
