"""The cases for our own rules leave no change of them unnoticed."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from firelaunch_cli.commands.test_rules import command
from support import ROOT

RULES, CASES, ALLOW = ROOT / "firestore.rules", ROOT / "tests/rules/cases.yaml", ROOT / "tests/rules/equivalent.yaml"


def test_every_mutant_of_our_rules_is_killed(
    firestore_emulator: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # type: ignore[attr-defined]
    out = tmp_path / "rules.json"
    done = CliRunner().invoke(command, [str(RULES), str(CASES), "--allow", str(ALLOW), "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert (report["score"], report["survived"], report["never_evaluated"]) == (100.0, [], [])
    assert report["mutants"] > 150


@pytest.mark.long
def test_a_suite_that_lacks_a_case_loses_score(
    firestore_emulator: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at random, as all of them (tried by hand) do: each kills a change that no other one notices."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # type: ignore[attr-defined]
    suite = yaml.safe_load(CASES.read_text().replace("!ref ", "REF "))
    missing = suite["cases"].pop(random.randrange(len(suite["cases"])))  # noqa: S311 - keeps no secret
    weak, out = tmp_path / "cases.yaml", tmp_path / "rules.json"
    weak.write_text(re.sub(r"'?\bREF ([\w/]+)'?", r"!ref \1", yaml.safe_dump(suite)))
    done = CliRunner().invoke(command, [str(RULES), str(weak), "--no-suggest", "--json", str(out)])
    assert done.exit_code == 1, (missing["name"], done.output)
    assert json.loads(out.read_text())["score"] < 100, missing["name"]


def test_few_mutants_are_allowed_and_each_says_why() -> None:
    entries = yaml.safe_load(ALLOW.read_text()) or []
    assert len(entries) <= 3
    assert all(len(entry["reason"]) > 40 for entry in entries)


def test_the_rules_look_up_a_groups_membership_for_groups_and_nothing_else() -> None:
    text = RULES.read_text()
    look_ups = re.findall(r"(?:get|exists)(?:After)?\(/[^\n]*", text)
    membership = "/databases/$(database)/documents/apps/$(app)/groups/$(group)/members/$(request.auth.uid)"
    assert look_ups == [f"get({membership}).data.role;"]
    before, _, after = text.partition("match /groups/{group} {")
    groups, _, rest = after.partition("\n      }\n")
    assert re.findall(r"(?<!function )(?:groupRole|isGroup\w+)\(app", groups) != []
    functions = r"function (?:groupRole|isGroup\w+)\(.*?\n    }\n"
    assert not re.findall(r"groupRole|isGroup", re.sub(functions, "", before, flags=re.DOTALL) + rest)
