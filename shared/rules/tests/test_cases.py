"""Cases say in a few words what a request sends, and each starts from the documents that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch.testing.emulator import Emulator, unsigned_token
from rules_tester.cases import CaseError, Suite, load_suite
from rules_tester.runner import RunOptions, SuiteFailed, run

RULES = """rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    match /notes/{note} {
      allow read: if resource == null || resource.data.open == true;
      allow create: if request.resource.data.n == 1;
      allow update: if request.resource.data == RESULT;
      allow delete: if resource.data.open == true;
    }
  }
}
"""


def suite(tmp_path: Path, text: str) -> Suite:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    return load_suite(path)


def holds(emulator: Emulator, rules: str, cases: Suite) -> bool:
    try:
        run(emulator, rules, cases, unsigned_token, RunOptions(chosen=lambda _: False))
    except SuiteFailed:
        return False
    return True


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ("{open: !delete, n: 2}", "{'n': 2, 'tags': ['a']}"),
        ("{n: !increment 2}", "{'n': 3, 'open': true, 'tags': ['a']}"),
        ("{n: !increment -0.5}", "{'n': 0.5, 'open': true, 'tags': ['a']}"),
        ("{tags: !array_union [a, b]}", "{'n': 1, 'open': true, 'tags': ['a', 'b']}"),
        ("{tags: !array_remove [a]}", "{'n': 1, 'open': true, 'tags': []}"),
        ("{n: !server_time, open: !delete}", "{'n': request.time, 'tags': ['a']}"),
    ],
)
def test_an_update_may_change_fields_as_the_server_does(
    firestore_emulator: Emulator, tmp_path: Path, data: str, result: str
) -> None:
    cases = suite(
        tmp_path,
        "documents: {notes/a: {n: 1, open: true, tags: [a]}}\n"
        f"cases: [{{as: nobody, update: notes/a, data: {data}, expect: allow}}]",
    )
    assert holds(firestore_emulator, RULES.replace("RESULT", result), cases)
    assert not holds(firestore_emulator, RULES.replace("RESULT", "{'other': 1}"), cases)


def test_read_and_write_stand_for_their_operations_and_nobody_is_there(tmp_path: Path) -> None:
    found = suite(
        tmp_path,
        "documents: {notes/a: {n: 1}}\n"
        "cases: [{as: nobody, read: [notes/a, notes], write: notes/a, data: {n: 2}, expect: deny}]",
    )
    operations = [(case.operation.kind, case.operation.path, dict(case.documents)) for case in found.cases]
    assert operations == [
        ("get", "notes/a", {}),
        ("list", "notes", {}),
        ("list", "notes", {}),
        ("create", "notes/a", {"notes/a": None}),
        ("update", "notes/a", {}),
        ("delete", "notes/a", {}),
    ]
    assert {case.claims for case in found.cases} == {None}


def test_a_case_starts_from_its_own_documents_and_leaves_none_of_them(
    firestore_emulator: Emulator, tmp_path: Path
) -> None:
    cases = suite(
        tmp_path,
        """
documents: {notes/a: {open: true}}
cases:
  - {as: nobody, get: notes/a, expect: allow}
  - {as: nobody, get: notes/a, documents: {notes/a: {open: false}}, expect: deny}
  - {as: nobody, get: notes/a, documents: {notes/a: }, expect: allow}
  - {as: nobody, get: notes/b, documents: {notes/b: {open: false}}, expect: deny}
  - {as: nobody, get: [notes/a, notes/b], expect: allow}
""",
    )
    assert holds(firestore_emulator, RULES.replace("RESULT", "{}"), cases)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cases: [{as: nobody, create: a/b, data: {n: !delete}, expect: deny}]", "in an update alone"),
        ("cases: [{as: nobody, update: a/b, data: {n: {m: !delete}}, expect: deny}]", "address.city: !delete"),
        ("cases: [{as: nobody, update: a/b, data: {n: !increment x}, expect: deny}]", "'x' is no number"),
        ("cases: [{as: nobody, update: a/b, data: {n: !array_union x}, expect: deny}]", "it takes a list"),
        ("cases: [{as: nobody, update: a/b, data: {n: [!server_time]}, expect: deny}]", "nowhere else"),
        ("documents: {a/b: {n: !increment 1}}\ncases: [{as: nobody, get: a/b, expect: deny}]", "nowhere else"),
        ("cases: [{as: nobody, get: a/b, documents: {a: {}}, expect: deny}]", "document's path"),
        ("cases: [{as: nobody, write: a/b, expect: deny}]", "a write has 'data'"),
    ],
)
def test_what_firestore_does_not_have_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CaseError, match=says):
        suite(tmp_path, text)
