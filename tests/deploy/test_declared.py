"""What a deploy does with what an app declares: its collections, schedules, handlers and public routes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch_cli.commands import main
from firelaunch_cli.commands.serve import gunicorn_command
from firelaunch_cli.deploy.calls import Calls, DocumentTrigger, app_calls
from firelaunch_cli.deploy.declarations import Declarations, EventSource
from firelaunch_cli.deploy.events import dropped_subscriptions, dropped_triggers, for_uploads, trigger
from firelaunch_cli.deploy.gcloud import Tools
from firelaunch_cli.deploy.jobs import dropped_schedules, scheduled
from firelaunch_cli.deploy.rehearsal import rehearse, service_as_planned, settings_for_deploy
from firelaunch_cli.deploy.resources import APIS, EVENT_RECEIVER, FEATURE_APIS, LONGEST_APP_ID, Place, Schedule
from firelaunch_cli.deploy.steps import Step, perform
from hypothesis import given
from hypothesis import strategies as st
from support import TEMPLATE, copy_repo, copy_template

from .own_app import declare
from .world import gcloud_is_there

PLACE = Place("demo-project", "europe-west1", "1234")
URL = "https://my-app-1234.europe-west1.run.app"
CALLER = "fl-job-my-app"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app that declares things, in a clone of its own."""
    repo = copy_repo(tmp_path / "repo")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    monkeypatch.delenv("CI", raising=False)
    return declare(copy_template(repo / "apps" / "my-app"))


def declared(app: Path) -> Declarations:
    return rehearse(app, service_as_planned(settings_for_deploy(app, os.environ)), releasing=True)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


# What the start check finds out


def test_an_app_says_what_it_declares(app: Path) -> None:
    found = declared(app)
    assert found.triggers == (
        EventSource("meal_written", "write", "apps/my-app/users/{uid}/meals/{meal}"),
        EventSource("recipe_written", "write", "apps/my-app/recipes/{recipe}"),
        EventSource("picture_stored", "upload", "apps/my-app/users/{uid}/pictures/{name}"),
    )
    assert found.public_routes == ("GET /api/menu",)
    assert [index["collectionGroup"] for index in found.indexes] == ["meals", "recipes"]
    assert found.indexes[0]["fields"] == [
        {"fieldPath": "kind", "order": "ASCENDING"},
        {"fieldPath": "eaten_at", "order": "DESCENDING"},
    ]


REFUSED: list[tuple[str, str, str, str, str]] = [
    ("a name that is taken", "app/meals.py", 'Collection("meals"', 'Collection("chats"', "firelaunch keeps that name"),
    ("a bad cron", "firelaunch.toml", "0 7 * * 1", "61 7 * * 1", "schedules.weekly_summary.cron"),
    ("no such zone", "firelaunch.toml", "Europe/Berlin", "Europe/Bärlin", "there is no such time zone"),
    ("no such job", "firelaunch.toml", "weekly_summary =", "monthly_summary =", "there is no such job"),
    ("no such package", "app/meals.py", "from datetime", "import left_pad\nfrom datetime", "imports left_pad, which"),
    ("a fault of the code", "app/meals.py", "from datetime", "1 / 0\nfrom datetime", "ZeroDivisionError"),
]


