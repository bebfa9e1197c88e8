"""``firelaunch serve``: an app on this machine, in the foreground."""

from __future__ import annotations

import os
import sys

import click

from .apps import app_folder

__all__ = ["command", "gunicorn_command"]


def gunicorn_command() -> list[str]:
    """What runs an app whose folder is the current one."""
    return [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.serving", "app:create_app()"]


@click.command("serve")
@click.argument("app", default=".")
@click.option("--port", envvar="PORT", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(app: str, port: int, host: str) -> None:
    """Run APP (a folder, or a name under apps/) under gunicorn until Ctrl-C.

    Without FIRELAUNCH_MODE it runs in embedded mode: no cloud account, no network.
    """
    os.chdir(app_folder(app))
    os.environ.update(PORT=str(port), HOST=host)
    # In place of this process, so that signals reach gunicorn itself.
    os.execv(sys.executable, gunicorn_command())  # noqa: S606 - our own interpreter
