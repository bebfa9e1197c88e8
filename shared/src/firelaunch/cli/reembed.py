"""``firelaunch reembed``: index an app's documents anew after a change of [index], without a gap."""

from __future__ import annotations

import os
import sys
import time

import click

from ..errors import FirelaunchError
from ..reembed import Reembedding, Shard, Survey
from ..wiring import build
from .apps import env_option, load_settings, where
from .conversation import dollars

__all__ = ["command"]

_WAIT_SECONDS = 60.0


@click.command("reembed")
@click.argument("app", default=".")
@click.option("--dry-run", is_flag=True, help="Say what there is to do and about what it costs, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before it costs something.")
@click.option("--drop-old", is_flag=True, help="Remove the versions that were searched before.")
@click.option("--abandon", is_flag=True, help="Give up the version that is being built.")
@env_option
def command(app: str, dry_run: bool, yes: bool, drop_old: bool, abandon: bool) -> None:
    """Build the index version that APP's firelaunch.toml asks for, from stored text; search it once it is complete.

    Until then the version in use is searched, and what is uploaded lands in both. Broken off, it goes on from there
    when it is run again. CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT share the work between processes.
    """
    services = build(load_settings(app))
    try:
        work, shard = Reembedding(services.store, services.documents), _shard()
        click.echo(where(services.settings))
        if abandon:
            click.echo("The version that was being built is gone." if work.abandon() else "None is being built.")
        elif drop_old:
            click.echo(f"Removed {work.drop_old()} earlier version(s).")
        elif _agreed(work.survey(shard), dry_run=dry_run, yes=yes):
            _run(work, shard)
    except FirelaunchError as error:
        raise click.ClickException(f"{error.message} {error.reason or ''}".strip()) from None
    finally:
        services.store.close()


def _shard() -> Shard:
    try:
        return Shard(int(os.environ.get("CLOUD_RUN_TASK_INDEX", "0")), int(os.environ.get("CLOUD_RUN_TASK_COUNT", "1")))
    except ValueError as error:
        raise click.ClickException(f"CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT do not fit: {error}.") from None


def _agreed(found: Survey, *, dry_run: bool, yes: bool) -> bool:
    click.echo(
        f"{found.missing:,} of {found.documents:,} documents to build: {found.characters:,} characters, at most about "
        f"{found.tokens:,} tokens, {dollars(found.micro_usd)}."
    )
    if dry_run:
        return False
    if found.micro_usd and not yes and sys.stdin.isatty():
        return click.confirm("Go on?", default=True)
    return True


def _run(work: Reembedding, shard: Shard) -> None:
    work.begin()
    with click.progressbar(length=max(1, work.survey(shard).missing), label="building") as bar:
        for done in work.build(shard):
            bar.update(done - bar.pos)
    give_up = time.monotonic() + _WAIT_SECONDS
    while work.waits(shard) and time.monotonic() < give_up:
        time.sleep(1.0)
        for _ in work.build(shard):
            pass
    for path, reason in work.refused:
        click.echo(f"{path}: {reason}", err=True)
    if work.refused:
        raise click.ClickException("These could not be built, so nothing was switched. Delete or upload them again.")
    searched = work.switch()
    click.echo(f"Spent {dollars(work.micro_usd)}.")
    if searched:
        click.echo(f"The version {work.target.id} is searched now. --drop-old removes the one before.")
    elif shard.of > 1:
        click.echo(f"Share {shard.number + 1} of {shard.of} is done; the last one to end switches.")
    else:
        raise click.ClickException("Documents came in meanwhile that are not built yet. Run it again.")
