"""``firelaunch erase``: all of a user's data in one app, or in all apps of the repo."""

from __future__ import annotations

from pathlib import Path

import click

from ..erasure import Report
from ..errors import InvalidId
from ..scope import check_uid
from ..upkeep import erasure_of
from ..wiring import build
from .apps import app_folders, env_option, load_settings, where

__all__ = ["command"]


def _uid(_context: click.Context, _argument: click.Parameter, uid: str) -> str:
    try:
        return check_uid(uid)
    except InvalidId as error:
        raise click.BadParameter(error.message) from None


@click.command("erase")
@click.argument("uid", callback=_uid)
@click.option("--app", "apps", multiple=True, help="A folder, or a name under apps/; all of those if left out.")
@click.option("--dry-run", is_flag=True, help="Say what there is, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@env_option
def command(uid: str, apps: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove everything that the user UID left in the apps: docs/erasure.md says what, and what stays elsewhere.

    Run it with FIRELAUNCH_MODE=cloud, credentials that may write to the databases, and the apps' own variables.
    """
    listed = apps or tuple(folder.name for folder in app_folders(Path("apps")))
    if not listed:
        raise click.ClickException("There is no app in apps/; name one with --app.")
    if not (dry_run or yes):
        click.confirm(f"Remove all data of {uid} in {', '.join(listed)}, for good?", abort=True)
    for app in listed:
        settings = load_settings(app)
        services = build(settings)
        try:
            erasure = erasure_of(services)
            report = (
                erasure.report(uid) if dry_run else erasure.run(uid, lambda note: click.echo(f"  {note}", err=True))
            )
        finally:
            services.store.close()
        click.echo(f"{settings.app.id} in {where(settings)}: {_told(report, dry_run)}")


def _told(report: Report, dry_run: bool) -> str:
    found = ", ".join(f"{number} {name}" for name, number in report.found.items())
    text = f"{'holds' if dry_run else 'removed'} {found}." if found else "nothing of this user."
    if report.running and not dry_run:
        text += " Something was still at work for them: run it again in a few minutes."
    if report.customer:
        text += f" Stripe has them as {report.customer}."
    return text
