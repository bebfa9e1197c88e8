"""``firelaunch publish``: the app's own document, which clients and the membership function read."""

from __future__ import annotations

import click

from ..membership.policy import Policy
from ..scope import Scope
from ..store.base import Set
from ..wiring import build_store
from .apps import env_option, load_settings, where

__all__ = ["command"]


@click.command("publish")
@click.argument("app", default=".")
@env_option
def command(app: str) -> None:
    """Write the name and the join policy of APP (a folder, or a name under apps/) to its database.

    They come from its firelaunch.toml. Run it with FIRELAUNCH_MODE=cloud and credentials that may write to the
    database, once before people join and again after a change.
    """
    settings = load_settings(app)
    joining = settings.membership
    policy = Policy(joining.join, joining.domains, settings.identity.tenant or None, joining.roles)
    store = build_store(settings)
    try:
        store.commit([Set(Scope(settings.app.id).root, {"name": settings.app.name, **policy.data()}, merge=True)])
    finally:
        store.close()
    who = {"open": "anybody who signs in", "invite": "whoever has an invitation", "domain": ", ".join(joining.domains)}
    click.echo(f"{settings.app.id} in {where(settings)}: may be joined by {who[joining.join]}.")
