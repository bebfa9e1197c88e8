"""Implement ``firelaunch invite``: the operator invites people to an app, including its first admin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from firelaunch.errors import BadRequest
from firelaunch.membership.claims import check_role
from firelaunch.membership.invites import Invites
from firelaunch.services.build import build_store
from firelaunch.store.audit import OPERATOR

from .apps import app_argument, env_option, load_settings, where
from .output import json_option, report

__all__ = ["command"]


def _role(_context: click.Context, _option: click.Parameter, role: str) -> str:
    try:
        return check_role(role)
    except BadRequest as error:
        raise click.BadParameter(error.message) from None


@click.command("invite")
@app_argument
@click.option("--role", default="member", show_default=True, callback=_role, help='"admin" makes an admin of the app.')
@click.option("--uses", type=click.IntRange(1, 10_000), default=1, show_default=True, help="People who may use it.")
@click.option("--hours", type=click.IntRange(1, 24 * 90), default=72, show_default=True, help="How long it holds.")
@json_option
@env_option
def command(app: str, role: str, uses: int, hours: int, as_json: bool) -> None:
    """Print a code with which people join APP.

    People send the code to the membership function (docs/membership.md). Only a hash of the code is stored, so it can't
    be printed again. Run it with FIRELAUNCH_MODE=cloud and credentials that may write to the database.
    """
    settings = load_settings(app)
    store = build_store(settings)
    try:
        invites = Invites(store, settings.app.id, lambda: datetime.now(UTC))
        invitation = invites.create(role, uses=uses, valid_for=timedelta(hours=hours), by=OPERATOR)
    finally:
        store.close()
    expiry = invitation.expires_at.astimezone().strftime("%Y-%m-%d %H:%M %Z")
    people = "one person" if uses == 1 else f"{uses:,} people"
    place = f"{settings.app.id} in {where(settings)}"
    click.echo(f"Invitation to {place} as {role}, for {people}, valid until {expiry}:", err=True)
    facts = {"code": invitation.code, "app": settings.app.id, "role": role, "uses": uses}
    facts["expires_at"] = invitation.expires_at.isoformat()
    report(invitation.code, facts, as_json=as_json)
