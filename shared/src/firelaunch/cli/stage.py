"""``firelaunch stage``: the folder that a deploy sends to Cloud Build."""

from __future__ import annotations

from pathlib import Path

import click

from ..deploy.stage import FUNCTIONS, StageError, stage_app, stage_functions
from .apps import app_folder, load_settings, repo_root

__all__ = ["command"]


@click.command("stage")
@click.argument("app", required=False)
@click.option("--functions", is_flag=True, help="Stage APP's functions; without APP, the membership function.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; else build/stage/<app>.")
def command(app: str | None, functions: bool, out: Path | None) -> None:
    """Make a self-contained build folder of APP (a folder, or a name under apps/): the same commit, the same bytes.

    It holds firelaunch's wheel, the hashed requirements, what the app runs from, and its Dockerfile. Files that hold
    secrets are refused.
    """
    if app is None and not functions:
        raise click.UsageError("Name an app, or give --functions.")
    root = repo_root()
    try:
        if app is None:
            staged = stage_functions(root, out or root / "build" / "stage" / FUNCTIONS)
        elif functions:
            name = f"fl-fn-{load_settings(app).app.id}"
            staged = stage_functions(root, out or root / "build" / "stage" / name, app_folder(app))
        else:
            name = load_settings(app).app.id
            staged = stage_app(root, app_folder(app), out or root / "build" / "stage" / name)
    except StageError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{staged.folder}  sha256:{staged.digest}")
