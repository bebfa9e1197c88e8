"""Refuses a bad answer as soon as it is given.

cookiecutter makes the app's folder before it runs a ``pre_gen_project`` hook, parents and all, wherever the answer
leads ("../x"). This Jinja extension is asked while the questions are put (see the ``__…_checked`` keys of
cookiecutter.json), so that a refused answer leaves nothing behind.
"""

import re
import unicodedata
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2.ext import Extension

SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?")
"""A Cloud Run service name, as in firelaunch.scope.APP_ID: firelaunch need not be installed where cookiecutter is."""

DEVICES = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
"""Folders that cannot be on Windows, so that the app's repository could not be cloned there."""

CHARACTERS = "lower-case letters, digits and hyphens, a letter first and no hyphen last"
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+(?:-[a-z]+)+[0-9]+")
LENGTHS = {"app_name": 100, "description": 500}
"""Characters at most, as in firelaunch.settings.app.App."""


class Answers(Extension):
    """Brings the filter ``checked``, and ``working_folder()``: cookiecutter's ``_repo_dir`` may be relative to it."""

    def __init__(self, environment):
        super().__init__(environment)
        environment.filters["checked"] = checked
        environment.globals["working_folder"] = Path.cwd


def checked(answer, question):
    """An empty string.

    Raises:
        FailedHookException: the answer will not do; cookiecutter prints the message and ends.
    """
    problem = _PROBLEMS[question](answer)
    if problem:
        raise FailedHookException(f"Nothing was made. {question} is {_shown(answer)}: {problem}")
    return ""


def _slug(answer):
    if not SLUG.fullmatch(answer):
        return f"it names a Cloud Run service and its functions, so use 1 to 31 {CHARACTERS}."
    if DEVICES.fullmatch(answer):
        return "no folder can have that name on Windows; choose another."
    return None


def _project(answer):
    if answer and not PROJECT.fullmatch(answer):
        return f"a Google Cloud project id has 6 to 30 {CHARACTERS}; leave it empty if there is none yet."
    return None


def _region(answer):
    return None if REGION.fullmatch(answer) else "a Google Cloud region looks like 'europe-west1'."


def _name(answer):
    return "write a name." if not answer.strip() else _text(answer, LENGTHS["app_name"])


def _description(answer):
    return _text(answer, LENGTHS["description"])


def _text(answer, most):
    if len(answer) > most:
        return f"that is {len(answer)} characters; write {most} at most."
    # Control characters, lone surrogates, and separators of lines and paragraphs.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in answer):
        return "write one line, without control characters."
    return None


def _shown(answer):
    return ascii(answer if len(answer) <= 60 else answer[:60] + "...")


_PROBLEMS = {
    "app_name": _name,
    "app_slug": _slug,
    "description": _description,
    "project": _project,
    "region": _region,
}
