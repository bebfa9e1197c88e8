"""What is proved to change nothing changes nothing; the idioms that everybody writes are proved."""

# ruff: noqa: E501 - rules in one line

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator
from rules_tester.command import main
from rules_tester.mutants import Mutant
from rules_tester.parser import parse
from rules_tester.proofs import Prover
from rules_tester.slices import Slices

_HEAD = "rules_version = '2'; service cloud.firestore { match /databases/{database}/documents { "


def proved(block: str, old: str, new: str) -> bool:
    """Whether the last ``old`` in the block may be ``new``."""
    source = f"{_HEAD}{block} }} }}"
    ruleset = parse(source)
    start = source.rindex(old)
    mutant = Mutant("any", start, start + len(old), new)
    parse(mutant.apply(source))
    return Prover(source, ruleset, Slices(source, ruleset, [])).changes_nothing(mutant)


def conditions(old: str, new: str, methods: str = "get", more: str = "") -> bool:
    return proved(f"{more} match /notes/{{note}} {{ allow {methods}: if {old}; }}", old, new)


@pytest.mark.parametrize(
    ("methods", "old", "new"),
    [
        ("read", "request.auth.uid != null && request.auth.uid == note", "request.auth.uid == note"),
        ("read", "request.auth != null && request.auth.uid == note", "request.auth.uid == note"),
        ("read, write", "request.auth != null", "request.auth.uid != null"),
        ("read", "request.auth.uid == resource.data.owner && request.auth != null", "request.auth.uid == resource.data.owner"),
        ("get", "note == request.auth.uid", "request.auth.uid == note"),
        ("get", "'a' in resource.data && resource.data.a == 1", "resource.data.a == 1"),
        ("get", "resource.data.a == true", "resource.data.a"),
        ("get", "resource.data.a == 1 || resource.data.a != 1", "'a' in resource.data"),
        ("get", "resource.data.keys().hasAll(['a', 'b']) && resource.data.b == 1", "resource.data.b == 1 && 'a' in resource.data"),
        ("get", "resource.data.get('a', 2) == 1", "resource.data.a == 1"),
        ("get", "note in ['a', 'b']", "(note == 'b' || note == 'a')"),
        ("get", "resource.data.n is int && resource.data.n >= 1", "resource.data.n is int && resource.data.n > 0"),
        ("create", "resource == null", "true"),
        ("create", "resource.data.a == 1", "false"),
        ("update", "resource != null && request.method == 'update'", "true"),
        ("get", "request.auth.uid is string ? note == 'a' : note == 'b'", "request.auth != null && note == 'a'"),
        ("get", "exists(/a/$(request.auth.uid)) && request.auth != null", "exists(/a/$(request.auth.uid))"),
    ],
)  # fmt: skip
def test_idioms_that_change_nothing_are_proved(methods: str, old: str, new: str) -> None:
    assert conditions(old, new, methods)
    assert conditions(new, old, methods)


@pytest.mark.parametrize(
    ("methods", "old", "new"),
    [
        ("get", "request.auth != null", "true"),
        ("get", "request.auth == null", "!(request.auth.uid != null)"),  # without a user, the second is an error
        ("get", "resource.data.a == 1 || resource.data.a != 1", "true"),  # the field may be missing
        ("get", "resource.data.a == resource.data.a", "'a' in resource.data"),  # NaN
        ("get", "resource.data.a == 1", "resource.data.a in [1]"),  # 1.0
        ("get", "resource.data.a >= 1", "resource.data.a > 0"),  # 0.5
        ("get", "resource.data.a == null", "!('a' in resource.data)"),
        ("get", "resource == null", "false"),
        ("list", "resource.data.a == 1 || resource.data.a != 1", "'a' in resource.data"),  # a query knows no document
        ("list", "note == 'a' || note != 'a'", "true"),
        ("get", "exists(/a/b) && note == 'a'", "note == 'a' && exists(/a/b)"),  # another number of look-ups
        ("get", "resource.data.a.size() >= 0", "'a' in resource.data"),
        ("get", "resource.data['a'] == 'x'", "resource.data['b'] == 'x'"),
        ("get", "resource.data.t[0:1] == 'x'", "resource.data.t[0:2] == 'x'"),
        ("get", "resource.data.t[:1] == 'x'", "resource.data.t[1:] == 'x'"),
    ],
)
def test_what_some_request_tells_apart_is_not_proved(methods: str, old: str, new: str) -> None:
    assert not conditions(old, new, methods)
    assert not conditions(new, old, methods)


