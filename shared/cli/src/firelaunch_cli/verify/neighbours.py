"""Which other firelaunch apps a project holds; a run that may change the whole project wants one without any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..deploy.delays import disabled_api
from ..deploy.gcloud import CommandFailed, Request, Tools
from ..deploy.resources import OF_FUNCTIONS, Place

__all__ = ["apps_of", "remains_of"]

_ACCOUNT = re.compile(r"fl-(?:app|job)-(.+)@")
_RUN = re.compile(r"(?:fl-(?:fn|app|job)-)?(verify-[0-9a-f]{8})")


def apps_of(tools: Tools, place: Place) -> list[str]:
    """Return the names that bear firelaunch's marks in the project and belong to no run of verify.

    Raises:
        CommandFailed: the project cannot be looked at.
    """
    return sorted({name for name in _marked(tools, place) if not _RUN.fullmatch(name)})


def remains_of(tools: Tools, place: Place) -> list[str]:
    """The runs of verify that have something left in the project, or are going on."""
    found = (_RUN.fullmatch(name) for name in _marked(tools, place))
    return sorted({match[1].removeprefix("verify-") for match in found if match})


def _marked(tools: Tools, place: Place) -> Iterator[str]:
    for service in _listed(tools, f"https://run.googleapis.com/v2/projects/{place.project}/locations/-/services"):
        name, labels = str(service["name"]).rpartition("/")[2], service.get("labels", {})
        if name.startswith(("firelaunch-", OF_FUNCTIONS)) or any(key.startswith("firelaunch-") for key in labels):
            yield name
    for account in _listed(tools, f"https://iam.googleapis.com/v1/projects/{place.project}/serviceAccounts"):
        found = _ACCOUNT.match(str(account["email"]))
        if found:
            yield found[1]
    for database in _listed(tools, f"https://firestore.googleapis.com/v1/projects/{place.project}/databases"):
        yield from _rules_of(tools, place, str(database["name"]).rpartition("/")[2])


def _rules_of(tools: Tools, place: Place, database: str) -> Iterator[str]:
    """The database, where its rules are firelaunch's; a run's own databases are known by their names."""
    if _RUN.match(database):
        return
    api = f"https://firebaserules.googleapis.com/v1/projects/{place.project}/releases"
    release = _read(tools, f"{api}/cloud.firestore/{database}")
    if release is None and database == "(default)":
        release = _read(tools, f"{api}/cloud.firestore")
    ruleset = _read(tools, f"https://firebaserules.googleapis.com/v1/{release['rulesetName']}") if release else None
    files = (ruleset or {}).get("source", {}).get("files", [])
    if any("match /apps/{app}" in file.get("content", "") for file in files):
        yield f"rules of database {database}"


def _listed(tools: Tools, url: str) -> Iterator[Any]:
    kind = url.rpartition("/")[2]
    kind = "accounts" if kind == "serviceAccounts" else kind
    page = ""
    while True:
        found = _read(tools, f"{url}?pageSize=100{page}") or {}
        yield from found.get(kind, [])
        if not found.get("nextPageToken"):
            return
        page = f"&pageToken={found['nextPageToken']}"


def _read(tools: Tools, url: str) -> Any:
    """The answer; nothing where the API is off, because then nothing was made by it."""
    try:
        return tools.request(Request("GET", url))
    except CommandFailed as failed:
        if disabled_api(f"{failed}\n{failed.mend}"):
            return None
        raise
