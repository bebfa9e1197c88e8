"""Find the rules of a Firebase project by its firebase.json, and read them as the compiler does."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["ProjectError", "cases_beside", "emulator_port", "project_folder", "read_rules", "rules_of"]

_FIREBASE = "firebase.json"


class ProjectError(Exception):
    """The project's files are not as they should be. The message says which, and what to do."""


def rules_of(folder: Path) -> Path:
    """Return the file of Firestore rules that the nearest firebase.json names, in ``folder`` or above it.

    Raises:
        ProjectError: there is none, or it names no rules, or those of several databases.
    """
    place = project_folder(folder)
    if place is None:
        raise ProjectError(f"There is no {_FIREBASE} in {folder} or above it; name the file of rules.")
    return place / _named(place / _FIREBASE)


def project_folder(folder: Path) -> Path | None:
    """Return the nearest folder with a firebase.json: ``folder``, or one above it."""
    return next((place for place in (folder, *folder.parents) if (place / _FIREBASE).is_file()), None)


def emulator_port(folder: Path) -> int:
    """Return the port at which the project expects the Firestore emulator, or 0 if firebase.json names none."""
    place = project_folder(folder)
    try:
        return (
            int(json.loads((place / _FIREBASE).read_text("utf-8-sig"))["emulators"]["firestore"]["port"])
            if place
            else 0
        )
    except (ValueError, KeyError, TypeError, OSError):
        return 0


def _named(config: Path) -> str:
    try:
        firestore = json.loads(config.read_text(encoding="utf-8-sig")).get("firestore", {})
    except (ValueError, AttributeError, OSError) as error:
        raise ProjectError(f"{config} cannot be read: {error}.") from None
    databases = firestore if isinstance(firestore, list) else [firestore]
    named = list(
        dict.fromkeys(str(item["rules"]) for item in databases if isinstance(item, dict) and item.get("rules"))
    )
    if len(named) != 1:
        have = f"names {' and '.join(named)}" if named else "names no rules under 'firestore'"
        raise ProjectError(f"{config} {have}; name the file of rules that is meant.")
    return named[0]


def cases_beside(rules: Path) -> Path:
    """Return the file of cases of a file of rules: ``firestore.cases.yaml`` for ``firestore.rules``.

    Raises:
        ProjectError: it is not there.
    """
    cases = rules.with_suffix(".cases.yaml")
    if not cases.is_file():
        raise ProjectError(f"{cases} is not there. Write cases into it, or name the file of cases.")
    return cases


def read_rules(path: Path) -> str:
    """Read a file of rules, with a byte order mark if it has one: the compiler refuses it.

    Raises:
        ProjectError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ProjectError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
