"""The rules in force for a project's databases and its bucket of files; shown and agreed to first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..rules.compare import compare
from ..rules.compose import Kept, keep_others
from .gcloud import CommandFailed, Request, Tools
from .resources import DEFAULT_DATABASE, Place
from .steps import Action, Step

__all__ = ["file_rules", "rules"]

_RULES = "https://firebaserules.googleapis.com/v1"

Live = dict[str, str | None]
"""By a release's name, its rules; None where nothing was released under it."""


def rules(place: Place, database: str, text: str, drop: frozenset[str], here: Collection[str] = ()) -> Step:
    """``text`` in force for a database, with the live rules of apps that are not here.

    Args:
        drop: the apps whose live rules may go.
        here: the apps whose folders are in this clone; their live rules do not outlast the files.
    """

    def new(content: str | None) -> Kept:
        return keep_others(text, content, {*here, *drop})

    def dropped(answers: Sequence[Any]) -> str | None:
        for content in answers[0].values():
            gone = [app for app in compare(content, new(content).text).removed if app not in drop]
            if gone:
                return f"this would drop the live rules of {', '.join(gone)} from database {database}"
        return None

    mend = (
        "put apps/APP/firestore.rules back; or, if those rules are to go, pass --drop APP; where a "
        f"permission is missing, ask for roles/firebaserules.admin in {place.project}"
    )
    source = _Source("firestore.rules", new)
    return _step(place, f"database {database}", _releases(database), source, mend, dropped)


def file_rules(place: Place, bucket: str, text: str) -> Step:
    """``text``, that of ``storage.rules``, in force for a bucket
    (https://firebase.google.com/docs/reference/rules/rest/v1/projects.releases)."""
    mend = f"ask for roles/firebaserules.admin in {place.project}"
    source = _Source("storage.rules", lambda _: Kept(text, ()))
    return _step(place, f"bucket {bucket}", (f"firebase.storage/{bucket}",), source, mend)


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of rules, and what its text is to be where others are live, or None."""

    file: str
    new: Callable[[str | None], Kept]


def _step(
    place: Place,
    what: str,
    names: tuple[str, ...],
    source: _Source,
    mend: str,
    refuses: Callable[[Sequence[Any]], str | None] = lambda _: None,
) -> Step:
    def look(tools: Tools) -> Sequence[Any]:
        return [{name: _live(tools, place, name) for name in names}]

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        live: Live = answers[0] or dict.fromkeys(names)
        there = [name for name, content in live.items() if content is not None]
        for name in there or names[:1]:
            text = source.new(live[name]).text
            if live[name] != text:
                yield _release(place, name, source.file, text, exists=name in there)

    def question(answers: Sequence[Any]) -> str:
        new = {content: source.new(content) for content in answers[0].values() if content is not None}
        changed = {content: made for content, made in new.items() if made.text != content}
        if not changed:
            return f"{what.capitalize()} has no rules yet. Put those of this repo in force?"
        compared = [compare(content, made.text) for content, made in changed.items()]
        lines = [line for comparison in compared for line in comparison.lines]
        lines += dict.fromkeys(said for comparison in compared for said in (*comparison.opens, *comparison.closes))
        kept = sorted({app for made in changed.values() for app in made.apps})
        more = [f"Those of {', '.join(kept)} stay as they are live: apps/{kept[0]} is not here."] if kept else []
        return "\n".join([f"The rules of {what} change:", *lines, *more, "Put them in force?"])

    return Step(
        f"rules of {what}",
        tuple(Request("GET", f"{_RULES}/projects/{place.project}/releases/{name}") for name in names),
        lacks=lacks,
        refuses=refuses,
        mend=mend,
        asks=question,
        look=look,
    )


def _releases(database: str) -> tuple[str, ...]:
    """The default database's have been released under two names; where both are there, both are kept the same."""
    named = f"cloud.firestore/{database}"
    return ("cloud.firestore", named) if database == DEFAULT_DATABASE else (named,)


def _live(tools: Tools, place: Place, name: str) -> str | None:
    release = tools.request(Request("GET", f"{_RULES}/projects/{place.project}/releases/{name}"))
    if release is None:
        return None
    ruleset = tools.request(Request("GET", f"{_RULES}/{release['rulesetName']}"))
    files = ((ruleset or {}).get("source") or {}).get("files") or []
    if len(files) != 1:
        raise CommandFailed(f"the live rules of {name} are {len(files)} files", "see them in the Firebase console")
    return str(files[0].get("content", ""))


def _release(place: Place, name: str, file: str, text: str, *, exists: bool) -> Request:
    releases = f"{_RULES}/projects/{place.project}/releases"
    whole = f"projects/{place.project}/releases/{name}"

    def release(ruleset: Any) -> Request:
        body = {"name": whole, "rulesetName": ruleset["name"]}
        if exists:
            return Request("PATCH", f"{releases}/{name}", {"release": body})
        return Request("POST", releases, body)

    source = {"source": {"files": [{"name": file, "content": text}]}}
    return Request("POST", f"{_RULES}/projects/{place.project}/rulesets", source, then=release)
