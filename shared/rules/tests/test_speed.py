"""A run compiles little, knows what it judged before, and says what it did not get to; verdicts stay what they are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator, unsigned_token
from rules_tester import batches as packing
from rules_tester.case_file import add_cases
from rules_tester.cases import CaseError, load_suite
from rules_tester.command import main
from rules_tester.parser import parse
from rules_tester.runner import RunOptions, RunResult, run
from rules_tester.slices import Slices
from rules_tester.verdicts import VerdictStore

RULES = """rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    function mine(document) { return request.auth.uid == document.owner; }
    match /notes/{note} {
      allow get: if mine(resource.data);
      allow create: if mine(request.resource.data) && request.resource.data.size() <= 2;
      match /parts/{part} { allow get: if part == 'open'; }
    }
    match /orders/{order} {
      allow get, list: if resource.data.open == true;
      allow delete: if mine(resource.data);
    }
  }
}
"""
ORDERS = RULES[: RULES.index("    match /notes")] + RULES[RULES.index("    match /orders") :]
CASES = """users: {ann: {}, bob: {}}
documents:
  notes/n: {owner: ann}
  notes/n/parts/open: {a: 1}
  orders/o: {owner: bob, open: true}
cases:
  - {as: ann, get: [notes/n, notes/n/parts/open], expect: allow}
  - {as: bob, get: [notes/n, notes/n/parts/shut, other/o], expect: deny}
  - {as: ann, create: notes/m, data: {owner: ann}, expect: allow}
  - {as: bob, create: notes/m, data: {owner: ann}, expect: deny}
  - {as: nobody, get: orders/o, expect: allow}
  - {as: ann, delete: orders/o, update: orders/o, data: {open: false}, expect: deny}
  - {as: bob, delete: orders/o, expect: allow}
