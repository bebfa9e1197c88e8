"""``firelaunch restore``: its commands, played, bring data back into a second database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from firelaunch.settings.app import Settings
from firelaunch_cli.deploy.gcloud import CommandFailed
from firelaunch_cli.deploy.resources import APIS, Place
from firelaunch_cli.deploy.restore import RestoreSource, Task, Window, begin, chosen, new_database, plan, point_in_time
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from .gcloud_parser import refusals
from .world import World, gcloud_is_there

NOW = datetime(2026, 11, 28, 22, 30, 41, tzinfo=UTC)
PLACE = Place("demo-project", "europe-west1")
TEMPLATE = ROOT / "template" / "{{cookiecutter.app_slug}}" / "firelaunch.toml"
gcloud = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")


def app(database: str = "shared", **cloud: str) -> Settings:
    """The template's settings, with another database."""
    settings = Settings.load(TEMPLATE, {})
    return settings.model_copy(update={"cloud": settings.cloud.model_copy(update={"database": database, **cloud})})


def backup(name: str, at: datetime, state: str = "READY", database: str = "(default)") -> dict[str, Any]:
    """A backup as the API shows it."""
    return {
        "name": f"projects/demo-project/locations/eur3/backups/{name}",
        "database": f"projects/demo-project/databases/{database}",
        "snapshotTime": at.isoformat().replace("+00:00", "123Z") if at.microsecond else at.isoformat(),
        "state": state,
    }


# What is asked for


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("2026-11-28T22:15Z", "22:15"),
        ("2026-11-28 22:15:00+00:00", "22:15"),
        ("2026-11-28T23:15+01:00", "22:15"),
        ("2026-11-28T22:30:00.000Z", "22:30"),
    ],
)
def test_a_minute_is_read_in_every_form_that_names_its_zone(text: str, minute: str) -> None:
    assert f"{point_in_time(text, NOW):%H:%M %Z}" == f"{minute} UTC"


@pytest.mark.parametrize(
    ("text", "problem", "mend"),
    [
        ("yesterday", "is no time", "write it as 2026-11-28T21:30:00Z"),
        ("2026-11-28T22:15", "names no zone", "add Z for UTC"),
        ("2026-11-28T22:15:30Z", "one version for each whole minute", "2026-11-28T22:15:00Z or 2026-11-28T22:16:00Z"),
        ("2026-11-28T22:31Z", "lies ahead: it is 2026-11-28 22:30 UTC", "a minute that is over"),
        ("2026-11-21T22:30Z", "over 7 days back", "bring a backup back"),
    ],
)
def test_a_minute_that_google_would_refuse_is_refused_with_what_would_do(text: str, problem: str, mend: str) -> None:
    with pytest.raises(CommandFailed, match=problem) as failed:
        point_in_time(text, NOW)
    assert mend in failed.value.mend


