"""A project's own tests judge mutants: by exit code, on the rules that they load, and never by accident."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from firelaunch.testing.emulator import Emulator, unsigned_token
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from javascript import NoJavaScript, install
from rules_tester import project_tests
from rules_tester.client import Operation, RestClient
from rules_tester.command import main
from rules_tester.mutants import Mutant
from rules_tester.proxy import RulesProxy
from support import ROOT

HERE = Path(__file__).parent
RULES = """rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    match /notes/{note} { allow get: if note == 'open'; }
    match /drafts/{draft} { allow get: if draft == 'mine'; }
  }
}
"""
_BEGINNING = """
import os, pathlib, sys, time
from rules_tester.client import Operation, RestClient
from rules_tester.emulator import RulesEmulator
host = os.environ["FIRESTORE_EMULATOR_HOST"]
here = pathlib.Path(__file__).parent
client = RestClient(host, "demo-own-tests")
"""
_LOADS = "RulesEmulator(host).load_rules('demo-own-tests', (here / 'firestore.rules').read_text())\n"
_ASKS = """
client.put({"notes/open": {"a": 1}})
decided = [client.allowed(Operation("get", f"notes/{name}"), None) for name in ("open", "shut")]
"""
_ENDS = "sys.exit(decided != [True, False])\n"


@pytest.fixture
def project(tmp_path: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Firebase project as the current folder, without tests."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "firebase.json").write_text('{"firestore": {"rules": "firestore.rules"}}')
    (tmp_path / "firestore.rules").write_text(RULES)
    return tmp_path


def judged(project: Path, *script: str, options: tuple[str, ...] = ()) -> tuple[Result, Any]:
    (project / "suite.py").write_text(textwrap.dedent("".join(script)))
    out = project / "out.json"
    words = ["run", "--command", f"{sys.executable} suite.py", "--json", str(out), *options]
    done = CliRunner().invoke(main, words)
    return done, json.loads(out.read_text()) if out.exists() else None


def test_what_makes_the_tests_fail_is_killed_and_what_they_never_evaluate_survives_without_a_run(
    project: Path,
) -> None:
    (project / "runs").touch()
    counts = "(here / 'runs').open('a').write('x')\n"
    done, report = judged(project, _BEGINNING, counts, _LOADS, _ASKS, _ENDS)
    assert done.exit_code == 1, done.output
    survived = {(mutant["line"], mutant["operator"]) for mutant in report["survived"]}
    assert {(5, "to true"), (5, "== to !="), (5, "drop match"), (4, "add update")} <= survived
    assert not {operator for line, operator in survived if line == 4} & {"to true", "negate", "== to !=", "drop match"}
    assert "never evaluated  line 5  draft == 'mine'" in done.output
    assert "no test notices who may update at /notes/{note}" in done.output
    assert f"mutants killed by '{sys.executable} suite.py'" in done.output
    # The rules as they are ran first and last.
    runs = len((project / "runs").read_text())
    assert runs == 2 + report["killed"] + len(report["survived"]) - report["untried"]
    assert report["untried"] >= 4


def test_tests_may_rely_on_the_rules_that_the_emulator_has(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_tests, "mutants", lambda *_: [Mutant("to false", *_span("note == 'open'"), "false")])
    done, report = judged(project, _BEGINNING, _ASKS, _ENDS)
    assert (done.exit_code, report["killed"], report["score"]) == (0, 1, 100.0), done.output


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (_BEGINNING + _LOADS + "print('why it fails'); sys.exit(3)", ["(exit code 3)", "why it fails"]),
        (
            _BEGINNING + _LOADS.replace("read_text()", "read_text().replace('get', 'list')"),
            ["never those of this file"],
        ),
        ("pass", ["never reach the emulator"]),
    ],
)
def test_tests_that_cannot_judge_are_refused(project: Path, script: str, says: list[str]) -> None:
    done, report = judged(project, script)
    assert (done.exit_code, report) == (2, None)
    assert all(text in done.output for text in says), done.output


def test_tests_that_fail_by_chance_kill_nothing(project: Path) -> None:
    fails_later = "seen = here / 'seen'; again = seen.exists(); seen.touch()\nsys.exit(again)\n"
    done, report = judged(project, _BEGINNING, _LOADS, _ASKS, fails_later)
    assert (done.exit_code, report) == (2, None)
    assert "fail at the end, on the same rules" in done.output


def test_tests_that_hang_with_a_mutant_do_not_kill_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_tests, "_LEAST_SECONDS", 2.0)
    monkeypatch.setattr(project_tests, "_TIMES", 0)
    monkeypatch.setattr(project_tests, "mutants", lambda *_: [Mutant("to false", *_span("note == 'open'"), "false")])
    hangs = "if not decided[0]: os.system('sleep 60')\n"
    done, report = judged(project, _BEGINNING, _LOADS, _ASKS, hangs)
    assert (done.exit_code, report["killed"], report["late"]) == (1, 0, 1), done.output


def test_a_mutant_that_does_not_compile_is_no_kill(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_tests, "mutants", lambda *_: [Mutant("broken", *_span("note == 'open'"), "note ==")])
    done, report = judged(project, _BEGINNING, _LOADS, _ASKS, _ENDS)
    assert (report["killed"], len(report["invalid"])) == (0, 1), done.output


def _span(text: str) -> tuple[int, int]:
    return RULES.index(text), RULES.index(text) + len(text)


@pytest.fixture
def proxy(firestore_emulator: Emulator) -> Iterator[RulesProxy]:
    with RulesProxy(firestore_emulator.host, RULES) as running:
        yield running


def ask(proxy: RulesProxy, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(proxy.host, timeout=20)
    connection.request(method, path, body, **options)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_clients_of_grpc_pass_and_their_project_has_the_rules(
    proxy: RulesProxy, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.host)
    client = firestore.Client(project=firestore_project, credentials=AnonymousCredentials())
    client.document("notes/open").set({"a": 1})
    assert client.document("notes/open").get().to_dict() == {"a": 1}
    assert proxy.loads == 1
    client.close()
    rest = RestClient(proxy.host, firestore_project)
    token = unsigned_token(firestore_project, {"sub": "ann"})
    assert [rest.allowed(Operation("get", f"notes/{name}"), token) for name in ("open", "shut")] == [True, False]
    rest.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_only_the_rules_of_the_file_are_exchanged(proxy: RulesProxy, firestore_project: str, chunked: bool) -> None:
    path = f"/emulator/v1/projects/{firestore_project}:securityRules"
    other = RULES.replace("'open'", "'shut'")

    def load(text: str) -> int:
        body = json.dumps({"rules": {"files": [{"content": text}]}}).encode()
        if chunked:
            headers = {"Transfer-Encoding": "chunked"}
            return ask(proxy, "PUT", path, iter([body[:9], body[9:]]), encode_chunked=True, headers=headers)[0]
        return ask(proxy, "PUT", path, body)[0]

    def decided() -> list[bool]:
        client = RestClient(proxy.host, firestore_project)
        found = [client.allowed(Operation("get", f"notes/{name}"), None) for name in ("open", "shut")]
        client.close()
        return found

    proxy.exchange(RULES.replace("note == 'open'", "true"))
    assert (load(RULES.replace("\n", "\r\n") + "\n"), decided()) == (200, [True, True])
    assert (load(other), decided()) == (200, [False, True])
    assert (proxy.loads, proxy.others) == (1, 1)
    assert load("service") == 400
    proxy.exchange(RULES)
    assert (load(RULES), decided()) == (200, [True, False])


def test_the_hub_names_the_proxy_beside_the_other_emulators(proxy: RulesProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = ask(proxy, "GET", "/emulators")
    found = json.loads(body)["firestore"]
    assert (status, f"{found['host']}:{found['port']}") == (200, proxy.host)
    with RulesProxy("127.0.0.1:1", "", 0) as hub:
        monkeypatch.setenv("FIREBASE_EMULATOR_HUB", hub.host)
        assert json.loads(ask(proxy, "GET", "/emulators")[1])["firestore"]["port"] == found["port"]


@pytest.mark.long
def test_a_suite_of_firebases_own_library_judges(project: Path) -> None:
    try:
        packages = install(HERE / "npm", "rules.test.mjs", ROOT / "build" / "rules_npm")
    except NoJavaScript as error:
        pytest.skip(f"no npm: {error}")
    (project / "node_modules").symlink_to(packages / "node_modules")
    for name in ("rules.test.mjs", "package.json", "firestore.rules"):
        shutil.copy(HERE / "npm" / name, project)
    done = CliRunner().invoke(main, ["run", "--command", "npm test", "--json", "out.json", "--time-limit", "10m"])
    report = json.loads((project / "out.json").read_text())
    assert (done.exit_code, report["late"], report["invalid"]) == (1, 0, []), done.output
    assert "no test gets as far as 'request.auth.uid == resource.data.owner' (line 7)" in done.output
    assert {mutant["line"] for mutant in report["survived"] if mutant["operator"] == "to true"} == {7}
    assert report["killed"] > 25
