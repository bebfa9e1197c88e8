"""Implement ``firelaunch new function``: write a scoped function, its line in main.py, and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import click
from firelaunch.text_file import read_text_file

__all__ = ["KINDS", "make_function"]

_NAME = re.compile(r"[a-z][a-z0-9_]{1,62}")
_IMPORT = re.compile(r"^from (\w+) import \w+$", re.MULTILINE)

_PATTERNS = {
    "http": "apps/{app}/users/{uid}/greetings",
    "storage": "apps/{app}/users/{uid}/uploads/{name}",
    "firestore": "apps/{app}/users/{uid}/chats/{chat}",
}
_EVENTS = {
    "storage": ', "google.cloud.storage.object.v1.finalized"',
    "firestore": ', "google.cloud.firestore.document.v1.written"',
    "http": "",
}
KINDS = tuple(_PATTERNS)
"""The kinds of callers that a function may have."""

_HTTP = '''"""Say here what {name} is for."""

from typing import Any

from firelaunch.functions import Call, scoped


@scoped("{pattern}")
def {name}(call: Call) -> dict[str, Any]:
    """Takes a POST to /{example}; `call.services` reaches that user alone."""
    chats = call.services.chats.list(call.scope, 10, None)
    return {{"uid": call.scope.uid, "chats": len(chats.items), "sent": call.data}}
'''

_EVENT = '''"""Say here what {name} is for."""

import logging

from firelaunch.functions import Call, scoped

log = logging.getLogger(__name__)


@scoped("{pattern}"{events})
def {name}(call: Call) -> None:
    """Events come late, more than once and in any order. `call.services` reaches `call.scope`, and nothing else."""
    log.info("{name}: %s", type(call.data).__name__)
'''

_TEST = '''"""{name}, as functions-framework runs it."""

from pathlib import Path

import functions_framework
import pytest
from firelaunch.testing.apps import write_app
from firelaunch.testing.cloud_events import document_event, storage_finalized  # noqa: F401 - whichever is of use

FUNCTIONS = Path(__file__).parents[2] / "functions"


def test_{name}_takes_what_is_its_own_and_nothing_of_other_apps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_app(tmp_path)
    monkeypatch.setenv("APPS", str(tmp_path))
    monkeypatch.syspath_prepend(str(FUNCTIONS))
    client = functions_framework.create_app("{name}", str(FUNCTIONS / "{name}.py")).test_client()
{calls}'''

_HTTP_CALLS = """    answer = client.post("/{example}", json={{"hello": "there"}})
    assert answer.get_json()["apps"]["demo"]["uid"] == "ada"
    assert client.post("/{foreign}", json={{}}).status_code == 404
"""

_EVENT_CALLS = """    for path in ("{example}", "{foreign}"):
        sent = {sender}
        assert client.post("/", data=sent.body, headers=dict(sent.headers)).status_code == 204
"""

_SENDERS = {
    "storage": 'storage_finalized("a-bucket", path)',
    "firestore": 'document_event("demo-firelaunch", path, None, {"title": "Cats"})',
}


def make_function(root: Path, name: str, kind: str) -> list[Path]:
    """Write the function and its test, add its line to main.py, and return the files.

    Raises:
        ClickException: the name is not valid, or is taken. Nothing was written.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name == "main":
        raise click.ClickException(f"{name!r} cannot name a function: use small letters, digits and '_'.")
    functions = root / "functions"
    module, test = functions / f"{name}.py", root / "tests" / "functions" / f"test_{name}.py"
    main = functions / "main.py"
    text = read_text_file(main)
    if module.exists() or test.exists() or re.search(rf"\b{name}\b", text):
        raise click.ClickException(f"There is a function {name!r} already, or something else of its name.")
    example = _PATTERNS[kind].replace("{app}", "demo").replace("{uid}", "ada")
    example = re.sub(r"\{\w+\}", "a", example)
    values = {
        "name": name,
        "pattern": _PATTERNS[kind],
        "events": _EVENTS[kind],
        "example": example,
        "foreign": example.replace("demo", "another-app"),
        "sender": _SENDERS.get(kind, ""),
    }
    calls = (_HTTP_CALLS if kind == "http" else _EVENT_CALLS).format(**values)
    module.write_text((_HTTP if kind == "http" else _EVENT).format(**values), encoding="utf-8")
    test.parent.mkdir(parents=True, exist_ok=True)
    test.write_text(_TEST.format(**values, calls=calls), encoding="utf-8")
    main.write_text(_with_line(text, name), encoding="utf-8")
    return [module, test, main]


def _with_line(main: str, name: str) -> str:
    """Return ``main`` with the function's import, in alphabetical order."""
    imports = list(_IMPORT.finditer(main))
    next_import = next((match for match in imports if match[1] > name), None)
    offset = next_import.start() if next_import else imports[-1].end() + 1
    return f"{main[:offset]}from {name} import {name}\n{main[offset:]}"
