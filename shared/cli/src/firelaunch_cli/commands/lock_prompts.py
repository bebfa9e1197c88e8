"""Implement ``firelaunch lock-prompts``: record an app's current prompts in ``prompts.lock``."""

from __future__ import annotations

import click
from firelaunch.prompts.lock import LOCK, lock

from .apps import app_folder

__all__ = ["command"]


@click.command("lock-prompts")
@click.argument("app", default=".")
def command(app: str) -> None:
    """Note the prompts of APP (an app's name or folder; here, if left out) as released.

    A noted prompt cannot be changed any more without the app's next start saying so. Commit the file.
    """
    folder = app_folder(app) / "app" / "prompts"
    added = lock(folder)
    click.echo("\n".join(f"locked {name}" for name in added) or f"{LOCK} holds every prompt already.")