@pytest.mark.parametrize(("file", "old", "new", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_an_app_whose_declarations_do_not_hold_is_refused_before_anything_is_made(
    app: Path, file: str, old: str, new: str, said: str
) -> None:
    edit(app / file, old, new)
    for command in (("deploy", "--dry-run"), ("stage",), ("doctor", "--offline")):
        done = run(*command, "my-app")
        assert done.exit_code in (1, 2), done.output
        assert said in " ".join(done.output.split())
        assert "Traceback" not in done.output
    assert not (app.parent.parent / "build" / "stage").exists()


def test_a_private_app_with_schedules_or_handlers_is_refused_because_nothing_could_call_it(app: Path) -> None:
    edit(app / "firelaunch.toml", 'database = "shared"', 'database = "shared"\nedge = "private"')
    with pytest.raises(SettingsError, match=r'cloud\.edge is "private".*schedules\.weekly_summary, meal_written'):
        declared(app)


def test_an_app_is_started_with_its_own_environment_and_with_none_of_this_shells(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its .venv has a package that this interpreter has not; and no key of the shell reaches its code."""
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-this-shell")
    edit(app / "app" / "meals.py", "from datetime", "import left_pad\nfrom datetime")
    with pytest.raises(SettingsError, match=r"imports left_pad, which .* does not have.*uv sync.*docs/packages\.md"):
        declared(app)
    packages = app / ".venv" / "lib"
    packages.mkdir(parents=True)
    (packages / "left_pad.py").write_text("import os\nassert 'a-key-of-this-shell' not in os.environ.values()\n")
    python = app / ".venv" / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert declared(app).public_routes == ("GET /api/menu",)
    assert gunicorn_command(app)[0] == str(python), "as make serve and firelaunch dev run it"
    edit(app / "pyproject.toml", '["firelaunch[cloud]"]', '["firelaunch[cloud]", "left_pad"]')
    lock, pin = Path("requirements.lock").read_text(), "left-pad==1.0 --hash=sha256:00"
    (app / "requirements.lock").write_text(f"{lock}{pin}\n")
    done = run("stage", "my-app")
    assert done.exit_code == 0, done.output
    staged = (Path("build") / "stage" / "my-app" / "requirements.txt").read_text()
    assert pin in staged
    assert staged.startswith(lock), "with all that firelaunch needs, at its own versions"


def test_variables_of_the_apps_own_code_are_there_if_the_service_will_have_them(app: Path) -> None:
    """Those after -- in a deploy; elsewhere, where nothing says which, those of the app's .env."""
    edit(
        app / "app" / "meals.py",
        "from datetime",
        'import os\n\nos.environ["MENU"], os.environ["KITCHEN"]\nfrom datetime',
    )
    (app / ".env").write_text("MENU=soup\nKITCHEN=k\nOPENAI_MODEL=a-model-of-this-laptop\n")
    done = run("deploy", "my-app", "--dry-run")
    assert done.exit_code == 2
    assert "my-app would not start: app/meals.py, line 5: KeyError: 'MENU'" in done.output
    assert 'to pass on: -- --update-env-vars="' in done.output
    given = ("--", "--update-env-vars=MENU=soup", "--update-secrets=KITCHEN=my-app-kitchen:1")
    assert run("deploy", "my-app", "--dry-run", *given).exit_code == 0
    assert run("stage", "my-app").exit_code == 0


def test_a_file_that_the_image_has_not_is_missed_by_the_check_already(app: Path) -> None:
    (app / "menu.txt").write_text("soup\n")
    reads = 'from pathlib import Path\n\nPath("menu.txt").read_text()\n\nfrom datetime'
    edit(app / "app" / "meals.py", "from datetime", reads)
    with pytest.raises(SettingsError, match="FileNotFoundError"):
        declared(app)


# What a dry run says


def test_a_dry_run_names_what_is_made_for_the_app_and_what_it_costs(app: Path) -> None:
    done = run("deploy", "my-app", "--dry-run")
    assert done.exit_code == 0, done.output
    page, _, plan = done.output.partition("\n\nlogged in")
    said = " ".join(page.split())
    assert "schedules weekly_summary: 0 7 * * 1, Europe/Berlin, by Cloud Scheduler" in said
    assert "meal_written: apps/my-app/users/{uid}/meals/{meal}, by Eventarc" in said
    assert "picture_stored: apps/my-app/users/{uid}/pictures/{name}, by Cloud Storage" in said
    assert "public GET /api/menu: needs no token" in said
    assert "an index of meals: kind, -eaten_at" in said
    assert "0.10 my-app: Scheduler job my-app_weekly_summary" in said
    assert "my-app: its 4 calls of 2 s" in said
    assert max(map(len, page.splitlines())) <= 80
    assert "--time-zone=Europe/Berlin --max-retry-attempts=5" in plan
    assert f"--push-endpoint={URL.replace('1234', 'PROJECT_NUMBER')}/internal/events/picture_stored" in plan
    assert "collectionGroups/meals/indexes" in plan
    triggers = re.findall(r"eventarc triggers create (fl-write-\S+) .*document=(\S+?)'? ", plan)
    assert [pattern for _, pattern in triggers] == ["apps/my-app/users/*/meals/*", "apps/my-app/recipes/*"]


def test_handlers_bring_what_they_need_to_an_app_that_keeps_no_documents(app: Path) -> None:
    """Eventarc, Pub/Sub and the right to take events are there for documents in most apps."""
    settings = app / "firelaunch.toml"
    settings.write_text(re.sub(r"^(requests_per_minute = .*)$", r"\1\ndocuments = 0", settings.read_text(), flags=re.M))
    plan = run("deploy", "my-app", "--dry-run").output
    assert "fl-removals" not in plan
    for wanted in ("eventarc.googleapis.com", "pubsub.googleapis.com", EVENT_RECEIVER, "notifications create"):
        assert wanted in plan, wanted


# Names


@given(
    st.from_regex(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?", fullmatch=True),
    st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True), min_size=2, max_size=2, unique=True),
)
def test_every_name_is_one_that_google_takes_and_no_two_are_alike(app_id: str, names: list[str]) -> None:
    made = [calls_of(app_id, names), calls_of(f"{app_id}-x"[:LONGEST_APP_ID], names)]
    triggers = [each.trigger for calls in made for each in calls.documents]
    for name in triggers:
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)
    subscriptions = [each.subscription for calls in made for each in calls.uploads]
    for name in subscriptions:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{2,254}", name)
    if made[0] != made[1]:
        assert len({*triggers}) == len({*subscriptions}) == 4


def calls_of(app_id: str, names: list[str]) -> Calls:
    settings = PLAIN.model_copy(update={"app": PLAIN.app.model_copy(update={"id": app_id})})
    sources = [EventSource(name, source, f"apps/{app_id}/x/{{y}}") for name in names for source in ("write", "upload")]
    calls = app_calls(settings, PLACE, Declarations(triggers=tuple(sources)))
    assert calls is not None
    return calls


PLAIN = Settings.load(TEMPLATE / "firelaunch.toml", {})


# What is made, changed and taken away


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project with what an app's callers stand on."""
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS, *FEATURE_APIS.values()}
        cloud.account.accounts.append(PLACE.email(CALLER))
        cloud.account.policy["bindings"].append({"role": EVENT_RECEIVER, "members": [PLACE.member(CALLER)]})
        cloud.build.buckets.add("demo-project.firebasestorage.app")
        name = "projects/demo-project/databases/(default)"
        cloud.firestore.databases["(default)"] = {"name": name, "locationId": "eur3"}
        cloud.run.services["my-app"] = {}
        yield cloud
        assert cloud.unexpected == []


