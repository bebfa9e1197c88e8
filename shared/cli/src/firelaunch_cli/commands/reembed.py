"""Implement ``firelaunch reembed``: rebuild an app's index after a change of [index], without downtime."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import FirelaunchError
from firelaunch.services.build import build
from firelaunch.settings.sections import dollars
from firelaunch.store.passes import Share

from .apps import app_argument, env_option, load_settings, task_share, where
from .output import json_option
from .progress import Count

__all__ = ["command"]

_WAIT_SECONDS = 60.0


@click.command("reembed")
@app_argument
@click.option("--dry-run", is_flag=True, help="Say what there is to do and about what it costs, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before it costs something.")
@click.option("--drop-old", is_flag=True, help="Remove the versions that were searched before.")
@click.option("--abandon", is_flag=True, help="Give up the version that is being built.")
@json_option
@env_option
def command(app: str, dry_run: bool, yes: bool, drop_old: bool, abandon: bool, as_json: bool) -> None:
    """Build the index version that APP's firelaunch.toml asks for from stored text, and use it once it is complete.

    Until then searches use the current version, and uploads go into both. After an interruption, run it again to
    continue. CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT divide the work among processes.
    """
    services = build(load_settings(app))
    try:
        work, share = Reembedding(services.store, services.documents, services.metering), task_share()
        click.echo(where(services.settings), err=as_json)
        facts: dict[str, Any] = {"app": services.settings.app.id}
        if abandon:
            facts["abandoned"] = bool(work.abandon())
            said = "The version that was being built is gone." if facts["abandoned"] else "None is being built."
        elif drop_old:
            facts["dropped"] = work.drop_old()
            said = f"Removed {facts['dropped']} earlier version(s)."
        else:
            said = _rebuilt(work, share, facts, dry_run=dry_run, yes=yes, as_json=as_json)
        click.echo(json.dumps(facts, indent=2) if as_json else said, nl=as_json or bool(said))
    except FirelaunchError as error:
        raise click.ClickException(f"{error.message} {error.reason or ''}".strip()) from None
    finally:
        services.store.close()


def _rebuilt(work: Reembedding, share: Share, facts: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> str:
    """Build what there is to build, add the figures to ``facts``, and return what to say of it."""
    survey = work.survey(share)
    click.echo(
        f"{survey.missing:,} of {survey.documents:,} documents to build: {survey.characters:,} characters, "
        f"at most about {survey.tokens:,} tokens, {dollars(survey.micro_usd)}.",
        err=as_json,
    )
    facts |= {name: getattr(survey, name) for name in ("documents", "missing", "characters", "tokens")}
    facts |= {"version": work.target.id, "estimate_micro_usd": survey.micro_usd, "searched": False}
    asked = survey.micro_usd and not yes and sys.stdin.isatty()
    if dry_run or (asked and not click.confirm("Go on?", default=True, err=as_json)):
        return ""
    facts["searched"] = _run(work, share)
    facts["cost_micro_usd"] = work.micro_usd
    spent = f"Spent {dollars(work.micro_usd)}.\n"
    if facts["searched"]:
        return f"{spent}The version {work.target.id} is searched now. --drop-old removes the one before."
    return f"{spent}Share {share.number + 1} of {share.of} is done; the last one to end switches."


def _run(work: Reembedding, share: Share) -> bool:
    """Build, and switch if all shares are done; return whether the version is searched now."""
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
    searched = bool(work.switch())
    if not searched and share.of == 1:
        raise click.ClickException("Documents came in meanwhile that are not built yet. Run it again.")
    return searched
