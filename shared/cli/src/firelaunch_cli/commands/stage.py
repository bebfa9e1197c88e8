"""``firelaunch stage``: the folder that a deploy sends to Cloud Build."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..deploy.build_folder import FUNCTIONS, StageError, stage_app, stage_functions
from ..deploy.rehearsal import service_as_planned, settings_for_deploy
from ..deploy.resources import OF_FUNCTIONS
from ..deploy.variables import own_variables
from ..doctor.env_file import read_env
from .apps import app_folder, env_option
from .checkout import builds_of, firelaunch_checkout
from .output import json_option, report
from .start_check import would_start

__all__ = ["command"]


@click.command("stage")
@click.argument("app", required=False)
@click.option("--functions", is_flag=True, help="Stage APP's functions; without APP, the membership function.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder; else build/stage/<app> of the repo, or of an app outside of it.",
)
@json_option
@env_option
def command(app: str | None, functions: bool, out: Path | None, as_json: bool) -> None:
    """Make a self-contained build folder of APP: the same commit, the same bytes.

    It holds firelaunch's wheel, the hashed requirements, what the app runs from, and its Dockerfile. Files that hold
    secrets are refused, and so is an app that would not start in the cloud.
    """
    if not functions:
        app = app or "."
    root = firelaunch_checkout()
    try:
        if app is None:
            staged = stage_functions(root, out or root / "build" / "stage" / FUNCTIONS)
        elif functions:
            folder, name = app_folder(app), f"{OF_FUNCTIONS}{_checked(app)}"
            staged = stage_functions(root, out or builds_of(root, folder, make=True) / "stage" / name, folder)
        else:
            folder, name = app_folder(app), _checked(app)
            staged = stage_app(root, folder, out or builds_of(root, folder, make=True) / "stage" / name)
    except StageError as error:
        raise click.ClickException(str(error)) from None
    facts = {"folder": str(staged.folder), "sha256": staged.digest}
    report(f"{staged.folder}  sha256:{staged.digest}", facts, as_json=as_json)


def _checked(app: str) -> str:
    """The app's id, once it is known that its service would start."""
    folder = app_folder(app)
    settings = settings_for_deploy(folder, os.environ)
    own = own_variables(read_env(folder / ".env").values)
    would_start(folder, service_as_planned(settings), own, write=True)
    return settings.app.id
