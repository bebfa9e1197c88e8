"""Implement ``firelaunch reembed``: rebuild an app's index after a change of [index], without downtime."""

from __future__ import annotations

import sys
import time

import click
from firelaunch.documents.reembed import Reembedding, Survey
from firelaunch.errors import FirelaunchError
from firelaunch.services.build import build
from firelaunch.store.passes import Share

from .apps import app_argument, env_option, load_settings, task_share, where
from .conversation import dollars
from .progress import Count

__all__ = ["command"]

_WAIT_SECONDS = 60.0


@click.command("reembed")
@app_argument
@click.option("--dry-run", is_flag=True, help="Say what there is to do and about what it costs, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before it costs something.")
@click.option("--drop-old", is_flag=True, help="Remove the versions that were searched before.")
@click.option("--abandon", is_flag=True, help="Give up the version that is being built.")
@env_option
def command(app: str, dry_run: bool, yes: bool, drop_old: bool, abandon: bool) -> None:
    """Build the index version that APP's firelaunch.toml asks for from stored text, and use it once it is complete.

    Until then searches use the current version, and uploads go into both. After an interruption, run it again to
    continue. CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT divide the work among processes.
    """
    services = build(load_settings(app))
    try:
        work, share = Reembedding(services.store, services.documents, services.metering), task_share()
        click.echo(where(services.settings))
        if abandon:
            click.echo("The version that was being built is gone." if work.abandon() else "None is being built.")
        elif drop_old:
            click.echo(f"Removed {work.drop_old()} earlier version(s).")
        elif _confirmed(work.survey(share), dry_run=dry_run, yes=yes):
            _run(work, share)
    except FirelaunchError as error:
        raise click.ClickException(f"{error.message} {error.reason or ''}".strip()) from None
    finally:
        services.store.close()


def _confirmed(survey: Survey, *, dry_run: bool, yes: bool) -> bool:
    click.echo(
        f"{survey.missing:,} of {survey.documents:,} documents to build: {survey.characters:,} characters, "
        f"at most about {survey.tokens:,} tokens, {dollars(survey.micro_usd)}."
    )
    if dry_run:
        return False
    if survey.micro_usd and not yes and sys.stdin.isatty():
        return click.confirm("Go on?", default=True)
    return True


def _run(work: Reembedding, share: Share) -> None:
    work.begin()
    count = Count("documents built", work.survey(share).missing)
    for done in work.build(share):
        count(done)
    give_up = time.monotonic() + _WAIT_SECONDS
    while work.waits(share) and time.monotonic() < give_up:
        time.sleep(1.0)
        for _ in work.build(share):
            pass
    for path, reason in work.refused:
        click.echo(f"{path}: {reason}", err=True)
    if work.refused:
        raise click.ClickException("These could not be built, so nothing was switched. Delete or upload them again.")
    searched = work.switch()
    click.echo(f"Spent {dollars(work.micro_usd)}.")
    if searched:
        click.echo(f"The version {work.target.id} is searched now. --drop-old removes the one before.")
    elif share.of > 1:
        click.echo(f"Share {share.number + 1} of {share.of} is done; the last one to end switches.")
    else:
        raise click.ClickException("Documents came in meanwhile that are not built yet. Run it again.")
