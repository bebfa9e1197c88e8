"""``firelaunch restore``: bring an app's data back, as it was at a minute of the last days or from a backup."""

from __future__ import annotations

import os
import sys
import textwrap
from datetime import UTC, datetime
from typing import Any

import click

from ..deploy.gcloud import CommandFailed, Tools
from ..deploy.rehearsal import settings_for_deploy
from ..deploy.resources import NO_PROJECT, Place
from ..deploy.restore import Task, Window, bring_back, choices, chosen, look, new_database, plan, point_in_time
from ..deploy.restore import steps as steps_of
from ..deploy.summary import WIDTH
from .apps import app_argument, app_folder, env_option
from .output import json_option, report
from .progress import Progress

__all__ = ["command"]


@click.command("restore")
@app_argument
@env_option
@click.option("--at", metavar="TIME", help="The minute to bring back, such as 2026-11-28T22:15Z; at most 7 days ago.")
@click.option("--backup", metavar="ID", help="The backup to bring back; the newest one without --at and --backup.")
@click.option("--to", "target", metavar="DATABASE", help="Id of the new database; else the app's id and the time.")
@click.option("--run", is_flag=True, help="Make the new database and wait for it; then print what is left to do.")
@click.option("--yes", is_flag=True, help="Do not ask before --run begins.")
@json_option
def command(
    app: str, at: str | None, backup: str | None, target: str | None, run: bool, yes: bool, as_json: bool
) -> None:
    """Print the commands that bring the data of APP back.

    Google restores into a new database. From there the app's documents are copied back, or the app is told to use it;
    the live database stays as it is until then. Without a login the commands are printed unchecked. docs/backups.md has
    more.
    """
    if at and backup:
        raise click.UsageError("--at and --backup are two things; give one of them.")
    settings = settings_for_deploy(app_folder(app), os.environ)
    place = Place(settings.cloud.project or NO_PROJECT, settings.cloud.region)
    tools = Tools(os.environ, lambda line: click.echo(f"\n    {line}", nl=False, err=as_json))
    now = datetime.now(UTC)
    try:
        minute = point_in_time(at, now) if at else None
        window = _window(tools, place, settings.database, needed=run)
        source = chosen(window, place, minute, backup or "")
        name = new_database(settings.app.id, source, target or "", window, now)
        task = Task(settings, place, source, name)
        _say(_heading(task, window), err=as_json)
        if run:
            _run(tools, task, yes=yes)
        elif window:
            _say(choices(window).capitalize() + ".", err=as_json)
        text = "\n" + "\n".join(plan(task, begun=run)).rstrip()
        report(text, _facts(task, window, begun=run), as_json=as_json)
    except CommandFailed as failed:
        raise click.ClickException(f"{failed}\nMend: {failed.mend}") from None


def _window(tools: Tools, place: Place, database: str, *, needed: bool) -> Window | None:
    """Return what can be restored; None with a warning if it cannot be read and is not ``needed``."""
    try:
        if place.project == NO_PROJECT:
            raise CommandFailed("no project is named", "set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT")
        tools.check_installed()
        return look(tools, place, database)
    except CommandFailed as failed:
        if needed:
            raise
        reason = str(failed).splitlines()[0].rstrip(".")
        _say(f"The project was not looked at ({reason}), so that nothing below is checked.", err=True)
        _say(f"Mend: {failed.mend}", err=True)
        return None


def _heading(task: Task, window: Window | None) -> str:
    where = f", in {window.location}" if window else ""
    return (
        f"{task.settings.app.id}: database {task.database} of {task.place.project}{where}, {task.source}, comes into "
        f"the new database {task.target}."
    )


def _facts(task: Task, window: Window | None, *, begun: bool) -> dict[str, Any]:
    names = ("number", "title", "notes", "commands")
    return {
        "app": task.settings.app.id,
        "project": task.place.project,
        "database": task.database,
        "location": window.location if window else None,
        "source": str(task.source),
        "target": task.target,
        "checked": window is not None,
        "begun": begun,
        "steps": [dict(zip(names, step, strict=True)) for step in steps_of(task, begun=begun)],
    }


def _run(tools: Tools, task: Task, *, yes: bool) -> None:
    if not yes and not (sys.stdin.isatty() and click.confirm("Make that database now? Google charges by the size.")):
        raise CommandFailed("nobody agreed to it", "pass --yes")
    with Progress(1).step(f"bring the data back into {task.target}") as said:
        bring_back(tools, task)
        said.append("done")


def _say(text: str, *, err: bool = False) -> None:
    click.echo(textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False), err=err)
