"""The mutation tester on rules as strangers write them: it reads them all, and shows what a weak suite leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator
from firelaunch_cli.commands.test_rules import command
from rules_tester.case_yaml import read
from rules_tester.parser import parse
from rules_tester.static_analysis import guards, unreachable
from rules_tester.syntax import Allow, Match, Ruleset
from rules_tester.values import DELETE_FIELD, SERVER_TIME

FOREIGN = Path(__file__).parent / "foreign"

WEAK = {
    "terse": ({"create foreign", "turn even"}, {8, 11, 12}),
    "twice": ({"paid is kept", "others", "anonymous"}, {9, 11}),
    "team": ({"step down", "close early", "add without count"}, {22, 28, 32}),
    "legacy": ({"inbox is no one else's", "no admin"}, {6, 7}),
    "blog": ({"drafts of others", "long list", "comment on nothing"}, {25, 26, 36}),
    "geo": ({"far", "take two", "get late"}, {7, 15, 16}),
}
"""The cases that are left out of each suite, and lines on which that lets changes survive."""


def lines_of_survivors(name: str, without: set[str], tmp_path: Path) -> tuple[int, set[int]]:
    lines = (FOREIGN / f"{name}.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not any(f"name: {case}," in line for case in without)]
    assert len(lines) - len(kept) == len(without)
    cases, out = tmp_path / "cases.yaml", tmp_path / "out.json"
    cases.write_text("".join(kept))
    done = CliRunner().invoke(command, [str(FOREIGN / f"{name}.rules"), str(cases), "--no-suggest", "--json", str(out)])
    assert done.exit_code == 1, done.output
    return json.loads(out.read_text())["score"], {mutant["line"] for mutant in json.loads(out.read_text())["survived"]}


@pytest.mark.parametrize(("name", "without", "missed"), [(name, *weak) for name, weak in WEAK.items()], ids=WEAK)
def test_a_weak_suite_shows_on_the_lines_that_it_does_not_test(
    name: str,
    without: set[str],
    missed: set[int],
    firestore_emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    score, lines = lines_of_survivors(name, without, tmp_path)
    assert missed <= lines
    assert 50 < score < 99


def test_statements_are_found_with_and_without_their_semicolons() -> None:
    source = (FOREIGN / "terse.rules").read_text()
    statements = list(parse(source).statements())
    found = [source[item.start : item.end] for item in statements if isinstance(item, Allow)]
    assert [text.split(":")[0] for text in found] == ["allow read", "allow create", "allow delete", "allow update"]
    assert all("function" not in text for text in found)
    assert sum(isinstance(item, Match) for item in statements) == 2


def parsed(block: str) -> tuple[str, Ruleset]:
    source = f"service cloud.firestore {{ match /a/{{b}} {{ {block} }} }}"
    return source, parse(source)


@pytest.mark.parametrize(
    ("condition", "never"),
    [
        ("request.query.limit < 5 && true", {"get", "create", "update", "delete"}),
        ("(request.query.limit < 5) || resource.data.x", {"create"}),
        ("resource.data.owner == f(request.resource.data.x)", {"create"}),
        ("f(resource.data)", set()),
        (
            "request.resource.data.diff(resource.data).affectedKeys().hasOnly(['a'])",
            {"get", "list", "create", "delete"},
        ),
        ("resource == null || resource.data.x == 1", set()),
        ("x ? resource.data.a : true", set()),
        ("!(resource.data.a == 1)", {"create"}),
        ("false", {"get", "list", "create", "update", "delete"}),
        ("resource.data.a || resource.data.b", {"create"}),
    ],
)
def test_of_a_condition_only_what_is_sure_is_said(condition: str, never: set[str]) -> None:
    source, ruleset = parsed(f"allow get: if {condition};")
    (whole,) = ruleset.expressions()
    assert unreachable(source, whole) == never


@pytest.mark.parametrize(
    ("rules", "idle"),
    [
        ("allow get: if request.auth != null && request.auth.uid == x;", ["request.auth != null"]),
        ("allow get: if request.auth != null && x == 1;", []),
        ("allow get: if request.auth != null && (request.auth.uid == x || y);", []),
        ("allow get: if !(request.auth != null && request.auth.uid == x);", []),
        ("allow get: if y || (request.auth.uid == x && request.auth != null);", ["request.auth != null"]),
        ("allow get: if 'a' in resource.data && resource.data['a'] == 1;", ["'a' in resource.data"]),
        ("function f() { return a.b != null && a.b.c; } allow get: if f();", ["a.b != null"]),
        ("function f() { return a.b != null && a.b.c; } allow get: if !f();", []),
        ("function f() { return a.b != null } allow get: if f() && a.b.c == 1;", ["f()"]),
    ],
)
def test_a_guard_is_idle_where_what_it_guards_would_fail_without_it(rules: str, idle: list[str]) -> None:
    source, ruleset = parsed(rules)
    assert [source[start:end] for start, end in guards(source, ruleset)] == idle


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("users: {a: }\ncases:\n- {as: a, get: c/d, expect: deny}\n- {as: b, get: c/d, expect: deny}", ":4: case 2"),
        ("users: {a: }\ncases: [{as: a, get: c/d, get: e/f, expect: deny}]", "'get' is given twice"),
        ("users: {a: }\ncases: [{as: a, list: c, where: [x, ==, 1], expect: deny}]", "[field, operator, value]"),
        ("users: {a: }\ncases: [{as: a, list: c, limit: ten, expect: deny}]", "'limit' is a number"),
        ("users: {a: }\ncases: [{as: a, get: c/d, expect: deny, data: {at: !now soon}}]", "write +10m"),
        ("users: {a: }\ncases: [{as: a, batch: [{get: c/d}], expect: deny}]", "write 1 of the batch"),
        ("users:\n  a: {x: 2026-01-01}\ncases: [{as: a, get: c/d, expect: deny}]", ":2: claims of 'a' are JSON"),
        ("documents:\n  c/d: {n: 99999999999999999999}\ncases: [{as: a, get: c/d, expect: deny}]", ":2: document"),
        ("users: {a: }\ncases: [{as: [], get: c/d, expect: deny}]", "no case that tries anything"),
    ],
)
def test_bad_input_ends_with_2_and_names_line_and_mend(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    done = CliRunner().invoke(command, [str(FOREIGN / "terse.rules"), str(tmp_path / "c.yaml")])
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_a_tag_may_end_a_map() -> None:
    assert read("{at: !server_time, b: [!delete]}") == {"at": SERVER_TIME, "b": [DELETE_FIELD]}
    with pytest.raises(yaml.YAMLError):
        read("{at: !unknown}")
