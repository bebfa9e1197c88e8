"""Implement ``firelaunch lock-prompts``: record an app's current prompts in ``prompts.lock``."""

from __future__ import annotations

import click
from firelaunch.prompts.lock import LOCK, lock

from .apps import app_argument, app_folder
from .output import json_option, report

__all__ = ["command"]


@click.command("lock-prompts")
@app_argument
@json_option
def command(app: str, as_json: bool) -> None:
    """Record the prompts of APP as released.

    If a recorded prompt changes, the app refuses to start. Commit the file.
    """
    folder = app_folder(app) / "app" / "prompts"
    added = lock(folder)
    text = "\n".join(f"locked {name}" for name in added) or f"{LOCK} holds every prompt already."
    report(text, {"locked": list(added)}, as_json=as_json)
