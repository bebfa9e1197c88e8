"""Named environments: ``[env.staging]`` of firelaunch.toml, laid over the settings that stand outside of it.

What stands outside is production's. The environment variable ``FIRELAUNCH_ENV`` chooses: a deploy sets it for the
services that it makes, and the option ``--env`` of a command sets it for that command. The standard library alone is
imported, so that ``tools/changed_apps.py`` runs before anything is set up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import SettingsError

__all__ = [
    "DEFAULT_REGION",
    "PRODUCTION",
    "VARIABLE",
    "chosen",
    "environments",
    "inherited_problems",
    "overlaid",
    "project_of",
]

VARIABLE = "FIRELAUNCH_ENV"
PRODUCTION = "production"
"""Names the settings that stand outside of ``[env]``, as no name at all does."""

DEFAULT_REGION = "europe-west1"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_OF_A_PROJECT = (
    ("cloud", "database_id"),
    ("cloud", "site"),
    ("documents", "bucket"),
    ("identity", "app_check"),
    ("identity", "tenant"),
    ("index", "vertex"),
    ("jobs", "service_account"),
    ("jobs", "url"),
)
"""Settings that name something of one project. Another one does not take them over in silence."""


def environments(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections ``[env.NAME]`` of a settings file.

    Raises:
        SettingsError: one is no table, or its name will not do.
    """
    found = data.get("env", {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise SettingsError("firelaunch.toml: env holds tables alone: write [env.staging.cloud], for example.")
    if PRODUCTION in found:
        raise SettingsError(
            f"firelaunch.toml: env.{PRODUCTION}: the settings outside of [env] are production's; move these there."
        )
    for name in found:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"firelaunch.toml: env.{name}: an environment's name has lower-case letters, digits and hyphens, "
                "30 at most."
            )
    return found


def chosen(environ: Mapping[str, str]) -> str:
    """The environment that a process's variables choose; empty for production."""
    name = environ.get(VARIABLE, "")
    return "" if name == PRODUCTION else name


def overlaid(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of an environment: tables are merged key by key, anything else is replaced.

    Args:
        name: the environment's; empty for the settings outside of all.

    Raises:
        SettingsError: there is no such environment; the message names those that there are.
    """
    known = environments(data)
    base = {key: value for key, value in data.items() if key != "env"}
    if not name:
        return base
    if name not in known:
        there = ", ".join([PRODUCTION, *sorted(known)])
        raise SettingsError(f"firelaunch.toml: there is no environment {name!r}, no [env.{name}]. There are: {there}.")
    over = known[name]
    for section, key in _OF_A_PROJECT:  # a table of another project's ids is replaced whole
        if key in _table(over, section) and key in _table(base, section):
            base[section] = {each: value for each, value in base[section].items() if each != key}
    return _merged(base, over)


def project_of(data: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """The Google Cloud project of the environment that is chosen; empty where none is named.

    ``GOOGLE_CLOUD_PROJECT`` overrides the settings outside of ``[env]``. An environment that names its own project has
    that one, whatever a shell or a runner of continuous integration has been told.

    Raises:
        SettingsError: the environment would have production's project.
    """
    name, given = chosen(environ), environ.get("GOOGLE_CLOUD_PROJECT", "")
    production = _text(_table(data, "cloud"), "project")
    if not name:
        return given or production
    own = _text(_table(environments(data).get(name, {}), "cloud"), "project")
    project = own or given or production
    if project and project == production:
        raise SettingsError(
            f"firelaunch.toml: env.{name}.cloud.project is {repr(own) if own else 'missing'}: name a project of its "
            f"own. {production!r} is that of the settings outside of [env]."
        )
    return project


def inherited_problems(data: Mapping[str, Any], name: str) -> Iterator[str]:
    """What an environment would take over though it belongs to another project; nothing where none is chosen."""
    if not name:
        return
    own = environments(data).get(name, {})
    backend = _text(_table(own, "index"), "backend") or _text(_table(data, "index"), "backend")
    for section, key in _OF_A_PROJECT:
        inherited = _table(data, section).get(key)
        unused = key == "vertex" and backend != "vertex"
        if inherited and not unused and key not in _table(own, section):
            empty = "[]" if isinstance(inherited, list) else '""'
            none = "" if isinstance(inherited, dict) else f", or {empty} for none"
            yield (
                f"firelaunch.toml: {section}.{key} belongs to the project outside of [env]: set "
                f"env.{name}.{section}.{key} to this environment's own{none}."
            )


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The two together. No table of ``base`` is shared with the outcome where they meet."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A table of the file; empty where it is missing or something else, which validation names."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""
