"""Implement ``firelaunch new function`` in an app: a handler or a route, its line in ``create_app``, and its test."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from firelaunch.text_file import read_text_file

__all__ = ["HANDLER_KINDS", "NewHandler", "app_around", "make_handler"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COLLECTION = re.compile(r"""\bCollection\(\s*["']([a-z][a-z0-9_]*)["']""")

_WRITE = '''"""Say here what {name} is for."""

import logging

from firelaunch import WriteEvent, on_write

log = logging.getLogger(__name__)


@on_write("{pattern}")
def {name}(event: WriteEvent) -> None:
    """Events come late, more than once and in any order. Make changes with `event.run.commit`: they land once."""
    log.info("{name}: %s was %s", event.names["{variable}"], event.change)
'''

_UPLOAD = '''"""Say here what {name} is for."""

import logging

from firelaunch import UploadEvent, on_upload

log = logging.getLogger(__name__)


@on_upload("{pattern}")
def {name}(event: UploadEvent) -> None:
    """Events come late, more than once and in any order. `event.open()` reads the file."""
    log.info("{name}: %s has %s bytes", event.names["{variable}"], event.size)
'''

_HTTP = '''"""Say here what {name} is for."""

from firelaunch import Routes, caller

routes = Routes("{name}")


@routes.get("/{name}", summary="Say here what it answers")
def {name}() -> dict[str, str]:
    """Answer a signed-in user."""
    return {{"uid": caller().uid}}
'''

_WRITE_TEST = '''"""What {name} does for documents that are written."""

from firelaunch import App
from firelaunch.testing.apps import run_jobs, write_document


def test_{name}_handles_each_of_its_documents_and_no_other(app: App) -> None:
    write_document(app, {owner}, "{example}", {{"name": "Soup"}})
    write_document(app, "ada", "others/{other}", {{"name": "Soup"}})
    assert [(job.kind, job.uid, job.state) for job in run_jobs(app)] == [("{name}", {owner}, "succeeded")]
'''

_UPLOAD_TEST = '''"""What {name} does for files that are uploaded."""

from firelaunch import App
from firelaunch.testing.apps import put_file, run_jobs


def test_{name}_handles_each_of_its_files_and_no_other(app: App) -> None:
    put_file(app, "ada", "{example}", b"...")
    put_file(app, "ada", "others/{other}", b"...")
    assert [(job.kind, job.uid, job.state) for job in run_jobs(app)] == [("{name}", "ada", "succeeded")]
'''

_HTTP_TEST = '''"""What {name} answers, and to whom."""

from firelaunch import App
from firelaunch.testing.apps import User


def test_{name}_answers_whoever_is_signed_in(app: App, ada: User) -> None:
    assert ada.get("/api/{name}").get_json() == {{"uid": "ada"}}
    assert app.test_client().get("/api/{name}").status_code == 401
'''

_CODE = {"write": _WRITE, "upload": _UPLOAD, "http": _HTTP}
_TESTS = {"write": _WRITE_TEST, "upload": _UPLOAD_TEST, "http": _HTTP_TEST}
_ARGUMENTS = {"write": "events", "upload": "events", "http": "routes"}
HANDLER_KINDS = tuple(_CODE)
"""The kinds of functions that an app's own code may have."""


@dataclass(frozen=True, slots=True)
class NewHandler:
    """What was made.

    Args:
        files: the files that were written.
        to_add: the line to add by hand; "" if it was added.
    """

    files: Sequence[Path]
    to_add: str


def app_around(folder: Path) -> Path | None:
    """Return the app that a folder is or lies in; None if there is none."""
    return next((each for each in (folder, *folder.parents) if (each / "firelaunch.toml").is_file()), None)


def make_handler(app: Path, name: str, kind: str, of: str = "") -> NewHandler:
    """Write a function of the app's own and its test, and declare it in ``create_app``.

    Args:
        of: the collection or folder; "" for the app's first collection, or for ``pictures``.

    Raises:
        ClickException: the name is not valid or is taken, or there is no such collection. Nothing was written.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise click.ClickException(f"{name!r} cannot name a function: use up to 32 small letters, digits and '_'.")
    module, test = app / "app" / f"{name}.py", app / "tests" / f"test_{name}.py"
    start = app / "app" / "__init__.py"
    if module.exists() or test.exists():
        raise click.ClickException(f"{module.name} or {test.name} is there already: choose another name.")
    values = _values(app, name, kind, of)
    element = f"{name}.routes" if kind == "http" else f"{name}.{name}"
    text = read_text_file(start)
    declared = _declared(text, name, _ARGUMENTS[kind], element)
    module.write_text(_CODE[kind].format(**values), encoding="utf-8")
    test.write_text(_TESTS[kind].format(**values), encoding="utf-8")
    if declared is None:
        return NewHandler((module, test), f"App(__name__, {_ARGUMENTS[kind]}=[{element}])")
    start.write_text(declared, encoding="utf-8")
    return NewHandler((module, test, start), "")


def _values(app: Path, name: str, kind: str, of: str) -> dict[str, str]:
    collections = _collections(app) if kind == "write" else {}
    if kind == "write" and not collections:
        raise click.ClickException('This app has no Collection("...") yet: add one, as docs/your-app.md shows.')
    if of and kind == "write" and of not in collections:
        raise click.ClickException(f"There is no collection {of!r}. There are: {', '.join(collections)}.")
    below = of or next(iter(collections), "pictures")
    variable = "name" if kind == "upload" else re.sub(r"[^a-z]", "", below).removesuffix("s") or "id"
    last = "lunch.jpg" if kind == "upload" else f"{variable}-1"
    return {
        "name": name,
        "pattern": f"{below}/{{{variable}}}",
        "variable": variable,
        "example": f"{below}/{last}",
        "other": last,
        "owner": "None" if collections.get(below) == "app" else '"ada"',
    }


def _collections(app: Path) -> dict[str, str]:
    """Return the names of the collections in the app's code, and their owners."""
    found = {}
    for path in sorted((app / "app").rglob("*.py")):
        text = read_text_file(path)
        for match in _COLLECTION.finditer(text):
            end = text.find(")", match.end())
            owner = re.search(r"""owner\s*=\s*["'](user|app)["']""", text[match.end() : end])
            found[match[1]] = owner[1] if owner else "user"
    return found


def _declared(text: str, module: str, argument: str, element: str) -> str | None:
    """Return the text of ``app/__init__.py`` with an element more in ``App(..., argument=[...])``; None if it can't."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == "App"]
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1 and not node.module]
    if len(calls) != 1 or len(imports) != 1 or imports[0].lineno != imports[0].end_lineno:
        return None
    lines = text.splitlines(keepends=True)
    edits = [_call_edit(lines, calls[0], argument, element), _import_edit(imports[0], module)]
    if None in edits:
        return None
    for line, start, end, new in sorted(filter(None, edits), reverse=True):
        raw = lines[line - 1].encode()
        lines[line - 1] = (raw[:start] + new.encode() + raw[end:]).decode()
    return "".join(lines)


_Edit = tuple[int, int, int, str]
"""A line's number, the bytes of it to replace, from and to, and their replacement."""


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _call_edit(lines: Sequence[str], call: ast.Call, argument: str, element: str) -> _Edit | None:
    given = next((each.value for each in call.keywords if each.arg == argument), None)
    node: ast.expr = call if given is None else given
    last = node.end_lineno, node.end_col_offset
    if last[0] is None or last[1] is None:
        return None
    if node.lineno != last[0]:
        indent = lines[last[0] - 1].partition(")")[0]
        if given is not None or indent.strip() or not lines[last[0] - 2].rstrip().endswith(","):
            return None
        return last[0], 0, 0, f"{indent}    {argument}=[{element}],\n"  # an argument a line, as formatters write them
    if given is None:
        return last[0], last[1] - 1, last[1] - 1, f", {argument}=[{element}]"
    if not isinstance(given, ast.List):
        return None
    return last[0], last[1] - 1, last[1] - 1, f"{', ' if given.elts else ''}{element}"


def _import_edit(statement: ast.ImportFrom, module: str) -> _Edit | None:
    names = sorted({*(alias.name for alias in statement.names), module})
    if statement.end_col_offset is None or any(alias.asname for alias in statement.names):
        return None
    return statement.lineno, statement.col_offset, statement.end_col_offset, f"from . import {', '.join(names)}"
