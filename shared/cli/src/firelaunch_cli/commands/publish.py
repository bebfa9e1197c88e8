"""``firelaunch publish``: the app's own document, which clients and the membership function read."""

from __future__ import annotations

import click
from firelaunch.membership.policy import Policy
from firelaunch.scope import Scope
from firelaunch.services.build import build_store
from firelaunch.settings.app import Settings
from firelaunch.store.base import DocumentStore, Set

from .apps import app_argument, env_option, load_settings, where
from .output import json_option, report

__all__ = ["command", "publish_policy"]


@click.command("publish")
@app_argument
@json_option
@env_option
def command(app: str, as_json: bool) -> None:
    """Write the name and the join policy of APP to its database.

    They come from its firelaunch.toml. Run it with FIRELAUNCH_MODE=cloud and credentials that may write to the
    database, once before people join and again after a change.
    """
    settings = load_settings(app)
    store = build_store(settings)
    try:
        who = publish_policy(settings, store)
    finally:
        store.close()
    text = f"{settings.app.id} in {where(settings)}: may be joined by {who}."
    report(text, {"app": settings.app.id, "join": settings.membership.join, "by": who}, as_json=as_json)


def publish_policy(settings: Settings, store: DocumentStore) -> str:
    """Write an app's name and join policy to its database, and return who may join."""
    joining = settings.membership
    policy = Policy(joining.join, joining.domains, settings.identity.tenant or None, joining.roles)
    store.commit([Set(Scope(settings.app.id).root, {"name": settings.app.name, **policy.data()}, merge=True)])
    who = {"open": "anybody who signs in", "invite": "whoever has an invitation", "domain": ", ".join(joining.domains)}
    return who[joining.join]
