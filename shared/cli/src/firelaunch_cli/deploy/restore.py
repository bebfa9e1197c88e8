"""Bring an app's data back: what there is to bring back, and the commands that do it.

Google restores into a new database and never into one that exists, so the live one stays as it is until somebody copies
the app's documents back or has the app use the new one. :mod:`.backups` makes what is restored from.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from firelaunch.settings.app import Settings

from .gcloud import Command, CommandFailed, Request, Tools, gcloud
from .iam import condition_of
from .resources import DATASTORE_USER, DEFAULT_DATABASE, Place, Role, account_of, bucket

__all__ = [
    *("RestoreSource", "Task", "Window", "begin", "bring_back", "choices", "chosen", "look", "new_database", "plan"),
    *("point_in_time", "shown", "steps"),
]

_FIRESTORE = "https://firestore.googleapis.com/v1"
_WINDOW = timedelta(days=7)
"""How long Firestore keeps versions (https://cloud.google.com/firestore/docs/pitr#pitr-window)."""
_MARGIN = timedelta(minutes=2)
"""The earliest version moves on while somebody reads about it."""

_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]")
_UUID_LIKE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POLL_SECONDS = 5.0
_TELL = 12
"""Polls between two lines that say how far it is: a minute."""

_NO_BACKUP = "BACKUP_ID"
"""Stands for a backup where none is known."""


@dataclass(frozen=True, slots=True)
class Window:
    """The points in time and backups that a database can be restored from.

    Args:
        location: where it is, or was; a restored one is in the same place.
        earliest: the first minute whose data Firestore still has; None where the database is gone.
        backups: the API's, newest first.
        databases: ids of all the project's databases.
    """

    location: str
    earliest: datetime | None
    backups: Sequence[Mapping[str, Any]]
    databases: frozenset[str]


@dataclass(frozen=True, slots=True)
class RestoreSource:
    """The source of a restore: a minute, or a backup by its full name."""

    minute: datetime | None = None
    backup: str = ""
    taken: datetime | None = None
    """When the backup was taken; None where it is not known."""

    def __str__(self) -> str:
        if self.minute:
            return f"as it was at {shown(self.minute)}"
        when = f", of {shown(self.taken)}" if self.taken else ""
        return f"from backup {self.backup.rpartition('/')[2]}{when}"


@dataclass(frozen=True, slots=True)
class Task:
    """One restore: the app's settings, what is brought back of which database, and into which new one."""

    settings: Settings
    place: Place
    source: RestoreSource
    target: str

    @property
    def database(self) -> str:
        """The database that the app uses now."""
        return self.settings.database


