"""What the doctor finds of a machine and an app, without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.doctor.app import app_checks
from firelaunch_cli.doctor.base import Finding
from firelaunch_cli.doctor.env_file import read_env
from firelaunch_cli.doctor.machine import machine, prices
from support import APP_CODE

TODAY = date(2026, 11, 21)
GOOD = {
    "git": "git version 2.39.5",
    "java": 'openjdk version "17.0.15" 2025-04-15',
    "node": "v20.20.2",
    "gcloud": "Google Cloud SDK 528.0.0\nbq 2.1",
    "firebase": "14.27.0",
}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of its own, with programs that say their versions as the real ones do."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, says in GOOD.items():
        install(folder, name, f"cat <<'E'\n{says}\nE")
    for name in ("cat", "sh"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def of_machine(tools: Path, **environ: str) -> dict[str, Finding]:
    return {found.name: found for found in machine({"PATH": str(tools), **environ}, TODAY)}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    write_app(folder, SETTINGS)
    (folder / "app" / "__init__.py").write_text(APP_CODE)
    (folder / ".firelaunch-answers.json").write_text(json.dumps({"template_version": version("firelaunch")}))
    return folder


def of_app(folder: Path, **environ: str) -> dict[str, Finding]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {found.name: found for found in app_checks(folder, {"PATH": os.environ["PATH"], "PORT": port, **environ})}


def problems(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.said for name, finding in found.items() if finding.status == "problem"}


def test_a_machine_with_all_that_is_needed_has_no_problem(tools: Path) -> None:
    found = of_machine(tools)
    assert problems(found) == {}
    assert {name: found[name].said for name in GOOD} == {
        "git": "2.39.5",
        "java": "17.0.15",
        "node": "20.20.2",
        "gcloud": "528.0.0",
        "firebase": "14.27.0",
    }


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("git", "echo git version 2.34.1", "2.34.1; firelaunch upgrade needs 2.38 or newer"),
        ("java", "echo 'openjdk version \"11.0.2\"' >&2", "11.0.2; the Firestore emulator needs 17 or newer"),
        ("node", "echo broken >&2; exit 3", "does not run"),
        ("gcloud", ":", "does not run"),
    ],
)
def test_a_tool_that_is_too_old_or_broken_is_a_problem(tools: Path, name: str, script: str, said: str) -> None:
    install(tools, name, script)
    found = of_machine(tools)[name]
    assert found.status == "problem"
    assert said in found.said
    assert found.mend


def test_a_tool_that_is_not_there_is_only_worth_knowing(tools: Path) -> None:
    """A laptop needs neither Java nor gcloud."""
    for name in GOOD:
        (tools / name).unlink()
    found = of_machine(tools)
    assert {found[name].status for name in GOOD} == {"note"}
    assert "npm install -g firebase-tools" in found["firebase"].mend


def test_an_emulator_host_that_was_left_in_the_environment_is_a_problem(tools: Path) -> None:
    host = of_machine(tools, FIRESTORE_EMULATOR_HOST="127.0.0.1:8080")["FIRESTORE_EMULATOR_HOST"]
    assert host.status == "problem"
    assert "unset FIRESTORE_EMULATOR_HOST" in host.mend
    cloud = of_machine(tools, FIREBASE_AUTH_EMULATOR_HOST="127.0.0.1:9099", FIRELAUNCH_MODE="cloud")
    assert cloud["FIREBASE_AUTH_EMULATOR_HOST"].status == "problem"


def test_in_emulators_mode_the_emulator_must_answer(tools: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as emulator:
        host = f"127.0.0.1:{emulator.getsockname()[1]}"
        found = of_machine(tools, FIRELAUNCH_MODE="emulators", FIRESTORE_EMULATOR_HOST=host)
        assert found["FIRESTORE_EMULATOR_HOST"].status == "ok"
    found = of_machine(tools, FIRELAUNCH_MODE="emulators", FIRESTORE_EMULATOR_HOST=host)
    assert "no Firestore emulator answers" in found["FIRESTORE_EMULATOR_HOST"].said
    found = of_machine(tools, FIRELAUNCH_MODE="emulators", FIRESTORE_EMULATOR_HOST="nonsense")
    assert found["FIRESTORE_EMULATOR_HOST"].status == "problem"


def test_cloud_runs_own_variable_on_a_laptop_is_a_problem(tools: Path) -> None:
    assert of_machine(tools, K_SERVICE="demo")["K_SERVICE"].status == "problem"


@pytest.mark.parametrize(("days", "status"), [(119, "ok"), (121, "note")])
def test_an_old_table_of_prices_is_worth_knowing(days: int, status: str) -> None:
    def price(start: date | None) -> SimpleNamespace:
        return SimpleNamespace(constraint=SimpleNamespace(start_date=start))

    starts = [TODAY - timedelta(days=days), TODAY + timedelta(days=30), date(2024, 1, 1)]
    models = [SimpleNamespace(prices=[price(start) for start in starts]), SimpleNamespace(prices=SimpleNamespace())]
    assert prices(TODAY, [SimpleNamespace(models=models)]).status == status


def test_an_app_as_it_was_made_has_no_problem(app: Path) -> None:
    found = of_app(app)
    assert problems(found) == {}
    assert found["model"].status == "note", "the offline model answers"
    assert not (app / ".firelaunch").exists(), "nothing is written"


def test_settings_that_do_not_hold_are_problems_each_with_its_line(app: Path) -> None:
    (app / "firelaunch.toml").write_text(SETTINGS.replace("[models.openai]", "[models.opneai]"))
    lines = [found.said for found in app_checks(app, {}) if found.status == "problem"]
    assert any("models.opneai" in line for line in lines)
    assert any("FIRELAUNCH_MDOE" in said for said in problems(of_app(app, FIRELAUNCH_MDOE="cloud")).values())


def test_a_model_without_a_price_is_a_problem(app: Path) -> None:
    text = (app / "firelaunch.toml").read_text().replace('chat = "gpt-5.4-mini"', 'chat = "gpt-nobody-knows"')
    assert "gpt-nobody-knows" in text
    (app / "firelaunch.toml").write_text(text)
    assert "no price is known" in problems(of_app(app))["settings"]


def test_a_model_that_ends_soon_is_worth_knowing(app: Path) -> None:
    found = of_app(app)["models"]
    assert (found.status, found.said.split()[0]) == ("note", "gpt-5-mini")


def test_an_older_template_is_worth_knowing(app: Path) -> None:
    (app / ".firelaunch-answers.json").write_text(json.dumps({"template_version": "0.0.1"}))
    found = of_app(app)["template"]
    assert found.status == "note"
    assert "firelaunch upgrade demo" in found.mend


def test_a_port_that_another_program_has_is_a_problem(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = of_app(app, PORT=str(other.getsockname()[1]))["port"]
    assert found.status == "problem"
    assert of_app(app, PORT="80 80")["port"].status == "problem"


def test_a_data_folder_that_cannot_be_written_to_is_a_problem(app: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = of_app(app, FIRELAUNCH_DATA=str(tmp_path / "file" / "data"))["data folder"]
    assert found.status == "problem"


SECRET = "sk-proj-never-shown-0123456789"


def test_the_env_file_counts_where_the_environment_says_nothing(app: Path) -> None:
    (app / ".env").write_text(f"OPENAI_API_KEY={SECRET}\n")
    (app / ".env").chmod(0o600)
    assert of_app(app)["settings"].said == "mode embedded, answered by openai (gpt-5.4-mini)"
    found = of_app(app, OPENAI_API_KEY="another")
    assert found[".env"].status in {"note", "ok"}


@pytest.fixture
def git_app(app: Path) -> Path:
    subprocess.run(["git", "init", "--quiet"], cwd=app, check=True)
    return app


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OPENAI_API_KEY = {}\n", "line 1 is not NAME=VALUE"),
        ("A=1\n\nOPENAI_API_KEY='{}\n", "line 3: the quotation mark of OPENAI_API_KEY is not closed"),
        ("OPENAI_API_KEY={}\nOPENAI_API_KEY=2\n", "line 2: OPENAI_API_KEY is there twice"),
    ],
)
def test_a_bad_line_of_the_env_file_is_named_and_its_value_is_not(app: Path, text: str, said: str) -> None:
    (app / ".env").write_text(text.format(SECRET))
    (app / ".env").chmod(0o600)
    found = list(app_checks(app, {}))
    assert any(finding.status == "problem" and said in finding.said for finding in found)
    assert SECRET not in repr(found)


def test_an_env_file_that_others_may_read_or_git_keeps_is_a_problem(git_app: Path) -> None:
    path = git_app / ".env"
    path.write_text(f"OPENAI_API_KEY={SECRET}\n")
    path.chmod(0o644)
    found = [found for found in app_checks(git_app, dict(os.environ)) if found.name == ".env"]
    said = [each.said for each in found]
    assert f"chmod 600 {path}" in [each.mend for each in found]
    assert any("does not ignore it" in text for text in said)
    subprocess.run(["git", "add", "--force", ".env"], cwd=git_app, check=True)
    said = [found.said for found in app_checks(git_app, dict(os.environ)) if found.name == ".env"]
    assert any("git keeps it" in text for text in said)


def test_an_env_file_is_read_as_shells_do(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "\ufeff# a comment\nexport A=1\nB='two words' # why\nC=\"x # y\"\nD=e#f # g\nE=\n", encoding="utf-8"
    )
    found = read_env(path)
    assert found.values == {"A": "1", "B": "two words", "C": "x # y", "D": "e#f", "E": ""}
    assert found.problems == ()
    path.write_bytes(b"\xff\xfe\x00")
    assert "save it as UTF-8" in read_env(path).problems[0]
