"""Implement ``firelaunch migrate``: rewrite the records that older versions of an app's models wrote."""

from __future__ import annotations

import json

import click
from firelaunch.errors import FirelaunchError
from firelaunch.records.migration import Migration
from firelaunch.store.passes import Share

from .apps import app_argument, app_folder, env_option, made_app, task_share, where
from .output import json_option
from .progress import Count

__all__ = ["command"]


@click.command("migrate")
@app_argument
@click.option("--dry-run", is_flag=True, help="Say how many records there are to rewrite, and do nothing.")
@json_option
@env_option
def command(app: str, dry_run: bool, as_json: bool) -> None:
    """Rewrite the records of APP's collections that older versions of their models wrote.

    The app goes on meanwhile, and what it writes is kept. After an interruption, run it again to continue.
    CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT divide the users among processes.
    """
    own = made_app(app_folder(app))
    services, share = own.extensions["firelaunch"].services, task_share()
    try:
        click.echo(where(services.settings), err=as_json)
        work = Migration(services.store, own.declared.collections)
        outdated = work.outdated(share)
        click.echo(f"{outdated:,} records of older versions.", err=as_json)
        if not dry_run:
            _run(work, outdated, share, as_json=as_json)
        if as_json:
            facts = {"app": services.settings.app.id, "outdated": outdated, "rewritten": work.rewritten}
            click.echo(json.dumps(facts, indent=2))
    except FirelaunchError as error:
        raise click.ClickException(f"{error.message} {error.reason or ''}".strip()) from None
    finally:
        services.store.close()


def _run(work: Migration, outdated: int, share: Share, *, as_json: bool) -> None:
    count = Count("records rewritten", outdated)
    for _ in work.run(share):
        count(work.rewritten)
    for path, reason in work.refused:
        click.echo(f"{path}: {reason}", err=True)
    click.echo(f"Rewrote {work.rewritten:,}.", err=as_json)
    if work.refused:
        raise click.ClickException("These could not be rewritten. Change migrate() or the records, and run it again.")
