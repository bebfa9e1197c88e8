"""Implement ``firelaunch new function`` in an app: a handler or a route, its line in ``create_app``, and its test."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from firelaunch.text_file import read_text_file

from .source_edits import declare, declares, formatted

__all__ = ["HANDLER_KINDS", "NewHandler", "make_handler"]

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
    jobs = [job for job in run_jobs(app) if job.kind == "{name}"]
    assert [(job.uid, job.state) for job in jobs] == [({owner}, "succeeded")]
'''

_UPLOAD_TEST = '''"""What {name} does for files that are uploaded."""

from firelaunch import App
from firelaunch.testing.apps import put_file, run_jobs


def test_{name}_handles_each_of_its_files_and_no_other(app: App) -> None:
    put_file(app, "ada", "{example}", b"...")
    put_file(app, "ada", "others/{other}", b"...")
    jobs = [job for job in run_jobs(app) if job.kind == "{name}"]
    assert [(job.uid, job.state) for job in jobs] == [("ada", "succeeded")]
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
        by_hand: what is left to add by hand to ``app/__init__.py``, a place and its code each; empty if all was added.
    """

    files: Sequence[Path]
    by_hand: Sequence[tuple[str, str]] = ()


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
    declared = declare(text, name, _ARGUMENTS[kind], element)
    module.write_text(_CODE[kind].format(**values), encoding="utf-8")
    test.write_text(_TESTS[kind].format(**values), encoding="utf-8")
    if declared is None:
        return NewHandler((module, test), _by_hand(text, name, _ARGUMENTS[kind], element))
    line_end = "\r\n" if b"\r\n" in start.read_bytes() else "\n"
    start.write_text(formatted(start, text, declared), encoding="utf-8", newline=line_end)
    return NewHandler((module, test, start))


def _by_hand(text: str, module: str, argument: str, element: str) -> list[tuple[str, str]]:
    call = (f"the {argument} of App(...)", element)
    if not declares(text, argument):
        call = ("the arguments of App(...)", f"{argument}=[{element}]")
    return [("the imports", f"from . import {module}"), call]


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
