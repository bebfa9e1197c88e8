"""Implement ``firelaunch readmit``: lift the removal of a member, so that they may join again."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from firelaunch.errors import InvalidId
from firelaunch.membership.removals import Removals
from firelaunch.scope import check_uid
from firelaunch.services.build import build_store
from firelaunch.store.audit import OPERATOR

from .apps import app_argument, env_option, load_settings, where
from .output import json_option, report

__all__ = ["command"]


@click.command("readmit")
@app_argument
@click.argument("uid")
@json_option
@env_option
def command(app: str, uid: str, as_json: bool) -> None:
    """Let UID, whom an admin removed from APP, join it again.

    They join as everybody does: by the app's policy, or with an invitation. Run it with FIRELAUNCH_MODE=cloud and
    credentials that may write to the database. Exits with 1 if UID was not removed.
    """
    settings = load_settings(app)
    try:
        check_uid(uid)
    except InvalidId as error:
        raise click.BadParameter(error.message, param_hint="UID") from None
    store = build_store(settings)
    try:
        lifted = Removals(store, settings.app.id, lambda: datetime.now(UTC)).lift(uid, OPERATOR)
    finally:
        store.close()
    if not lifted:
        raise click.ClickException(f"{uid} was not removed from {settings.app.id} in {where(settings)}.")
    text = f"{uid} may join {settings.app.id} in {where(settings)} again."
    report(text, {"app": settings.app.id, "uid": uid}, as_json=as_json)