@given(
    st.one_of(
        st.integers(-9 * 1440, 1440).map(lambda minutes: NOW.replace(second=0) + timedelta(minutes=minutes)),
        st.integers(-9 * 86_400, 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    )
)
def test_every_minute_that_is_let_through_is_whole_and_within_the_last_7_days(at: datetime) -> None:
    try:
        minute = point_in_time(at.isoformat(), NOW)
    except CommandFailed:
        whole = at.second == at.microsecond == 0
        assert not (whole and NOW - timedelta(days=7) <= at <= NOW)
    else:
        assert minute == at
        assert (minute.second, minute.microsecond) == (0, 0)
        assert NOW - timedelta(days=7) <= minute <= NOW


@pytest.mark.parametrize(
    "name", ["", "abc", "Notes", "notes_2", "1notes", "notes-", "n" * 64, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]
)
def test_an_id_that_google_takes_for_no_database_is_refused(name: str) -> None:
    source = RestoreSource(datetime(2026, 11, 28, 22, 15, tzinfo=UTC))
    if not name:
        assert new_database("notes", source, "", None, NOW) == "notes-20261128-2215"
        assert new_database("a" * 31, source, "", None, NOW)
        return
    with pytest.raises(CommandFailed, match="is no database's id"):
        new_database("notes", source, name, None, NOW)


def test_a_database_that_is_there_is_never_restored_into() -> None:
    window = Window("eur3", NOW, [], frozenset({"(default)", "notes-old"}))
    for name in ("(default)", "notes-old"):
        with pytest.raises(CommandFailed, match=f"there is a database {re.escape(name)} already"):
            new_database("notes", RestoreSource(NOW), name, window, NOW)
    gone = Window("eur3", None, [], frozenset())
    assert new_database("notes", RestoreSource(NOW), "(default)", gone, NOW) == "(default)", (
        "one that was deleted comes back"
    )


def test_the_newest_backup_that_is_ready_is_brought_back_unless_another_is_named() -> None:
    old, new = backup("old", NOW - timedelta(days=2)), backup("new", NOW - timedelta(hours=3))
    made = backup("made", NOW, state="CREATING")
    window = Window("eur3", NOW - timedelta(days=7), [made, new, old], frozenset({"(default)"}))
    assert chosen(window, PLACE, None, "").backup == new["name"]
    assert chosen(window, PLACE, None, "old").backup == old["name"]
    assert chosen(window, PLACE, None, old["name"]).backup == old["name"]
    with pytest.raises(CommandFailed, match="made is CREATING"):
        chosen(window, PLACE, None, "made")
    with pytest.raises(CommandFailed, match="no backup other of this database") as failed:
        chosen(window, PLACE, None, "other")
    assert "--at any minute from 2026-11-21T22:33:00Z on, or --backup new of 2026-11-28 19:30 UTC" in failed.value.mend
    with pytest.raises(CommandFailed, match="there is no backup of this database yet"):
        chosen(Window("eur3", NOW, [made], frozenset()), PLACE, None, "")


def test_a_minute_from_before_the_first_version_is_refused_and_so_is_one_of_a_database_that_is_gone() -> None:
    """Recovery that was turned on an hour ago reaches back two hours
    (https://cloud.google.com/firestore/docs/pitr#pitr-window)."""
    since = NOW - timedelta(hours=2)
    window = Window("eur3", since, [], frozenset({"(default)"}))
    with pytest.raises(CommandFailed, match="no version from before 2026-11-28 20:31 UTC"):
        chosen(window, PLACE, since.replace(second=0), "")
    assert chosen(window, PLACE, since.replace(second=0) + timedelta(minutes=1), "").minute
    with pytest.raises(CommandFailed, match="not there any more"):
        chosen(Window("eur3", None, [], frozenset()), PLACE, NOW.replace(second=0), "")


# What is printed


@pytest.mark.parametrize(
    ("settings", "switches"),
    [(app(), False), (app("dedicated"), True), (app("dedicated", database_id="my-app-20261101-0900"), True)],
)
def test_the_steps_name_the_apps_database_and_offer_a_switch_only_where_no_other_app_is_in_it(
    settings: Settings, switches: bool
) -> None:
    task = Task(settings, PLACE, RestoreSource(NOW.replace(second=0)), "my-app-back")
    text = "\n".join(plan(task))
    assert f"--database={settings.database}" in text.replace("'", "")
    assert (f'database_id = "{task.target}"' in text) is switches
    assert ("holds every app of (default)" in text) is not switches
    elsewhere = "\n".join(plan(Task(settings, PLACE, task.source, "other-back")))
    assert "database_id" not in elsewhere, "the settings would refuse it"
    wide = [line for line in text.splitlines() if len(line) > 80 and not line.startswith("       ")]
    assert wide == [], "only commands are longer than 80 columns"
    assert "reembed" not in text


def test_the_commands_that_follow_name_the_environment_whose_database_it_is() -> None:
    settings = app("dedicated")
    staging = settings.environment.model_copy(update={"name": "staging"})
    task = Task(settings.model_copy(update={"environment": staging}), PLACE, RestoreSource(NOW), "my-app-back")
    ours = [line for line in plan(task) if line.startswith("       ") and "firelaunch " in line.partition("gcloud")[0]]
    assert len(ours) == 3
    assert [line for line in ours if " my-app --env=staging" not in line] == []


def test_vectors_outside_of_firestore_are_not_forgotten() -> None:
    settings = app()
    elsewhere = settings.model_copy(update={"index": settings.index.model_copy(update={"backend": "pgvector"})})
    text = " ".join("\n".join(plan(Task(elsewhere, PLACE, RestoreSource(NOW), "back-again"))).split())
    assert "Vectors in pgvector are not in it: have documents indexed anew with firelaunch reembed my-app" in text


@gcloud
def test_gcloud_takes_every_command_that_is_printed(tmp_path: Path) -> None:
    import shlex

    taken = RestoreSource(backup="projects/p/locations/l/backups/b")
    lines = [
        line.strip()
        for source in (RestoreSource(NOW), taken)
        for line in plan(Task(app("dedicated"), PLACE, source, "my-app-back"))
        if line.startswith("       gcloud ")
    ]
    assert len(lines) > 10
    assert refusals([shlex.split(line)[1:] for line in lines], tmp_path) == {}


# Played


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project with a database of two apps, whose documents were lost an hour ago."""
    with GoogleCloud() as cloud:
        cloud.account.apis |= set(APIS)
        firestore = cloud.firestore
        whole = "projects/demo-project/databases/(default)"
        firestore.databases["(default)"] = {"name": whole, "uid": "u", "locationId": "eur3", "type": "FIRESTORE_NATIVE"}
        firestore.pitr_since["(default)"] = datetime.now(UTC) - timedelta(days=3)
        firestore.indexes["(default)"] = [
            {"name": f"{whole}/collectionGroups/chats/indexes/i1", "queryScope": "COLLECTION", "fields": []}
        ]
        for name in ("demo", "other"):
            firestore.documents[f"(default)/apps/{name}"] = {"name": {"stringValue": name}}
        firestore.remember("(default)", datetime.now(UTC) - timedelta(days=2))
        firestore.back_up("(default)", datetime.now(UTC) - timedelta(hours=9))
        cloud.build.buckets.add("demo-project.firebasestorage.app")
        firestore.documents.clear()
        firestore.remember("(default)", datetime.now(UTC) - timedelta(hours=1))
        yield cloud


@pytest.fixture
def world(cloud: GoogleCloud, tmp_path: Path) -> World:
    made = World(tmp_path, cloud)
    made.app("demo")
    return made


def commands(said: str) -> list[str]:
    """Those that are printed, but for firelaunch's own, which reach no Firestore here."""
    found = [line.strip() for line in said.splitlines() if line.startswith("       ")]
    assert len(found) >= 8
    return [line for line in found if re.match(r"gcloud |curl ", line)]


def hours_ago(hours: int) -> str:
    """A whole minute."""
    return f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%MZ}"