def test_functions_are_put_in_place_of_their_calls_with_what_they_bind() -> None:
    functions = """
        function signedIn() { return request.auth != null; }
        function owns(document) { let owner = document.owner; return signedIn() && request.auth.uid == owner; }
    """
    block = functions + "match /notes/{note} { allow get, delete: if owns(resource.data); }"
    assert proved(block, "signedIn() && request", "request")
    assert not proved(block, "request.auth.uid == owner", "true")
    # An argument that fails fails only where it is used.
    unused = "function any(x) { return true; }"
    assert conditions("any(resource.data.missing)", "true", more=unused)
    assert not conditions("any(resource.data.missing)", "any(1) && resource.data.missing == 1", more=unused)
    # Two elements that fail, in an argument, fail the function whatever it does with them.
    either = "function either(x, y) { return x || y; }"
    assert conditions("either(note in [resource.data.a], true)", "true", more=either)
    assert not conditions("either(note in [resource.data.a, resource.data.b], true)", "true", more=either)


def test_statements_beside_it_decide_too_if_they_stay_as_they_are() -> None:
    block = "match /a/{b} { allow get: if request.auth != null; allow get: if request.auth.uid == b; }"
    assert proved(block, "request.auth.uid == b", "false")
    assert not proved(block, "request.auth != null", "false")
    shared = "function f() { return b == 'x'; } allow get: if f(); allow get: if f() && true;"
    assert not proved(f"match /a/{{b}} {{ {shared} }}", "b == 'x'", "false")


def test_methods_that_let_nothing_through_may_come_and_go() -> None:
    block = "match /a/{b} { allow get, delete: if request.resource.data.x == 1 || resource.data.y == 2; allow create: if resource.data.x == 1; }"
    assert proved(block, "create", "create, update") is False
    assert proved("match /a/{b} { allow create: if resource.data.x == 1; allow get; }", "create: if", "create, get: if")
    assert proved(
        "match /a/{b} { allow get; allow create: if resource.data.x == 1; }",
        "allow create: if resource.data.x == 1;",
        "",
    )


def test_a_run_leaves_equivalent_mutants_out_of_the_score(
    tmp_path: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    rules, cases, out = tmp_path / "x.rules", tmp_path / "x.cases.yaml", tmp_path / "out.json"
    rules.write_text(
        _HEAD + "match /u/{uid} { allow get: if request.auth.uid is string && request.auth.uid == uid; } } }"
    )
    cases.write_text(
        "users: {ann: {}}\ncases:\n  - {as: ann, get: u/ann, expect: allow}\n"
        "  - {as: [ann, nobody], get: u/bob, expect: deny}\n"
    )
    words = ["run", str(rules), str(cases), "--no-suggest", "--json", str(out)]
    CliRunner().invoke(main, words)
    found = json.loads(out.read_text())
    told = CliRunner().invoke(main, [*words, "--no-prove"])
    plain = json.loads(out.read_text())
    assert found["proved_equivalent"] == len(found["equivalent"]) > 0
    assert (plain["proved_equivalent"], plain["proves"]) == (0, False)
    assert "extra 'proof'" in told.output
    dropped = {mutant["id"] for mutant in plain["survived"]} - {mutant["id"] for mutant in found["survived"]}
    assert dropped == {mutant["id"] for mutant in found["equivalent"]}
    assert found["mutants"] == plain["mutants"] - found["proved_equivalent"]
    # An entry of the allow-list stays valid where the solver is there to prove it.
    allow = tmp_path / "allow.yaml"
    allow.write_text(json.dumps([{"id": key, "reason": "it is the same"} for key in sorted(dropped)]))
    assert CliRunner().invoke(main, [*words, "--allow", str(allow)]).exit_code in {0, 1}


def test_the_solver_is_loaded_only_where_it_is_used() -> None:
    code = "import sys, rules_tester.command, rules_tester.investigation; print('z3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
