"""The diff tells what is opened and closed, and misses nothing that the emulator would allow anew."""

# ruff: noqa: E501 - rules in one line

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator, unsigned_token
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_tester.client import Operation, RestClient
from rules_tester.command import main
from rules_tester.comparison import compared
from rules_tester.difference import difference
from rules_tester.parser import parse


def file(body: str, version: str = "rules_version = '2';") -> str:
    return f"{version} service cloud.firestore {{ match /databases/{{d}}/documents {{ {body} }} }}"


def told(old: str, new: str) -> tuple[list[str], list[str]]:
    found = difference(parse(file(old)), parse(file(new)))
    return found.opened(), found.closed()


SIGNED_IN = "match /notes/{n} { allow read: if request.auth != null; }"


def test_what_opens_to_strangers_is_told_with_a_request_that_shows_it() -> None:
    opened, closed = told(SIGNED_IN, "match /notes/{n} { allow read; }")
    assert opened == ["strangers can now read notes/* (as nobody: get notes/x)"]
    assert closed == []
    no_longer = "strangers can no longer read notes/* (as nobody: get notes/x)"
    assert told("match /notes/{n} { allow read; }", SIGNED_IN) == ([], [no_longer])


def test_what_opens_to_some_is_told_with_the_condition() -> None:
    opened, closed = told(SIGNED_IN, "match /notes/{m} { allow get, update: if request.auth.uid == m; }")
    assert opened == ["users can now get and update notes/{1}, where request.auth.uid == {1}"]
    assert closed == ["users can no longer read notes/*, where null != request.auth"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SIGNED_IN, "// a comment\nmatch /notes/{other} { allow get: if null != request.auth; allow list: if (request.auth != null) }"),
        (
            "function a(x) { let y = x.z; return y == 1 || b(); } function b() { return c; } match /n/{m} { allow get: if a(m) && d; }",
            "match /n/{k} { allow get: if d && c; function q(v) { return 1 == v.z; } allow get: if d && q(k); }",
        ),
        ("match /a/{b} { allow get: if x && y && z; }", "match /a/{b} { allow get: if z && (y && x); }"),
        ("match /{p=**} { allow read; }", "match /{p=**} { allow read; } match /a/{b} { allow get: if x; }"),
        ("match /a/{b} { match /c/{d} { allow get; } }", "match /a/{b}/c/{d} { allow get; }"),
        ("match /a/{b} { allow get; }", "match /a/{b} { allow get; allow write: if false; }"),
    ],
)  # fmt: skip
def test_comments_order_and_names_change_nothing(old: str, new: str) -> None:
    assert told(old, new) == ([], [])
    assert told(new, old) == ([], [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("match /a/{b} { allow get: if !(x == y); }", "match /a/{b} { allow get: if !x == y; }"),
        ("match /a/{b} { allow get: if b == 'x'; }", "match /a/{b} { allow get: if 'b' == 'x'; }"),
        ("match /a/{b}/c/{e} { allow get: if b == 'x'; }", "match /a/{e}/c/{b} { allow get: if b == 'x'; }"),
        (
            "function f() { return n == 'x'; } match /a/{n} { allow get: if f(); }",
            "match /a/{n} { function f() { return n == 'x'; } allow get: if f(); }",
        ),
        ("match /a/{b} { allow get: if x is string; }", "match /a/{b} { allow get: if x is int; }"),
        ("match /a/{b} { allow get: if x < y; }", "match /a/{b} { allow get: if y < x; }"),
    ],
)
def test_what_looks_alike_and_means_another_thing_is_told(old: str, new: str) -> None:
    assert told(old, new)[0] != []


def test_the_version_changes_what_a_recursive_wildcard_matches() -> None:
    body = "match /a/{p=**} { allow read; }"
    found = difference(parse(file(body, "")), parse(file(body)))
    assert found.kind == "opens"
    assert difference(parse(file(body)), parse(file(body, ""))).kind == "closes"


@pytest.mark.parametrize(
    ("new", "code", "says"),
    [
        (SIGNED_IN + " // c", 0, "Nobody can do more or less than before."),
        ("match /notes/{n} { allow get: if request.auth != null; }", 3, "users can no longer list notes/*"),
        ("match /notes/{n} { allow get; }", 4, "strangers can now get notes/*"),
        ("match /notes/{n} { allow get: }", 2, "new.rules:1: "),
    ],
)
def test_the_exit_status_is_by_kind(tmp_path: Path, new: str, code: int, says: str) -> None:
    (tmp_path / "old.rules").write_text(file(SIGNED_IN))
    (tmp_path / "new.rules").write_text(file(new).replace(" // c }", " // c\n}"))
    done = CliRunner().invoke(main, ["diff", str(tmp_path / "old.rules"), str(tmp_path / "new.rules")])
    assert (done.exit_code, says in done.output) == (code, True), done.output