"""

ORDERS_CASES = "\n".join(line for line in CASES.splitlines() if "notes/" not in line)


@pytest.fixture
def project(tmp_path: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Firebase project as the current folder."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "firebase.json").write_text('{"firestore": {"rules": "firestore.rules"}}')
    (tmp_path / "firestore.rules").write_text(RULES)
    (tmp_path / "firestore.cases.yaml").write_text(CASES)
    return tmp_path


def report(*options: str) -> tuple[Any, str, int]:
    done = CliRunner().invoke(main, ["run", "--json", "out.json", *options])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return json.loads(Path("out.json").read_text()), done.output, done.exit_code


class Counting:
    """An emulator that counts what it compiles."""

    def __init__(self, emulator: Emulator) -> None:
        self.host, self.refusal = emulator.host, emulator.refusal
        self.loaded: list[str] = []
        self._emulator = emulator

    def load_rules(self, project: str, source: str) -> None:
        self.loaded.append(source)
        self._emulator.load_rules(project, source)

    def rule_coverage(self, project: str) -> Any:
        return self._emulator.rule_coverage(project)


def outcomes(result: RunResult) -> Mapping[tuple[str, str], str]:
    return {(o.mutant.operator, f"{o.mutant.start}-{o.mutant.end} {o.mutant.text}"): o.state for o in result.outcomes}


def test_in_a_batch_a_mutant_fares_as_alone_in_the_whole_file(
    project: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(project / "firestore.cases.yaml")
    together = Counting(firestore_emulator)
    batched = run(together, RULES, suite, unsigned_token)
    alone = Counting(firestore_emulator)
    monkeypatch.setattr(packing, "_MOST", 1)
    monkeypatch.setattr(Slices, "cut", lambda _self, _cases, mutants, _units: mutants[0].apply(RULES))
    monkeypatch.setattr("rules_tester.runner._MOST_SCREENED", 0)
    single = run(alone, RULES, suite, unsigned_token)
    assert outcomes(batched) == outcomes(single)
    assert len(together.loaded) < 0.7 * len(alone.loaded)
    assert sum(map(len, together.loaded)) < 0.6 * sum(map(len, alone.loaded))


def test_a_second_run_judges_only_what_became_of_a_change(project: Path, firestore_emulator: Emulator) -> None:
    suite = load_suite(project / "firestore.cases.yaml")
    with VerdictStore(project / "known") as verdicts:
        counting = Counting(firestore_emulator)
        first = run(counting, RULES, suite, unsigned_token, RunOptions(verdicts=verdicts))
        again = Counting(firestore_emulator)
        assert outcomes(run(again, RULES, suite, unsigned_token, RunOptions(verdicts=verdicts))) == outcomes(first)
        assert set(again.loaded) == {RULES}
        changed = RULES.replace("== true", "!= false")
        third = Counting(firestore_emulator)
        run(third, changed, suite, unsigned_token, RunOptions(verdicts=verdicts))
        assert 0 < len(third.loaded) - third.loaded.count(changed) < len(counting.loaded) / 2


def test_a_run_that_is_stopped_goes_on_where_it_was(project: Path, firestore_emulator: Emulator) -> None:
    (project / "firestore.cases.yaml").write_text(ORDERS_CASES)
    suite = load_suite(project / "firestore.cases.yaml")
    whole = Counting(firestore_emulator)
    expected = outcomes(run(whole, ORDERS, suite, unsigned_token))

    def stop(what: str, done: int, _total: int) -> None:
        if what == "mutants" and done > 20:
            raise KeyboardInterrupt

    with VerdictStore(project / "known") as verdicts:
        options = RunOptions(jobs=1, verdicts=verdicts)
        stopped, rest = Counting(firestore_emulator), Counting(firestore_emulator)
        with pytest.raises(KeyboardInterrupt):
            run(stopped, ORDERS, suite, unsigned_token, options, stop)
        assert len(stopped.loaded) < len(whole.loaded)
        assert outcomes(run(rest, ORDERS, suite, unsigned_token, options)) == expected
        assert len(rest.loaded) < len(whole.loaded)


def test_ctrl_c_ends_the_command_with_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rules_tester.command._progress", lambda: stop)
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 130
    assert "run the same command again to go on" in done.output


def test_what_the_time_did_not_suffice_for_is_told_and_fails_the_run(project: Path) -> None:
    found, output, code = report("--time-limit", "0s", "--min-score", "0")
    assert (found["late"] > 50, found["killed"], code) == (True, 0, 1)
    assert f"{found['late']} mutants were not run: the time was up" in output


def test_since_a_commit_only_statements_that_differ_are_changed(project: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], cwd=project, check=True)
    (project / "firestore.rules").write_text(RULES.replace("size() <= 2", "size() < 3"))
    found, output, _ = report("--since", "HEAD", "--no-suggest")
    assert {mutant["line"] for mutant in found["survived"]} == {7}
    assert found["left_out"] > found["mutants"] > 5
    assert "as it was in the commit given" in output
    done = CliRunner().invoke(main, ["run", "--since", "nowhere"])
    assert (done.exit_code, "there is no commit 'nowhere'" in done.output) == (2, True)


def test_a_survivor_comes_with_a_case_that_notices_it_once_it_is_written(project: Path) -> None:
    (project / "firestore.rules").write_text(ORDERS)
    text = ORDERS_CASES
    (project / "firestore.cases.yaml").write_text(text)
    before, output, _ = report("--write")
    causes = [finding["cause"] for finding in before["findings"]]
    assert len(causes) == len(set(causes)) < len(before["survived"])
    assert "no case ever does a list at /orders/{order}" in causes
    opens = [finding["direction"] for finding in before["findings"]]
    assert opens == sorted(opens, key=["opens", "either", "narrows"].index)
    assert {key for finding in before["findings"] for key in finding["mutants"]} == {
        m["id"] for m in before["survived"]
    }

    assert "cases were added to" in output
    assert (project / "firestore.cases.yaml").read_text().startswith(text.rstrip())
    after, _, _ = report("--no-suggest")
    assert len(after["survived"]) < len(before["survived"]) / 2


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("cases:\n- {as: nobody, get: a/b, expect: deny}\nusers: {}\n", True),
        ("cases:\r\n    - as: nobody\r\n      get: a/b\r\n      expect: deny\r\n# end", True),
        ("\ufeffcases:\n  - {as: nobody, get: a/b, expect: deny}", True),
        ("cases: [{as: nobody, get: a/b, expect: deny}]\n", False),
    ],
)
def test_cases_are_added_below_the_last_and_nothing_else_changes(tmp_path: Path, text: str, added: bool) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode())
    if added:
        add_cases(path, ["{as: nobody, get: c/d, expect: deny}"])
        assert [case.operation.path for case in load_suite(path).cases] == ["a/b", "c/d"]
        assert [line for line in text.splitlines() if line not in path.read_bytes().decode().splitlines()] == []
    else:
        with pytest.raises(CaseError, match="by hand"):
            add_cases(path, ["{as: nobody, get: c/d, expect: deny}"])
        assert path.read_bytes() == text.encode()


def test_a_request_reaches_the_statements_of_its_path_and_method_and_what_they_call(project: Path) -> None:
    suite = load_suite(project / "firestore.cases.yaml")
    slices = Slices(RULES, parse(RULES), suite.cases)
    deletes = next(n for n, case in enumerate(suite.cases) if case.operation.kind == "delete")
    text = slices.cut(1 << deletes, [], ())
    assert "allow delete" in text
    assert "function mine" in text
    assert "notes" not in text
    assert "allow get" not in text
    parse(text)
