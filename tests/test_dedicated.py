"""An app in a database of its own: the rules hold there, none is left open, and its service sees no other."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from deny_matrix.attempts import attempts
from deny_matrix.run import run
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Query, Update
from firelaunch.testing import emulator as harness
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.emulator import Emulator
from firelaunch_cli.commands import main
from google.api_core.exceptions import PermissionDenied
from support import ROOT, free_port

RULES = (ROOT / "firestore.rules").read_text()
OWN = "demo"
"""The app's id, and so its database's."""

ADA = {"sub": "ada", "apps": {OWN: "member"}}
CHAT = f"apps/{OWN}/users/ada/chats/c1"


def test_the_rules_answer_on_a_named_database_as_the_table_says(firestore_emulator: Emulator) -> None:
    sample = attempts()[::29]

    report = run(firestore_emulator, RULES, sample, jobs=2, database=OWN)

    assert report.holds, report.as_json()["examples"]
    assert report.allowed > 20
    assert report.allowed + report.denied == len(sample)


def test_rules_of_the_default_database_leave_a_named_one_as_it_was(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    """So a deploy to the one is no deploy to the other: a named database needs its own, and is closed until then."""
    firestore_emulator.store(firestore_project, OWN).commit([Create(CHAT, {"title": "Mine"})])
    firestore_emulator.load_rules(firestore_project, RULES)
    ada = firestore_emulator.client_as(firestore_project, ADA, OWN)
    with pytest.raises(PermissionDenied):
        ada.document(CHAT).get()

    firestore_emulator.load_rules(firestore_project, RULES, OWN)

    assert ada.document(CHAT).get().to_dict() == {"title": "Mine"}
    bob = firestore_emulator.client_as(firestore_project, {**ADA, "sub": "bob"}, OWN)
    with pytest.raises(PermissionDenied):
        bob.document(CHAT).get()


@pytest.fixture(scope="module")
def emulator_without_rules(firestore_emulator: Emulator) -> Iterator[Emulator]:
    """One that was started without any, as ``gcloud emulators firestore start`` does."""
    java, jar = shutil.which("java"), harness.find_jar()
    if java is None or jar is None:
        pytest.skip("an emulator of our own cannot be started")
    port = free_port()
    command = [java, *harness._JAVA_OPTIONS, "-cp", str(jar), harness._CLASS, "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    emulator = Emulator(f"127.0.0.1:{port}")
    try:
        while not emulator._answers():
            assert process.poll() is None
            time.sleep(0.05)
        yield emulator
    finally:
        process.kill()
        process.wait()


def test_a_database_that_no_rules_were_loaded_for_is_found_and_closed(
    emulator_without_rules: Emulator, firestore_project: str
) -> None:
    emulator = emulator_without_rules
    emulator.load_rules(firestore_project, RULES)
    for database, was_open in (("(default)", False), (OWN, True), ("another", True)):
        stranger = emulator.client(firestore_project, database)
        stranger._rpc_metadata_internal = [item for item in stranger._rpc_metadata if item[0] != "authorization"]
        if was_open:
            stranger.document("secrets/s1").set({"n": 1})
        assert emulator.close_if_open(firestore_project, database) is was_open
        assert not emulator.close_if_open(firestore_project, database)
        with pytest.raises(PermissionDenied):
            stranger.document("secrets/s1").get()


def test_a_client_that_acts_as_a_user_never_meets_an_open_database(
    emulator_without_rules: Emulator, firestore_project: str
) -> None:
    for database in ("(default)", OWN):
        acting = emulator_without_rules.client_as(firestore_project, ADA, database)
        with pytest.raises(PermissionDenied):
            acting.document("secrets/s1").set({"n": 1})


def test_the_harness_own_emulator_has_no_open_database(firestore_emulator: Emulator, firestore_project: str) -> None:
    for database in ("(default)", OWN, "another"):
        assert not firestore_emulator.close_if_open(firestore_project, database)


@pytest.fixture
def services_of(
    firestore_emulator: Emulator, firestore_project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Services]]:
    """Services of the same app by its setting ``database``."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    made: list[Services] = []

    def services(database: str) -> Services:
        environ = {
            "FIRELAUNCH_MODE": "emulators",
            "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
            "GOOGLE_CLOUD_PROJECT": firestore_project,
            "FIRELAUNCH_DATA": str(tmp_path / "data"),
        }
        path = write_app(tmp_path / database, f'{SETTINGS}\n[cloud]\ndatabase = "{database}"\n')
        made.append(build(Settings.load(path, environ)))
        return made[-1]

    yield services
    for each in made:
        each.store.close()


