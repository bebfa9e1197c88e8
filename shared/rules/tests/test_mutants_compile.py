"""Every change that the mutation tester makes compiles, whatever the rules call; one that does not is never silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator, RulesError
from firelaunch_cli.commands.test_rules import command
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from rules_tester import runner
from rules_tester.mutants import Coverage, Mutant, mutants
from rules_tester.parser import parse
from rules_tester.syntax import Expression, Ruleset

RULES = """rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    function isAdmin() { return request.auth.token.admin == true; }
    function isOwner(uid) { return request.auth.uid == uid; }
    function listed() {
      let a = isAdmin();
      let b = request.auth.token.get('editor', false);
      return a || b;
    }
    match /notes/{x} {
      allow get: if CONDITION;
      allow list: if false;
    }
  }
}
"""

CONDITIONS = [
    "isAdmin()",
    "isAdmin ( )",
    "((isAdmin()))",
    "!isAdmin()",
    "!!(isAdmin())",
    "isAdmin() && isOwner(x) || listed()",
    "isAdmin(/* ) */) // (\n && isAdmin\n()",
    "isAdmin() == true",
    "isAdmin() ? true : isOwner(x)",
    "isAdmin() ? isOwner(x) ? true : false : x == 'a' ? false : true",
    "isOwner(isOwner(x) ? 'a' : 'b')",
    "debug(isAdmin())",
    "[isAdmin()][0] && {'a': isAdmin()}['a']",
    "request.auth.token.get('x', 0) > 1",
    "request.auth.token.get(['x', 'y'], {'a': 1}).size() == 0",
    "request.auth.token['firebase'].sign_in_provider != 'anonymous'",
    "request.auth.token.email.matches('(a|b)+@x[.]com$') && request.auth.token.email_verified",
    "request.auth.token.groups.hasAny(['a', 'b']) || 'c' in request.auth.token.groups",
    "!(x in ['a', 'b']) && x.size() in [1, 2]",
    "x is string && x.size() > -0 && -1 < 0 && 3 % 2 == 1 && 2 * (1 + 3) - 0 == 8 && 1.5 < 2.5",
    "x[0:1] == 'a' && x.split('/')[0] == 'b' && x.lower().replace('a', 'b').trim() != ''",
    "resource.data.keys().toSet().difference(['a'].toSet()).size() == 0",
    "resource.data.diff({'a': 1}).affectedKeys().hasOnly(['a', 'b'])",
    "resource.data.keys().hasAll(['a']) && resource.data.m.values().removeAll([1]).size() <= 1",
    "request.time < timestamp.date(2024, 1, 2) + duration.value(1, 'd') && resource.data.t.toMillis() > 0",
    "request.time.year() == 2024 && resource.data.t == request.time",
    "get(/databases/$(database)/documents/users/$(request.auth.uid)).data.get('role', 'none') == 'admin'",
    "exists(/databases/$(database)/documents/admins/$(x)) && !exists(/databases/$(database)/documents/a/b)",
    "getAfter(/databases/$(database)/documents/a/$(x + '1')).data.n == 1",
    "math.abs(-3) == 3 && string(1) == '1' && hashing.sha256('a').toHexString().size() > 1",
    "latlng.value(1, 2).distance(resource.data.at) < 5",
    "request.path[3] == 'x' && request.query.limit <= 10 && request.method == 'get'",
    "null == request.auth || request.auth != null && request.auth.uid != null",
]

FILES = {
    "recursive wildcards": """rules_version = "2";
service cloud.firestore {
  match /databases/{database}/documents {
    match /articles/{id} { allow read: if true; match /{rest=**} { allow read: if id == 'a'; } }
    match /{path=**}/songs/{song} { allow list; }
    match /a/{x}/b/{y} { allow get; }
    match /only/{o} { allow get, list }
    match /with/{f} { function yes() { return true; } allow get: if yes(); }
  }
}
""",
    "before version 2": """service cloud.firestore {
  match /databases/{database}/documents {
    match /a/{x}/b/{y} { allow read; match /c/{z} { allow write: if request.auth != null; } }
    match /b/{rest=**} { allow write: if request.auth != null; }
  }
}
""",
    "version 1 by name": """rules_version = '1'; // rules_version = '2'