@pytest.mark.parametrize(
    ("method", "old", "new", "says"),
    [
        ("get", "request.auth.uid == resource.data.owner", "request.auth.uid == resource.data.owner || resource.data.open == true", 'strangers can now get n/*, where resource.data.open == true (as nobody: get n/x, which is {"open": true})'),
        ("create", "request.auth.token.admin == true", "request.auth.token.admin == true || request.auth.token.role in ['staff']", "users can now create n/*, where request.auth.token.role in ['staff'] (as ada with {\"role\": \"staff\"}: create n/x)"),
        ("update", "request.auth.uid == resource.data.owner && request.resource.data.owner == resource.data.owner", "request.auth.uid == resource.data.owner", 'users can now update n/*, where request.auth.uid == resource.data.owner (as ada: update n/x from {"owner": "ada"} to {})'),
        ("delete", "m == 'open'", "m == 'open' || m == 'shut'", "strangers can now delete n/{1}, where 'shut' == {1} (as nobody: delete n/shut)"),
        ("list", "request.auth != null", "true", "strangers can now list n/* (as nobody: list n)"),
        ("get", "resource == null", "true", "strangers can now get n/* (as nobody: get n/x)"),
        ("get", "resource.data.t.size() < 3", "resource.data.t.size() < 4", "strangers can now get n/*, where resource.data.t.size() < 4"),
    ],
)  # fmt: skip
def test_a_change_that_asks_something_is_shown_by_a_request(method: str, old: str, new: str, says: str) -> None:
    """Unless no request is certain: nothing is known of sizes."""
    before, after = (parse(file(f"match /n/{{m}} {{ allow {method}: if {text}; }}")) for text in (old, new))
    assert compared(before, after).opened() == [says]


def test_the_readme_shows_what_the_command_says(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    shown = readme.partition("$ rules-tester diff old.rules firestore.rules\n")[2].partition("```")[0]
    owner = "request.auth.uid == resource.data.owner"
    before = f"match /notes/{{n}} {{ allow get, delete: if {owner}; }}"
    after = f"match /notes/{{n}} {{ allow get: if {owner} || resource.data.open == true; }}"
    for name, text in (("old.rules", before), ("firestore.rules", after)):
        (tmp_path / name).write_text(file(text))
    done = CliRunner().invoke(main, ["diff", str(tmp_path / "old.rules"), str(tmp_path / "firestore.rules")])
    assert (done.exit_code, done.output) == (4, shown)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("match /u/{u} { allow read: if request.auth != null && request.auth.uid == u; }", "match /u/{u} { allow read: if request.auth.uid == u; }"),
        ("match /a/{b} { allow get: if request.auth != null; }", "match /a/{b} { allow get: if !(request.auth == null); }"),
        ("match /a/{b} { allow get: if b == 'x' || b == 'y'; }", "match /a/{b} { allow get: if b in ['y', 'x']; }"),
        ("match /a/{b} { allow get: if request.auth != null; }", "match /a/{b} { allow get: if request.auth != null; } match /{x}/{y} { allow get: if x == 'a' && request.auth.uid is string; }"),
    ],
)  # fmt: skip
def test_conditions_that_mean_the_same_change_nothing_by_proof(old: str, new: str) -> None:
    before, after = parse(file(old)), parse(file(new))
    assert difference(before, after).kind != "none"
    assert compared(before, after).kind == "none"
    assert compared(after, before).kind == "none"


CONDITIONS = st.sampled_from(
    ["true", "false", "request.auth != null", "request.auth.uid == b", "b == 'x'", "ok()", "!ok()", "b == 'x' || ok()",
     "ok() && request.auth != null", "request.auth != null ? ok() : false", "has(b)", "resource.data.n == 1"]
)  # fmt: skip
ALLOWS = st.builds(
    "match {} {{ allow {}: if {}; }}".format,
    st.sampled_from(["/a/{b}", "/{a}/{b}", "/a/x", "/{c}/{b}", "/{b}/{rest=**}", "/a/{b}/c/{d}"]),
    st.sampled_from(["read", "get", "write", "list, delete"]),
    CONDITIONS,
)
FUNCTIONS = "function ok() { return request.auth.uid == 'ada'; } function has(x) { return x == 'x'; }"
BLOCKS = st.lists(ALLOWS, max_size=3).map(
    lambda matches: f"{FUNCTIONS} {' '.join(matches)} match /z/{{z}} {{ allow get: if false; }}"
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BLOCKS, BLOCKS)
def test_whatever_the_emulator_allows_anew_is_told_as_opened(
    firestore_emulator: Emulator, firestore_project: str, old: str, new: str
) -> None:
    """And where nothing is told, no decision changes."""
    client = RestClient(firestore_emulator.host, firestore_project)
    found = compared(parse(file(old)), parse(file(new)))
    kinds: Any = ("get", "delete")
    tokens = [None, *(unsigned_token(firestore_project, {"sub": uid}) for uid in ("ada", "x"))]
    requests = [
        (Operation(kind, path), token)
        for kind in kinds
        for path in ("a/x", "a/y", "q/x", "a/x/c/y")
        for token in tokens
    ]
    decisions = []
    for rules in (old, new):
        firestore_emulator.load_rules(firestore_project, file(rules))
        decisions.append([client.allowed(operation, token) for operation, token in requests])
    client.close()
    before, after = decisions
    if any(now and not was for was, now in zip(before, after, strict=True)):
        assert found.opens
    if any(was and not now for was, now in zip(before, after, strict=True)):
        assert found.closes