@gcloud
@pytest.mark.parametrize("how", [("--at", 5), ("--backup", 0)])
def test_the_printed_commands_bring_data_back_into_a_second_database_and_leave_the_first(
    cloud: GoogleCloud, world: World, how: tuple[str, int]
) -> None:
    option, hours = how
    arguments = (option, hours_ago(hours)) if hours else ()
    printed = world.firelaunch("restore", "demo", "--to", "demo-back", *arguments)
    assert printed.code == 0, printed.said
    assert not [line for line in printed.requests if not line.startswith("GET ")], "printing changes nothing"
    see, *rest, unprotect, delete = commands(printed.said)
    for command in (see, *rest):
        done = world.shell(command)
        nothing_deleted = "storage ls" in command and "matched no objects" in done.said
        assert done.code == 0 or nothing_deleted, f"{command}\n{done.said}"
        assert '"error"' not in done.said, done.said
    firestore = cloud.firestore
    assert firestore.databases["demo-back"]["locationId"] == "eur3", "where the old one is"
    assert firestore.databases["demo-back"]["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"
    assert {name for name in firestore.documents if name.startswith("demo-back/")} == {
        "demo-back/apps/demo",
        "demo-back/apps/other",
    }
    assert len(firestore.indexes["demo-back"]) == 1
    assert firestore.rules_of("demo-back") is None
    assert not [name for name in firestore.documents if name.startswith("(default)/")], "the live one is as it was"
    again = world.firelaunch("restore", "demo", "--to", "demo-back", *arguments)
    assert again.code == 1
    assert "there is a database demo-back already" in again.said
    begins = next(command for command in rest if "databases restore" in command or ":clone" in command)
    assert "Database already exists" in world.shell(begins).said, "Google refuses it too"
    assert world.shell(delete).code == 1, "it is protected"
    assert world.shell(unprotect).code == world.shell(delete).code == 0
    assert "demo-back" not in firestore.databases
    assert cloud.unexpected == []


@gcloud
def test_run_makes_the_database_waits_for_it_and_prints_what_is_left(cloud: GoogleCloud, world: World) -> None:
    cloud.firestore.polls = 2
    done = world.firelaunch("restore", "demo", "--at", hours_ago(5), "--to", "demo-back", "--run", "--yes")
    assert done.code == 0, done.said
    assert "bring the data back into demo-back ... \n    waiting for Google" in done.said
    assert cloud.firestore.databases["demo-back"]["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"
    assert "demo-back/apps/demo" in cloud.firestore.documents
    assert "\n3. Check it" in done.said
    assert "\n2. " not in done.said


@gcloud
@pytest.mark.parametrize("permission", ["datastore.databases.clone", "datastore.databases.update"])
def test_run_says_which_permission_is_missing(cloud: GoogleCloud, world: World, permission: str) -> None:
    cloud.denied = {permission}
    done = world.firelaunch("restore", "demo", "--at", hours_ago(5), "--run", "--yes")
    assert done.code == 1
    assert permission in done.said
    assert "Mend: ask for roles/datastore.owner" in done.said


@gcloud
def test_what_google_would_refuse_is_refused_before_anything_is_printed_and_by_the_played_server_too(
    cloud: GoogleCloud, world: World
) -> None:
    cloud.firestore.pitr_since.clear()
    done = world.firelaunch("restore", "demo", "--at", hours_ago(5))
    assert done.code == 1, "without point-in-time recovery there is an hour"
    assert "Firestore has no version from before" in done.said
    assert "--backup b1" in done.said
    late = Task(
        app(), PLACE, RestoreSource(datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=5)), "late"
    )
    assert "outside of the PITR window" in world.shell(str(begin(late))).said
    crooked = str(begin(late)).replace(":00Z", ":07Z")
    assert "must be a whole minute" in world.shell(crooked).said
    assert "late" not in cloud.firestore.databases
    done = world.firelaunch("restore", "demo", "--run")
    assert done.code == 1
    assert "nobody agreed to it" in done.said
    cloud.denied = {"datastore.backups.list"}
    done = world.firelaunch("restore", "demo", "--backup", "b1")
    assert done.code == 0, done.said
    assert "The project was not looked at (" in done.said
    assert "backups/b1" in done.said


def test_without_a_login_the_commands_are_printed_and_said_to_be_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from firelaunch_cli.commands import main
    from support import copy_template

    copy_template(tmp_path / "apps" / "my-app")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    done = CliRunner().invoke(main, ["restore", "my-app"])
    assert done.exit_code == 0, done.output
    assert "gcloud is not on the PATH" in done.stderr
    assert "--source-backup=projects/demo-project/locations/europe-west1/backups/BACKUP_ID" in done.stdout
    found = json.loads(CliRunner().invoke(main, ["restore", "my-app", "--json"]).stdout)
    assert (found["project"], found["checked"], found["begun"]) == ("demo-project", False, False)
    assert all(step["title"] in done.stdout for step in found["steps"])
    assert [command for step in found["steps"] for command in step["commands"] if command not in done.stdout] == []
    both = CliRunner().invoke(main, ["restore", "my-app", "--at", "x", "--backup", "y"])
    assert both.exit_code == 2