READS: dict[str, Callable[[Services], Any]] = {
    "get": lambda services: services.store.get(CHAT),
    "get many": lambda services: services.store.get_many([CHAT])[0],
    "query": lambda services: services.store.query(Query(f"apps/{OWN}/users/ada/chats")),
    "count": lambda services: services.store.count(Query(f"apps/{OWN}/users/ada/chats")),
    "read": lambda services: services.store.read([CHAT], [Query(f"apps/{OWN}/users/ada/chats")])[1][0],
    "get in a transaction": lambda services: services.store.transaction(lambda found: found.get(CHAT)),
    "delete all of a user": lambda services: services.store.delete_tree(f"apps/{OWN}/users/ada"),
    "a database in the path": lambda services: services.store.get(f"{services.store.scope.root}/users/(default)"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize(("mine", "theirs"), [("dedicated", "(default)"), ("shared", OWN)])
def test_a_service_sees_and_changes_its_own_database_alone(
    firestore_emulator: Emulator,
    firestore_project: str,
    services_of: Callable[[str], Services],
    mine: str,
    theirs: str,
    read: Callable[[Services], Any],
) -> None:
    """Even at the paths that its scope allows: the other database has documents at just those."""
    other = firestore_emulator.store(firestore_project, theirs)
    other.commit([Create(CHAT, {"title": "Theirs"})])

    assert not read(services_of(mine))

    found = other.get(CHAT)
    assert found is not None
    assert found.data == {"title": "Theirs"}


def test_a_service_writes_to_its_own_database_alone(
    firestore_emulator: Emulator, firestore_project: str, services_of: Callable[[str], Services]
) -> None:
    services_of("dedicated").store.commit([Create(CHAT, {"title": "Mine"})])
    services_of("dedicated").store.commit([Update(CHAT, {"title": "Changed"})])

    assert firestore_emulator.store(firestore_project).get(CHAT) is None
    written = firestore_emulator.store(firestore_project, OWN).get(CHAT)
    assert written is not None
    assert written.data == {"title": "Changed"}


def test_an_apps_documents_are_copied_back_from_a_second_database_and_no_other_apps(
    firestore_emulator: Emulator, firestore_project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``firelaunch restore`` prints, once Google has brought the data back into a database beside the live one."""
    back = firestore_emulator.store(firestore_project, "demo-back")
    live = firestore_emulator.store(firestore_project)
    back.commit([Create(CHAT, {"title": "Then"}), Create("apps/other/users/ada/chats/c1", {"title": "Theirs"})])
    live.commit([Create(CHAT, {"title": "Spoilt"}), Create(f"{CHAT}-since", {"title": "Since"})])
    write_app(tmp_path / "apps" / OWN, SETTINGS)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "FIRELAUNCH_MODE": "emulators",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "GOOGLE_CLOUD_PROJECT": firestore_project,
    }.items():
        monkeypatch.setenv(name, value)
    file = "build/restore/demo-back.jsonl"
    exported = CliRunner().invoke(main, ["data", "export", OWN, file, "--database=demo-back"])
    assert exported.exit_code == 0, exported.output
    assert f"1 documents of {OWN} in Firestore database demo-back" in exported.output
    imported = CliRunner().invoke(main, ["data", "import", OWN, file, "--yes"])
    assert imported.exit_code == 0, imported.output
    found = {path: live.get(path) for path in (CHAT, f"{CHAT}-since", "apps/other/users/ada/chats/c1")}
    assert [document and document.data["title"] for document in found.values()] == ["Then", "Since", None]
    back.close()
    live.close()


def test_documents_are_copied_in_cloud_mode_without_the_key_of_a_model_that_nothing_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_app(tmp_path / "apps" / OWN, SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRELAUNCH_MODE", "cloud")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = CliRunner().invoke(main, ["data", "export", OWN, "x.jsonl", "--database=demo-back"])
    assert done.exit_code == 2
    assert "cloud.project is empty" in done.output
    assert "OPENAI_API_KEY" not in done.output
    monkeypatch.setenv("FIRELAUNCH_MODE", "embedded")
    refused = CliRunner().invoke(main, ["data", "export", OWN, "x.jsonl", "--database=demo-back"])
    assert "--database names one of Firestore's" in refused.output
