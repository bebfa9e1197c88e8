"""The mutation tester on rules of several styles: strong suites score, weak ones lose for just what they leave out."""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from firelaunch.testing.emulator import Emulator, RulesError, unsigned_token
from firelaunch_cli.commands.test_rules import command
from rules_tester.cases import load_suite
from rules_tester.client import UnexpectedAnswer
from rules_tester.runner import run

OWN = """
rules_version = '2';
// Grüße an alle 🔥 { "a comment with a brace and a 'quote }
service cloud.firestore {
  match /databases/{database}/documents {
    match /notes/{note} {
      allow read: if request.auth != null && (resource.data.owner == request.auth.uid || resource.data.public == true);
      allow create: if request.resource.data.owner == request.auth.uid && request.resource.data.stars <= 5;
    }
  }
}
"""

OWN_CASES = """
users:
  ada:
  bob: {uid: bob}
  ann: {uid: ann}
documents:
  notes/hers: {owner: ann, public: false}
  notes/open: {owner: ann, public: true}
  notes/hers/parts/p: {owner: ann, public: true}
cases:
  - {name: own, as: ann, get: notes/hers, expect: allow}
  - {name: public, as: bob, get: notes/open, expect: allow}
  - {name: foreign, as: bob, get: notes/hers, expect: deny}
  - {name: nobody, as: ada, get: notes/open, expect: deny}
  - {name: list, as: bob, list: notes, where: [[public, "==", true]], expect: allow}
  - {name: create, as: ann, create: notes/new, data: {owner: ann, stars: 5}, expect: allow}
  - {name: stars, as: ann, create: notes/new, data: {owner: ann, stars: 6}, expect: deny}
  - {name: owner, as: bob, create: notes/new, data: {owner: ann, stars: 1}, expect: deny}
  - {name: update, as: ann, update: notes/hers, data: {owner: ann, stars: 1}, expect: deny}
  - {name: delete, as: ann, delete: notes/hers, expect: deny}
  - {name: below, as: ann, get: notes/hers/parts/p, expect: deny}
  - {name: elsewhere, as: ann, create: other/new, data: {owner: ann, stars: 1}, expect: deny}
"""

ROLES = """
rules_version = '2';
service cloud.firestore {
  match /databases/{db}/documents {
    function member(room) {
      let path = /databases/$(db)/documents/rooms/$(room)/members/$(request.auth.uid);
      return exists(path) && get(path).data.role in ['writer', 'owner'];
    }
    match /rooms/{room}/{rest=**} {
      allow read, write: if member(room) && !(rest[0] == 'members');
    }
  }
}
"""

ROLES_CASES = """
users: {wen: {}, rea: {}, out: {}, own: {}}
documents:
  rooms/r/members/wen: {role: writer}
  rooms/r/members/own: {role: owner}
  rooms/r/members/rea: {role: reader}
  rooms/r/posts/p: {text: hello}
  rooms/other/members/out: {role: writer}
cases:
  - {as: [wen, own], get: rooms/r/posts/p, expect: allow}
  - {as: wen, create: rooms/r/posts/q, update: rooms/r/posts/p, delete: rooms/r/posts/p, data: {text: x}, expect: allow}
  - {as: [rea, out], get: rooms/r/posts/p, expect: deny}
  - {as: wen, get: rooms/r/members/rea, create: rooms/r/members/out, data: {role: owner}, expect: deny}
"""

TERNARY = """
rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    match /items/{id} {
      allow get: if id.matches('^[a-z]+//[0-9]?$') ? false : id.size() > 2;
      allow delete;
    }
  }
}
"""