@pytest.fixture
def fresh(cloud: GoogleCloud, tmp_path: Path) -> Callable[[], Tools]:
    """Tools as each run of a deploy has its own."""
    environ = {**os.environ, **cloud.environ(tmp_path / "home")}
    return lambda: Tools(environ, lambda _: None, pause=lambda _: None, token=TOKEN)


def never(question: str) -> bool:
    raise AssertionError(question)


def took(fresh: Callable[[], Tools], *steps: Step) -> int:
    tools = fresh()
    return sum(perform(step, tools, never) for step in steps)


gcloud = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")


@gcloud
def test_a_schedule_is_made_once_changed_with_its_settings_and_gone_with_them(
    cloud: GoogleCloud, fresh: Callable[[], Tools]
) -> None:
    sweep = Schedule("my-app-sweep", "*/5 * * * *", URL, "/internal/sweep", runs=1)
    other = replace(sweep, name="other_weekly", url="https://other-1234.run.app", path="/internal/schedules/weekly")
    path = "/internal/schedules/weekly"
    mine = Schedule("my-app_weekly", "0 7 * * 1", URL, path, runs=1, zone="Europe/Berlin", retries=5)
    everything = [scheduled(PLACE, each, CALLER) for each in (sweep, other, mine)]
    assert [took(fresh, *everything) for _ in range(2)] == [3, 0]
    made = cloud.work.jobs["projects/demo-project/locations/europe-west1/jobs/my-app_weekly"]
    assert (made["schedule"], made["timeZone"], made["retryConfig"]["retryCount"]) == ("0 7 * * 1", "Europe/Berlin", 5)
    assert made["httpTarget"]["uri"] == f"{URL}/internal/schedules/weekly"
    assert made["httpTarget"]["oidcToken"] == {"serviceAccountEmail": PLACE.email(CALLER), "audience": URL}
    utc = scheduled(PLACE, replace(mine, zone="UTC"), CALLER)
    assert [took(fresh, utc) for _ in range(2)] == [1, 0]
    assert took(fresh, dropped_schedules(PLACE, URL, [mine])) == 0
    assert [took(fresh, dropped_schedules(PLACE, URL, [])) for _ in range(2)] == [1, 0]
    left = {name.rpartition("/")[2] for name in cloud.work.jobs}
    assert left == {"my-app-sweep", "other_weekly"}, "of firelaunch's own jobs and of another app's nothing is taken"


