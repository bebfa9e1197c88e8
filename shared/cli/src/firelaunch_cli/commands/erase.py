"""Implement ``firelaunch erase``: remove all data of a user from one app, or from all apps of the repo."""

from __future__ import annotations

import json
from typing import Any

import click
from firelaunch.errors import InvalidId
from firelaunch.scope import check_uid
from firelaunch.worker.tasks.erase import ErasureReport, erasure_of

from .apps import apps_named, env_option, id_of, made_app, where
from .output import json_option

__all__ = ["command"]


def _uid(_context: click.Context, _argument: click.Parameter, uid: str) -> str:
    try:
        return check_uid(uid)
    except InvalidId as error:
        raise click.BadParameter(error.message) from None


@click.command("erase")
@click.argument("uid", callback=_uid)
@click.option(
    "--app",
    "apps",
    multiple=True,
    help="An app; if left out, that of the current folder, or all in apps/.",
)
@click.option("--dry-run", is_flag=True, help="Say what there is, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@env_option
def command(uid: str, apps: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove all data of the user UID from the apps. docs/erasure.md says what is removed, and what stays elsewhere.

    Run it with FIRELAUNCH_MODE=cloud, credentials that may write to the databases, and the apps' own variables.
    """
    folders = apps_named(apps)
    if not folders:
        raise click.ClickException("There is no app here: name one with --app, or run this in an app's folder.")
    if not (dry_run or yes):
        names = ", ".join(map(id_of, folders))
        click.confirm(f"Remove all data of {uid} in {names}, for good?", abort=True)
    found: list[dict[str, Any]] = []
    for folder in folders:
        # The app itself, because its collections say which fields of their records name users.
        services = made_app(folder).extensions["firelaunch"].services
        settings = services.settings
        try:
            erasure = erasure_of(services)
            report = (
                erasure.report(uid) if dry_run else erasure.run(uid, lambda note: click.echo(f"  {note}", err=True))
            )
        finally:
            services.store.close()
        found.append({"app": settings.app.id, "found": dict(report.found), "running": bool(report.running)})
        found[-1] |= {"customer": report.customer, "removed": not dry_run}
        if not as_json:
            click.echo(f"{settings.app.id} in {where(settings)}: {_summary(report, dry_run)}")
    if as_json:
        click.echo(json.dumps({"uid": uid, "apps": found}, indent=2))


def _summary(report: ErasureReport, dry_run: bool) -> str:
    counts = ", ".join(f"{number} {name}" for name, number in report.found.items())
    text = f"{'holds' if dry_run else 'removed'} {counts}." if counts else "nothing of this user."
    if report.running and not dry_run:
        text += " Something was still at work for them: run it again in a few minutes."
    if report.customer:
        text += f" Stripe has them as {report.customer}."
    return text
