"""The command works in any Firebase project, says what is missing, and never scores what it did not run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from firelaunch.testing.emulator import Emulator, find_jar
from rules_tester.command import main

README = Path(__file__).parents[1] / "README.md"
FIRESTORE = """service cloud.firestore {
  match /databases/{database}/documents { match /notes/{n} { allow get: if n == 'a'; } }
}
"""
STORAGE = """service firebase.storage {
  match /b/{bucket}/o { match /{path=**} { allow read: if request.auth != null; } }
}
"""
CASES = """users: {ann: {}}
cases:
  - {as: ann, get: notes/a, expect: allow}
  - {as: ann, get: notes/b, expect: deny}
  - {as: ann, list: notes, expect: deny}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Firebase project; the current folder is one below it."""
    (tmp_path / "firebase.json").write_text('{"firestore": {"rules": "rules/my.rules"}}')
    (tmp_path / "rules").mkdir()
    (tmp_path / "functions").mkdir()
    monkeypatch.chdir(tmp_path / "functions")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def report(folder: Path, rules: str, firestore: Emulator, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, Any, str]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore.host)
    (folder / "rules/my.rules").write_text(rules)
    (folder / "rules/my.cases.yaml").write_text(CASES)
    out, page = folder / "out.json", folder / "out.html"
    done = run("run", "--no-suggest", "--json", str(out), "--html", str(page))
    return done, json.loads(out.read_text()), page.read_text()


def test_the_rules_are_those_that_firebase_json_names(
    project: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, found, _ = report(project, FIRESTORE, firestore_emulator, monkeypatch)
    assert done.exit_code == 1, done.output
    assert found["killed"] > 2
    assert found["not_run"] == []
    assert re.search(r"^mutants \d+/\d+$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("both", [FIRESTORE + STORAGE, STORAGE + FIRESTORE])
def test_of_a_file_with_two_services_the_score_says_what_was_not_run(
    both: str, project: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = report(project, FIRESTORE, firestore_emulator, monkeypatch)[1]
    done, found, page = report(project, both, firestore_emulator, monkeypatch)
    first = both[: both.index("service firebase.storage")].count("\n") + 1
    assert found["not_run"] == [{"service": "firebase.storage", "line": first, "last_line": first + 2}]
    assert f"Not run: firebase.storage, lines {first} to {first + 2}" in done.output
    assert "Not run: firebase.storage" in page
    assert (found["mutants"], found["killed"], found["score"]) == (alone["mutants"], alone["killed"], alone["score"])


def test_a_change_that_no_case_reaches_is_counted_as_not_tried(
    project: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = FIRESTORE.replace("allow get", "allow update: if request.auth.uid == 'x'; allow get")
    done, found, _ = report(project, rules, firestore_emulator, monkeypatch)
    assert found["untried"] > 2
    assert f"{found['untried']} of the survivors were not tried" in done.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (STORAGE.encode(), "rules for firebase.storage, and none for cloud.firestore"),
        (b"function f() { return true; }", "rules for no service"),
        (b"\xef\xbb\xbf" + FIRESTORE.encode(), "my.rules:1: the file begins with a byte order mark"),
        (FIRESTORE.encode("utf-16"), "is not UTF-8"),
        (FIRESTORE.replace("if", "of").encode(), "my.rules:2: a condition begins with 'if'"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    content: bytes, says: str, project: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    (project / "rules/my.rules").write_bytes(content)
    (project / "rules/my.cases.yaml").write_text(CASES)
    done = run("run")
    assert (done.exit_code, says in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "cannot be read"),
        ("{}", "names no rules"),
        ('{"firestore": [{"rules": "a.rules"}, {"database": "b", "rules": "b.rules"}]}', "names a.rules and b.rules"),
        ('{"firestore": {"rules": "gone.rules"}}', "gone.rules cannot be read"),
    ],
)
def test_a_firebase_json_that_does_not_say_it_is_told(project: Path, config: str, says: str) -> None:
    (project / "firebase.json").write_text(config)
    done = run("check")
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_without_firebase_json_the_rules_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("run")
    assert done.exit_code == 2
    assert "There is no firebase.json" in done.output


def test_without_cases_it_says_where_they_go(project: Path) -> None:
    (project / "rules/my.rules").write_text(FIRESTORE)
    done = run("run")
    assert (done.exit_code, "my.cases.yaml is not there" in done.output) == (2, True)


def test_without_java_or_emulator_it_says_what_to_install(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "rules/my.rules").write_text(FIRESTORE)
    (project / "rules/my.cases.yaml").write_text(CASES)
    for name in ("FIRESTORE_EMULATOR_HOST", "FIRESTORE_EMULATOR_JAR", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(project))
    jar = project / "e.jar"
    jar.touch()
    done = run("run", "--emulator", str(jar))
    assert done.exit_code == 2
    assert "Install Java 17 or newer" in done.output
    assert "Install the Firestore emulator" not in done.output
    assert run("check").exit_code == 0


@pytest.mark.parametrize("place", ["option", "variable", "firebase-tools", "gcloud"])
def test_the_emulator_is_found_where_others_put_it(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every other place out of reach, it starts from this one."""
    real = find_jar()
    assert real is not None
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("FIRESTORE_EMULATOR_HOST", "FIRESTORE_EMULATOR_JAR", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    jar = tmp_path / {
        "firebase-tools": ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.10.jar",
        "gcloud": "sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    }.get(place, "some.jar")
    jar.parent.mkdir(parents=True, exist_ok=True)
    jar.symlink_to(real)
    from rules_tester import emulator

    if place == "variable":
        monkeypatch.setenv("FIRESTORE_EMULATOR_JAR", str(jar))
    if place == "firebase-tools":
        (jar.parent / "cloud-firestore-emulator-v1.19.8.jar").touch()
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(emulator, "_SDK", ())
    if place == "gcloud":
        monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(tmp_path / "sdk"))
    if place != "option":
        assert emulator.emulator_jar() == jar
    if place == "option":
        with emulator.RulesEmulator.start(jar) as running:
            running.load_rules("demo-p", FIRESTORE)
            with pytest.raises(emulator.RulesRefused, match="L1"):
                running.load_rules("demo-p", "service")


def test_it_needs_click_and_a_yaml_reader_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import rules_tester.command; "
        "own = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names); "
        "print(*sorted(m for m in own if not m.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    # PyYAML brings cython_runtime, and click takes colorama on Windows.
    assert set(done.stdout.split()) <= {"click", "colorama", "cython_runtime", "rules_tester", "yaml"}


def test_the_tour_of_the_readme_works(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """Every command, in a shell, one after the other; two of them find survivors."""
    blocks = re.findall(r"(<!-- exits with 1 -->\n)?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    killed = []
    for fails, commands in blocks:
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", commands],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "FIRESTORE_EMULATOR_HOST": firestore_emulator.host},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (1 if fails else 0), done.stdout + done.stderr
        killed += re.findall(r"(\d+) of \d+ mutants killed", done.stdout)
    assert int(killed[1]) > int(killed[0])
    assert (tmp_path / "report.html").exists()