@pytest.fixture
def score(firestore_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command: ``score(rules, cases, *options)`` gives (exit code, output, report)."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)

    def go(rules: str, cases: str, *options: str) -> tuple[int, str, Any]:
        (tmp_path / "x.rules").write_text(rules)
        (tmp_path / "cases.yaml").write_text(textwrap.dedent(cases))
        out = tmp_path / "report.json"
        out.unlink(missing_ok=True)
        files = [str(tmp_path / "x.rules"), str(tmp_path / "cases.yaml")]
        done = CliRunner().invoke(command, [*files, "--no-suggest", "--json", str(out), *options])
        return done.exit_code, done.output, json.loads(out.read_text()) if out.exists() else None

    return go


def without(cases: str, name: str) -> str:
    data = yaml.safe_load(cases)
    data["cases"] = [case for case in data["cases"] if case["name"] != name]
    return yaml.safe_dump(data)


def survivors(report: Any) -> set[str]:
    return {f"{mutant['operator']}: {mutant['after']}" for mutant in report["survived"]}


def test_a_strong_suite_kills_every_mutant(score: Callable[..., Any]) -> None:
    code, output, report = score(OWN, OWN_CASES)
    left = survivors(report)
    # A document's field that is a boolean may as well be asked as compared with true.
    assert left <= {m for m in left if "public" in m}, output
    assert report["mutants"] == report["killed"] + len(report["survived"])
    assert code == (0 if report["score"] == 100 else 1)
    assert report["never_evaluated"] == []


@pytest.mark.parametrize(
    ("name", "missed"),
    [
        ("own", "resource.data.owner"),
        ("foreign", "to true"),
        ("nobody", "request.auth"),
        ("list", "narrow read to get"),
        ("create", "drop allow"),
        ("stars", "stars <= 5"),
        ("owner", "request.resource.data.owner"),
        ("update", "widen to write"),
        ("delete", "add delete"),
        ("below", "recursive"),
        ("elsewhere", "literal to wildcard"),
    ],
)
def test_a_suite_that_lacks_one_case_loses_score_for_it(score: Callable[..., Any], name: str, missed: str) -> None:
    _, _, whole = score(OWN, OWN_CASES)
    code, _, report = score(OWN, without(OWN_CASES, name))
    assert code == 1
    assert report["score"] < whole["score"]
    new = [m for m in report["survived"] if m["id"] not in {w["id"] for w in whole["survived"]}]
    text = "\n".join(f"{m['operator']} {m['before']} {m['after']}" for m in new)
    assert missed in text or missed in "\n".join(item["expression"] for item in report["never_evaluated"]), text


def test_a_suite_of_denials_alone_leaves_every_narrowing_alive(score: Callable[..., Any]) -> None:
    _, _, report = score(OWN, "users: {x: }\ncases: [{as: x, get: notes/a, expect: deny}]")
    assert report["score"] < 50
    assert any(mutant["operator"] == "drop match" for mutant in report["survived"])
    assert any("stars" in item["expression"] for item in report["never_evaluated"])


def test_rules_that_look_documents_up_and_recurse_are_mutated(score: Callable[..., Any]) -> None:
    _, output, report = score(ROLES, ROLES_CASES)
    assert report["score"] > 90, output
    weak = ROLES_CASES.replace(
        "rooms/r/members/rea, create: rooms/r/members/out", "rooms/other/members/out, create: x/y"
    )
    _, _, less = score(ROLES, weak)
    assert any("'members'" in m["before"] for m in less["survived"])
    assert less["score"] < report["score"]


def test_strings_that_look_like_code_are_left_alone(score: Callable[..., Any]) -> None:
    cases = """
    users: {x: }
    documents: {items/abc: {n: 1}, items/ab: {n: 1}}
    cases:
      - {as: x, get: items/abc, expect: allow}
      - {as: x, get: items/ab, expect: deny}
      - {as: x, delete: items/abc, expect: allow}
    """
    _, output, report = score(TERNARY, cases)
    changed = [m for m in report["survived"] if "matches" in m["after"]]
    assert changed
    assert all("'^[a-z]+//[0-9]?$'" in m["after"] for m in changed), output


def test_a_mutant_known_to_change_nothing_is_allowed_with_its_reason(score: Callable[..., Any], tmp_path: Path) -> None:
    _, _, report = score(OWN, without(OWN_CASES, "below"))
    entries = [{"id": m["id"], "reason": "no parts are kept"} for m in report["survived"]]
    allow = tmp_path / "allow.yaml"
    allow.write_text(yaml.safe_dump(entries))
    code, _, allowed = score(OWN, without(OWN_CASES, "below"), "--allow", str(allow))
    assert (code, allowed["score"], allowed["survived"]) == (0, 100.0, [])
    assert {m["reason"] for m in allowed["allowed"]} == {"no parts are kept"}
    allow.write_text(yaml.safe_dump([*entries, {"id": "0000000000", "reason": "of old"}]))
    code, output, _ = score(OWN, without(OWN_CASES, "below"), "--allow", str(allow))
    assert (code, "0000000000" in output) == (2, True)
    allow.write_text(yaml.safe_dump([{"id": entries[0]["id"]}]))
    assert score(OWN, OWN_CASES, "--allow", str(allow))[0] == 2


def test_the_page_shows_the_rules_with_what_survived(score: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    score(OWN, without(OWN_CASES, "nobody"), "--html", str(page))
    text = page.read_text()
    assert "Grüße an alle 🔥" in text
    assert 'class="mutant"' in text
    assert "&amp;&amp;" in text


def test_a_case_that_does_not_hold_on_the_rules_themselves_ends_the_run(score: Callable[..., Any]) -> None:
    code, output, report = score(OWN, OWN_CASES.replace("name: foreign, as: bob", "name: foreign, as: ann"))
    assert (code, report) == (2, None)
    assert "foreign: ann may not get notes/hers" in output


def test_rules_that_do_not_compile_are_said_so_with_their_line(score: Callable[..., Any]) -> None:
    code, output, _ = score(OWN.replace("allow read:", "alow read:"), OWN_CASES)
    assert code == 2
    assert "x.rules:7: 'alow' is no statement" in output


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        ("cases: []", "no list of cases"),
        ("x: 1\ncases: [1]", "'x' is none of"),
        ("cases: [1]", "case 1: it is not a map"),
        ("users: {a: }\ncases: [{as: a, get: c/d}]", "neither allow nor deny"),
        ("users: {a: }\ncases: [{as: b, get: c/d, expect: deny}]", "'b' is not under 'users'"),
        ("users: {a: }\ncases: [{as: a, expect: deny}]", "names no operation"),
        ("users: {a: }\ncases: [{as: a, get: c, expect: deny}]", "document's path"),
        ("users: {a: }\ncases: [{as: a, list: c/d, expect: deny}]", "collection's path"),
        ("users: {a: }\ncases: [{as: a, update: c/d, expect: deny}]", "an update has 'data'"),
        ("users: {a: }\ncases: [{as: a, gett: c/d, expect: deny}]", "'gett' is no key"),
        ("users: {a: 1}\ncases: [{as: a, get: c/d, expect: deny}]", "map of claims"),
        ("documents: {c: {}}\ncases: [{as: a, get: c/d, expect: deny}]", "document 'c'"),
        ("cases: [", "not valid YAML"),
    ],
)
def test_a_file_of_cases_that_is_wrong_is_refused_with_the_place(tmp_path: Path, cases: str, says: str) -> None:
    from rules_tester.cases import CaseError

    path = tmp_path / "cases.yaml"
    path.write_text(cases)
    with pytest.raises(CaseError, match=".*".join([says])):
        load_suite(path)


def test_an_emulator_that_fails_kills_no_mutant(tmp_path: Path) -> None:
    class Failing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        (tmp_path / "cases.yaml").write_text("users: {a: }\ncases: [{as: a, list: notes, expect: deny}]")

        class Broken:
            host = f"127.0.0.1:{server.server_port}"
            refusal = RulesError

            def load_rules(self, project: str, source: str) -> None: ...

            def rule_coverage(self, _project: str) -> Any:
                return {"report": []}

        with pytest.raises((UnexpectedAnswer, KeyError)):
            run(Broken(), OWN, load_suite(tmp_path / "cases.yaml"), unsigned_token)
        server.shutdown()
