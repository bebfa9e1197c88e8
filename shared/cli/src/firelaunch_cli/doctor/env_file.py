"""An app's ``.env``: one NAME=VALUE a line, as shells and editors read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firelaunch.errors import SettingsError
from firelaunch.text_file import read_text_file

__all__ = ["EnvFile", "read_env", "with_env_file"]

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Read the file.

    Args:
        problems: each with its line; none quotes a value, which may be a key.
    """

    values: dict[str, str]
    problems: tuple[str, ...]


def read_env(path: Path) -> EnvFile:
    """Read a file; nothing where there is none.

    A value may stand in quotes, and a comment follows one after a space and "#". Nothing is expanded.
    """
    if not path.is_file():
        return EnvFile({}, ())
    values: dict[str, str] = {}
    problems = []
    try:
        text = read_text_file(path)
    except SettingsError as error:
        return EnvFile({}, (str(error),))
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            problems.append(f"line {number} is not NAME=VALUE; no spaces stand around the =")
            continue
        name, value = found["name"], _value(found["value"].strip())
        if value is None:
            problems.append(f"line {number}: the quotation mark of {name} is not closed")
            continue
        if name in values:
            problems.append(f"line {number}: {name} is there twice")
        values[name] = value
    return EnvFile(values, tuple(problems))


def with_env_file(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which an app runs on this machine: its ``.env``'s, and over them the environment's.

    On Cloud Run the environment's alone count.
    """
    values = {} if environ.get("K_SERVICE") else read_env(folder / ".env").values
    return {**values, **environ}


def _value(text: str) -> str | None:
    if text[:1] in {'"', "'"}:
        end = text.find(text[0], 1)
        rest = text[end + 1 :].strip() if end > 0 else ""
        return text[1:end] if end > 0 and (not rest or rest.startswith("#")) else None
    return re.split(r"\s+#", text, maxsplit=1)[0].rstrip()
