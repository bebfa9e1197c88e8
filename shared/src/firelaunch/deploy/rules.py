"""Rules, indexes and expiry of a project's databases, by the Firebase CLI: the same for each of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..rules.compare import compare
from .names import Place
from .steps import Step
from .tools import Command, Request, Tools

__all__ = ["rules_step", "write_config"]

_RULES = "https://firebaserules.googleapis.com/v1"


def write_config(folder: Path, databases: Sequence[str], rules: str, indexes: Path) -> Path:
    """The folder's firebase.json, which names the same rules and indexes for each database; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "firestore.rules").write_text(rules, encoding="utf-8", newline="\n")
    (folder / "firestore.indexes.json").write_text(indexes.read_text(encoding="utf-8"), encoding="utf-8")
    files = {"rules": "firestore.rules", "indexes": "firestore.indexes.json"}
    config = {"firestore": [{"database": name, **files} for name in databases]}
    path = folder / "firebase.json"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def rules_step(place: Place, databases: Sequence[str], config: Path, drop: frozenset[str]) -> Step:
    """The composed rules, the indexes and the TTL policies in force for each of ``databases``.

    Args:
        config: as :func:`write_config` made it.
        drop: the apps whose live rules may go.
    """
    rules = (config.parent / "firestore.rules").read_text(encoding="utf-8")
    indexes = json.loads((config.parent / "firestore.indexes.json").read_text(encoding="utf-8"))
    listings = [_firebase(place, "firestore:indexes", f"--database={name}", config=config) for name in databases]
    deploy = _firebase(place, "deploy", "--only=firestore", config=config, long=True)
    releases = [_release(place, name) for name in databases]

    def look(tools: Tools) -> Sequence[Any]:
        live = [tools.live_rules(place.project, name) for name in databases]
        return [*live, *(tools.read(listing) for listing in listings)]

    def missing(answers: Sequence[Any]) -> bool:
        live, listed = answers[: len(databases)], answers[len(databases) :]
        return any(text != rules for text in live) or any(not _has(there, indexes) for there in listed)

    def dropped(answers: Sequence[Any]) -> str | None:
        for name, live in zip(databases, answers, strict=False):
            gone = [app for app in compare(live, rules).removed if app not in drop]
            if gone:
                return f"this would drop the live rules of {', '.join(gone)} from database {name}"
        return None

    def question(answers: Sequence[Any]) -> str | None:
        changes = []
        for name, live in zip(databases, answers, strict=False):
            lines = compare(live, rules).lines if live != rules else ()
            changes += [f"The rules of database {name} change:" if live else f"Database {name} has no rules yet."]
            changes += lines if live else ()
        return (
            "\n".join([*changes, "Deploy these rules?"])
            if any(text != rules for text in answers[: len(databases)])
            else None
        )

    return Step(
        f"rules, indexes and expiry of {', '.join(databases)}",
        (*releases, *listings),
        lacks=lambda a: [deploy] if missing(a) else [],
        refuses=dropped,
        mend="deploy from where apps/APP/firestore.rules is; or, if those rules are to go, pass --drop APP",
        asks=question,
        look=look,
    )


def _release(place: Place, database: str) -> Request:
    name = "cloud.firestore" if database == "(default)" else f"cloud.firestore/{database}"
    return Request("GET", f"{_RULES}/projects/{place.project}/releases/{name}")


def _firebase(place: Place, *args: str, config: Path, long: bool = False) -> Command:
    more = (f"--project={place.project}", f"--config={config}", "--non-interactive", "--json")
    return Command(("firebase", *args, *more), long=long)


def _has(answer: Any, wanted: dict[str, Any]) -> bool:
    """Whether every index and every override of the file is live. What else is live is let be."""
    there = (answer or {}).get("result") or {}
    return all(
        {_index(item) for item in wanted[kind]} <= {_index(item) for item in there.get(kind, [])}
        for kind in ("indexes", "fieldOverrides")
    )


def _index(item: dict[str, Any]) -> str:
    keys: Iterable[str] = ("collectionGroup", "queryScope", "fieldPath", "ttl")
    fields = [field for field in item.get("fields", []) if field.get("fieldPath") != "__name__"]
    own = [(x.get("order"), x.get("arrayConfig"), x.get("queryScope")) for x in item.get("indexes", [])]
    return json.dumps([[item.get(key) or None for key in keys], fields, own], sort_keys=True)