@gcloud
def test_a_handlers_trigger_is_where_its_database_is_follows_its_pattern_and_goes_with_it(
    cloud: GoogleCloud, fresh: Callable[[], Tools]
) -> None:
    (watch,) = calls_of("my-app", ["meal_written"]).documents
    removals = DocumentTrigger("fl-removals-my-app", "(default)", "apps/my-app/users/*/documents/*", "my-app", "/on_x")
    assert [took(fresh, trigger(PLACE, each, CALLER)) for each in (watch, watch, removals)] == [1, 0, 1]
    name = f"projects/demo-project/locations/eur3/triggers/{watch.trigger}"
    goes = {"service": "my-app", "region": "europe-west1", "path": "/internal/events/meal_written"}
    assert cloud.events.triggers[name]["destination"]["cloudRun"] == goes
    moved = trigger(PLACE, replace(watch, pattern="apps/my-app/dishes/*"), CALLER)
    assert [took(fresh, moved) for _ in range(2)] == [2, 0], "it is deleted and made anew"
    filters = {each["attribute"]: each["value"] for each in cloud.events.triggers[name]["eventFilters"]}
    assert filters["document"] == "apps/my-app/dishes/*"
    assert took(fresh, dropped_triggers(PLACE, "my-app", "(default)", [watch])) == 0
    assert took(fresh, dropped_triggers(PLACE, "other", "(default)", [])) == 0, "another app's are let be"
    assert [took(fresh, dropped_triggers(PLACE, "my-app", "(default)", [])) for _ in range(2)] == [1, 0]
    assert list(cloud.events.triggers) == ["projects/demo-project/locations/eur3/triggers/fl-removals-my-app"]


@gcloud
def test_each_handler_of_files_has_a_subscription_which_goes_with_it(
    cloud: GoogleCloud, fresh: Callable[[], Tools]
) -> None:
    uploads = calls_of("my-app", ["picture_stored", "song_stored"]).uploads
    assert took(fresh, *for_uploads(PLACE, uploads, CALLER)) == 4, "one topic, one right, two subscriptions"
    assert took(fresh, dropped_subscriptions(PLACE, URL, uploads)) == 0
    assert took(fresh, dropped_subscriptions(PLACE, "https://other-1234.run.app", [])) == 0
    assert [took(fresh, dropped_subscriptions(PLACE, URL, uploads[:1])) for _ in range(2)] == [1, 0]
    (left,) = cloud.events.subscriptions.values()
    assert left["pushConfig"]["pushEndpoint"] == f"{URL}/internal/events/picture_stored"
    assert left["filter"] == 'hasPrefix(attributes.objectId, "apps/my-app/users/")'


def test_terraforms_variables_have_what_the_app_declares(app: Path) -> None:
    edit(app / "firelaunch.toml", 'project = ""', 'project = "demo-project"')
    done = run("terraform", "--out", "vars.json")
    assert done.exit_code == 0, done.output
    made = json.loads(Path("vars.json").read_text())
    work = made["services"]["my-app"]["work"]
    assert {
        "name": "my-app_weekly_summary",
        "cron": "0 7 * * 1",
        "zone": "Europe/Berlin",
        "retries": 5,
        "url": URL.replace("1234", "PROJECT_NUMBER"),
        "path": "/internal/schedules/weekly_summary",
        "deadline": "180s",
    } in work["schedules"]
    assert set(work["uploads"]) == {"my-app", "my-app/picture_stored"}
    assert "meals" in {index["collection"] for index in made["project"]["databases"]["(default)"]["indexes"]}