service cloud.firestore {
  match /databases/{database}/documents { match /a/{x}/b/{y} { allow read; allow write: if false } }
}
""",
}


def changes(emulator: Emulator, project: str, source: str) -> list[Mutant]:
    """Of rules that compile, every change, as if every expression had been true in some case and false in another."""
    emulator.load_rules(project, source)
    ruleset = parse(source)
    coverage = Coverage()
    coverage.add(ruleset, emulator.rule_coverage(project).get("report", []))
    coverage.booleans |= coverage.places
    return mutants(source, ruleset, coverage)


def refused(emulator: Emulator, project: str, source: str, found: list[Mutant]) -> Iterator[str]:
    for mutant in found:
        try:
            emulator.load_rules(project, mutant.apply(source))
        except RulesError as error:
            yield f"{mutant.operator}: {mutant.shown(source)['after']}: {error}"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_change_of_an_expression_compiles(
    condition: str, firestore_emulator: Emulator, firestore_project: str
) -> None:
    source = RULES.replace("CONDITION", condition)
    own = [m for m in changes(firestore_emulator, firestore_project, source) if m.start >= source.index("match /notes")]
    assert len(own) > 8
    assert list(refused(firestore_emulator, firestore_project, source, own)) == []


@pytest.mark.parametrize("source", FILES.values(), ids=FILES)
def test_every_change_of_a_statement_compiles(
    source: str, firestore_emulator: Emulator, firestore_project: str
) -> None:
    found = changes(firestore_emulator, firestore_project, source)
    assert {mutant.operator for mutant in found} >= {"drop match", "wildcard to literal"}
    assert list(refused(firestore_emulator, firestore_project, source, found)) == []


ATOMS = st.sampled_from(
    ["isAdmin()", "listed ()", "x", "'a(b'", "1", "0", "-2", "1.5", "true", "false", "null", "request.auth.uid",
     "resource.data.a", "request.time", "['a', 1]", "{'k': 2}", "request.auth.token.get('x', 0)",
     "exists(/databases/$(database)/documents/a/$(x))", "x.size()", "resource.data['a'].keys()"]
)  # fmt: skip


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    signs = st.sampled_from(["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "%"])
    return st.one_of(
        inner.map("({})".format),
        inner.map("(({}) )".format),
        inner.map("!({})".format),
        inner.map("isOwner({})".format),
        inner.map("debug( {} )".format),
        inner.map("({}).get('k', false)".format),
        inner.map("({}).size ()".format),
        inner.map("[{}].hasAny(['a'])".format),
        inner.map("({}) is bool".format),
        inner.map("{{'a': {}}}.a".format),
        st.tuples(inner, signs, inner).map(lambda parts: f"({parts[0]}) {parts[1]} {parts[2]}"),
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"{parts[0]} {parts[1]} {parts[2]}"),
        two.map(lambda pair: f"({pair[0]}) ? {pair[1]} : false"),
        two.map(lambda pair: f"({pair[0]}) /* ( */ ? (true) : {pair[1]} // )\n"),
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(ATOMS, wider, max_leaves=6))
@example("((isAdmin()) ? isOwner(isAdmin()) : false) && !(listed ())")
def test_no_expression_makes_a_change_that_does_not_compile(
    firestore_emulator: Emulator, firestore_project: str, condition: str
) -> None:
    source = RULES.replace("CONDITION", condition)
    try:
        found = changes(firestore_emulator, firestore_project, source)
    except RulesError:
        assume(False)
    own = [mutant for mutant in found if mutant.start >= source.index("match /notes")]
    assert list(refused(firestore_emulator, firestore_project, source, own)) == []


@pytest.fixture
def score(firestore_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command: ``score(rules, cases)`` gives (exit code, output, report, page)."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)

    def go(rules: str, cases: str) -> tuple[int, str, Any, str]:
        (tmp_path / "x.rules").write_text(rules)
        (tmp_path / "cases.yaml").write_text(cases)
        files = [str(tmp_path / name) for name in ("x.rules", "cases.yaml", "out.json", "out.html")]
        done = CliRunner().invoke(command, [*files[:2], "--no-suggest", "--json", files[2], "--html", files[3]])
        return done.exit_code, done.output, json.loads(Path(files[2]).read_text()), Path(files[3]).read_text()

    return go


CASES = """
users: {ann: {admin: true}, bob: {}}
documents: {notes/n: {a: 1}}
cases:
  - {as: ann, get: notes/n, expect: allow}
  - {as: ann, list: notes, expect: deny}
  - {as: ann, get: other/n, expect: deny}