def point_in_time(text: str, now: datetime) -> datetime:
    """Read a minute that Firestore may still have, in UTC.

    Raises:
        CommandFailed: it is no time, has no zone, is no whole minute, lies ahead or over 7 days back.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CommandFailed(f"{text!r} is no time", f"write it as {_example(now)}") from None
    if at.tzinfo is None:
        raise CommandFailed(f"{text!r} names no zone", f"add Z for UTC, or an offset as in {text.strip()}+01:00")
    at = at.astimezone(UTC)
    if at.second or at.microsecond:
        whole = at.replace(second=0, microsecond=0)
        raise CommandFailed(
            "Firestore keeps one version for each whole minute",
            f"name one: {_zulu(whole)} or {_zulu(whole + timedelta(minutes=1))}",
        )
    if at > now:
        raise CommandFailed(f"{shown(at)} lies ahead: it is {shown(now)}", "name a minute that is over")
    if at < now - _WINDOW:
        raise CommandFailed(
            f"{shown(at)} is over 7 days back, and Firestore keeps no versions for so long",
            "bring a backup back: leave --at out to see them",
        )
    return at


def look(tools: Tools, place: Place, database: str) -> Window:
    """Read which points in time and backups exist.

    Raises:
        CommandFailed: it cannot be seen.
    """
    base = f"{_FIRESTORE}/projects/{place.project}"
    listed = tools.request(Request("GET", f"{base}/databases")) or {}
    databases = {item["name"].rpartition("/")[2]: item for item in listed.get("databases", [])}
    backups = (tools.request(Request("GET", f"{base}/locations/-/backups")) or {}).get("backups", [])
    own = [item for item in backups if item["database"].rpartition("/")[2] == database]
    own.sort(key=lambda item: str(item["snapshotTime"]), reverse=True)
    there = tools.request(Request("GET", f"{base}/databases/{database}")) if database in databases else None
    earliest = _time(there["earliestVersionTime"]) if there and there.get("earliestVersionTime") else None
    location = there["locationId"] if there else own[0]["name"].split("/")[3] if own else place.region
    return Window(location, earliest, own, frozenset(databases))


def chosen(window: Window | None, place: Place, minute: datetime | None, backup: str) -> RestoreSource:
    """Find what to bring back: the minute or the backup that is named, else the newest backup.

    Args:
        window: None where nobody could look.
        backup: its id, or its whole name.

    Raises:
        CommandFailed: that is not to be had; the mend says what is.
    """
    if minute:
        return _of_minute(window, minute)
    if window is None:
        whole = f"projects/{place.project}/locations/{place.region}/backups/{backup or _NO_BACKUP}"
        return RestoreSource(backup=backup if "/" in backup else whole)
    return _of_backup(window, backup)


def _of_minute(window: Window | None, minute: datetime) -> RestoreSource:
    if window and window.earliest is None:
        raise CommandFailed("the database is not there any more, and its versions went with it", choices(window))
    if window and window.earliest and minute < window.earliest:
        raise CommandFailed(f"Firestore has no version from before {shown(_ceil(window.earliest))}", choices(window))
    return RestoreSource(minute)


def _of_backup(window: Window, backup: str) -> RestoreSource:
    ready = [item for item in window.backups if item.get("state") == "READY"]
    if not backup and not ready:
        raise CommandFailed("there is no backup of this database yet", choices(window))
    named = [item for item in window.backups if backup in (item["name"], item["name"].rpartition("/")[2])]
    found = named[0] if named else ready[0] if not backup else None
    if found is None:
        raise CommandFailed(f"there is no backup {backup} of this database", choices(window))
    if found.get("state") != "READY":
        raise CommandFailed(
            f"backup {backup} is {found.get('state')}", f"wait until it is READY, or: {choices(window)}"
        )
    return RestoreSource(backup=found["name"], taken=_time(found["snapshotTime"]))


def new_database(app: str, source: RestoreSource, wanted: str, window: Window | None, now: datetime) -> str:
    """The id of the database that is to be made: ``wanted``, or one of the app's id and the time.

    Raises:
        CommandFailed: Google takes no such id, or a database has it.
    """
    name = wanted or f"{app}-{source.minute or source.taken or now:%Y%m%d-%H%M}"
    if not _DATABASE.fullmatch(name) or _UUID_LIKE.fullmatch(name):
        raise CommandFailed(
            f"{name!r} is no database's id",
            "it has 4 to 63 lower-case letters, digits and hyphens, a letter first and no hyphen last",
        )
    if window and name in window.databases:
        raise CommandFailed(
            f"there is a database {name} already, and Google restores into new ones alone",
            "name another one with --to; one of an earlier try can be deleted first, as the last step says",
        )
    return name


def begin(task: Task) -> Command | Request:
    """The command or request that has Google make the new database; it answers with an operation."""
    base = f"{_FIRESTORE}/projects/{task.place.project}"
    if task.source.minute:
        # gcloud has had "firestore databases clone" since late 2025; the request works with any version.
        snapshot = {
            "database": f"projects/{task.place.project}/databases/{task.database}",
            "snapshotTime": _zulu(task.source.minute),
        }
        return Request("POST", f"{base}/databases:clone", {"databaseId": task.target, "pitrSnapshot": snapshot})
    return gcloud(
        *("firestore", "databases", "restore", f"--source-backup={task.source.backup}"),
        f"--destination-database={task.target}",
        project=task.place.project,
    )


def bring_back(tools: Tools, task: Task) -> None:
    """Make the new database, wait until it is whole, and protect it from deletion.

    Raises:
        CommandFailed: Google refused, or could not bring the data back.
    """
    action = begin(task)
    operation = tools.request(action) if isinstance(action, Request) else tools.run(action)
    _wait(tools, operation)
    tools.run(_protect(task))


def _wait(tools: Tools, operation: Mapping[str, Any]) -> None:
    """Wait for the end of an operation; a line a minute says how far it is."""
    poll = Request("GET", f"{_FIRESTORE}/{operation['name']}")
    polls = 0
    while not operation.get("done"):
        if polls % _TELL == 0:
            percent = operation.get("metadata", {}).get("progressPercentage", {}).get("completedWork", "0")
            tools.say(f"waiting for Google, {percent} % done; it goes on there if you stop this")
        polls += 1
        tools.pause(_POLL_SECONDS)
        operation = tools.request(poll) or {"done": True}
    if operation.get("error"):
        raise CommandFailed(str(operation["error"].get("message", "it failed")), "bring another minute or backup back")


def _protect(task: Task) -> Command:
    return gcloud(
        *("firestore", "databases", "update", f"--database={task.target}", "--delete-protection"),
        project=task.place.project,
    )


def choices(window: Window) -> str:
    """Describe in one sentence what can be restored."""
    newest = [item for item in window.backups if item.get("state") == "READY"]
    said = []
    if window.earliest:
        said.append(f"--at any minute from {_zulu(_ceil(window.earliest + _MARGIN))} on")
    if newest:
        said.append(f"--backup {newest[0]['name'].rpartition('/')[2]} of {shown(_time(newest[0]['snapshotTime']))}")
    return f"there is: {', or '.join(said)}" if said else "backups are made once a day; the first deploy begins that"


def plan(task: Task, *, begun: bool = False) -> Iterator[str]:
    """Yield the lines of what to do, commands as a shell takes them.

    Args:
        begun: whether the database is there already, so that only what follows is said.
    """
    for number, title, notes, commands in steps(task, begun=begun):
        yield f"{number}. {title}"
        for note in notes:
            yield from textwrap.wrap(note, 80, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False)
        yield from (f"       {command}" for command in commands)
        yield ""


_DONE_BY_RUN = 2
"""Steps that --run does."""


def steps(task: Task, *, begun: bool = False) -> Iterator[tuple[int, str, Sequence[str], Sequence[str]]]:
    """Yield each step of :func:`plan`: its number, its title, what to know, and its commands."""
    for number, (title, notes, commands) in enumerate(_steps(task), 1):
        if not (begun and number <= _DONE_BY_RUN):
            yield number, title, notes, commands


_Steps = Iterator[tuple[str, Sequence[str], Sequence[str]]]


def _steps(task: Task) -> _Steps:
    """Each step: its title, what is to be known, and its commands."""
    project, app, target = task.place.project, task.settings.app.id, task.target
    file = f"build/restore/{target}.jsonl"
    data = f"FIRELAUNCH_MODE=cloud GOOGLE_CLOUD_PROJECT={project} firelaunch data"
    chosen_app = _named(task)
    yield (
        "See what there is",
        ["earliestVersionTime is the first minute that can be brought back; a backup has to be READY."],
        [
            _shell(project, "firestore", "databases", "describe", f"--database={task.database}"),
            _shell(
                *(project, "firestore", "backups", "list"),
                "--format=table(name.basename(), database.basename(), snapshotTime, expireTime, state)",
            ),
        ],
    )
    start = begin(task)
    yield (
        f"Bring it back into the new database {target}",
        [
            "The live database stays as it is. It takes minutes to hours, and Google charges by the size; nothing "
            "reads the new database before the operation is done."
        ],
        [
            str(start) if isinstance(start, Request) else _shell(project, *start.argv[1:-3]),
            _shell(project, "firestore", "operations", "list", f"--database={target}"),
            _shell(project, "firestore", "databases", "update", f"--database={target}", "--delete-protection"),
        ],
    )
    yield (
        "Check it",
        [
            "It has the documents and the composite indexes of then. It has no security rules, so that it lets no "
            "client in, no TTL policies, and no backups of its own; and IAM conditions name the old database, so that "
            "no app's service reaches it. The file holds this app's documents alone. Your own login: gcloud auth "
            "application-default login."
        ],
        [f"{data} export {chosen_app} {file} --database={target}"],
    )
    yield from _ways_back(task, f"{data} import {chosen_app} {file}")
    yield (
        "See to what lies elsewhere",
        list(_elsewhere(task)),
        [_shell(project, "storage", "ls", "--soft-deleted", "--recursive", f"gs://{_files(task)}/apps/{app}/")],
    )
    yield (
        "Delete the second database when all is well",
        [] if task.database == DEFAULT_DATABASE else [f"After a switch it is {task.database} that goes."],
        [
            _shell(project, "firestore", "databases", "update", f"--database={target}", "--no-delete-protection"),
            _shell(project, "firestore", "databases", "delete", f"--database={target}"),
        ],
    )


def _ways_back(task: Task, copy: str) -> _Steps:
    own = task.database != DEFAULT_DATABASE
    switches = own and task.target.startswith(f"{task.settings.app.id}-")
    notes = [
        "Documents of the file replace those of the same path; what was made since stays. Usage and plans of then come "
        "back too. Stop the app first if users must not write meanwhile (docs/backups.md)."
    ]
    if not own:
        notes.append(f"{task.target} holds every app of {task.database}; only this one's documents are copied.")
    elif not switches:
        notes.append(f"The app could use a new database itself, if its id began with {task.settings.app.id}-.")
    yield "Copy the app's documents back" + (", or do the next step instead" if switches else ""), notes, [copy]
    if not switches:
        return
    account = task.place.member(account_of("app", task.settings.app.id))
    condition = condition_of(task.place, Role(DATASTORE_USER, task.database)) or {}
    yield (
        "Or have the app use the new database",
        [
            f'Put database_id = "{task.target}" under [cloud] of firelaunch.toml, beside database = "dedicated". The '
            "first command takes the right to the old database away, and the app is down from there until the deploy "
            "ends, which makes rules, TTL policies, backups and the right to the new one."
        ],
        [
            _shell(
                *(task.place.project, "projects", "remove-iam-policy-binding", task.place.project),
                *(f"--member={account}", f"--role={DATASTORE_USER}"),
                f"--condition=^;^expression={condition['expression']};title={condition['title']}",
            ),
            f"firelaunch deploy {_named(task)}",
        ],
    )


def _named(task: Task) -> str:
    """The app as the commands that follow take it, with its environment."""
    name = task.settings.environment.name
    return task.settings.app.id + (f" --env={name}" if name else "")


def _files(task: Task) -> str:
    return bucket(task.settings, task.place)


def _elsewhere(task: Task) -> Iterator[str]:
    yield (
        "Records that came back may name files that were deleted since. Cloud Storage keeps these for 7 days, if the "
        "bucket's soft delete was not changed; bring back the ones you want with gcloud storage restore and the "
        "address that this lists."
    )
    if task.settings.index.backend != "firestore":
        yield (
            f"Vectors in {task.settings.index.backend} are not in it: have documents indexed anew with firelaunch "
            f"reembed {task.settings.app.id}."
        )
    yield "Users who were erased since the time that came back are back too: erase them again."


def shown(at: datetime) -> str:
    """A time for people to read."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _shell(project: str, *words: str) -> str:
    return shlex.join(["gcloud", *words, f"--project={project}"])


def _zulu(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _example(now: datetime) -> str:
    return _zulu((now - timedelta(hours=1)).replace(second=0, microsecond=0))


def _ceil(at: datetime) -> datetime:
    """The whole minute at or after a time."""
    whole = at.replace(second=0, microsecond=0)
    return whole if whole == at else whole + timedelta(minutes=1)


def _time(text: str) -> datetime:
    """A time of the API, which may have nine digits of a second."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text)))