"""


def test_a_collection_that_may_be_open_to_all_costs_score(score: Callable[..., Any]) -> None:
    """No case asks whether one who is no admin is let in."""
    rules = RULES.replace("CONDITION", "isAdmin()")
    code, output, report, _ = score(rules, CASES)
    assert code == 1
    assert "allow get: if true;" in {mutant["after"] for mutant in report["survived"]}, output
    assert report["score"] < 100
    assert report["invalid"] == []

    _, output, report, _ = score(rules, f"{CASES}  - {{as: bob, get: notes/n, expect: deny}}\n")
    assert "allow get: if true;" not in {mutant["after"] for mutant in report["survived"]}, output


def test_a_place_that_is_closed_to_all_is_tested_too(score: Callable[..., Any]) -> None:
    rules = RULES.replace("CONDITION", "isAdmin()")
    without = "\n".join(line for line in CASES.splitlines() if "list:" not in line)
    assert "allow list: if true;" in {mutant["after"] for mutant in score(rules, without)[2]["survived"]}
    assert "allow list: if true;" not in {mutant["after"] for mutant in score(rules, CASES)[2]["survived"]}


@pytest.mark.parametrize("of_expression", [True, False])
def test_a_change_that_does_not_compile_is_listed_and_fails_the_run_if_it_is_of_an_expression(
    score: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, of_expression: bool
) -> None:
    def one_is_bad(source: str, ruleset: Ruleset, coverage: Coverage) -> list[Mutant]:
        start = source.index("isAdmin();")
        node = Expression("call", start, start + 9) if of_expression else None
        bad = Mutant("to nonsense", start, start + 7, "<b>", node)
        return [bad, next(mutant for mutant in mutants(source, ruleset, coverage) if mutant.operator == "drop match")]

    monkeypatch.setattr(runner, "mutants", one_is_bad)
    code, output, report, page = score(RULES.replace("CONDITION", "listed()"), CASES)
    assert (report["score"], report["mutants"], code) == (100.0, 1, int(of_expression))
    (invalid,) = report["invalid"]
    assert (invalid["operator"], invalid["after"]) == ("to nonsense", "let a = <b>();")
    assert invalid["of_expression"] is of_expression
    assert invalid["error"].startswith("L7:")
    assert f"invalid  line {invalid['line']}  to nonsense  ({invalid['id']}): L7:" in output
    assert ("the score does not hold" in output) is of_expression
    assert "1 did not compile and do not count" in output
    assert "to nonsense, did not compile: L7:" in page
    assert "let a = &lt;b&gt;();" in page


def test_rules_of_which_nothing_can_be_changed_do_not_score(score: Callable[..., Any]) -> None:
    rules = """rules_version = '2';
    service cloud.firestore { match /databases/{database}/documents { match /a/{b} { function f() { return 1; } } } }
    """
    code, output, report, page = score(rules, "users: {u: {}}\ncases:\n  - {as: u, get: a/b, expect: deny}\n")
    assert (code, report["score"], report["mutants"]) == (1, 0.0, 0)
    assert "nothing to change" in output
    assert "nothing to change" in page
