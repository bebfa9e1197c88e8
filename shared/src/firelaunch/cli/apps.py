"""Where the apps of a repo are, for the commands that take an app's name."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["app_folder", "repo_root"]


def repo_root() -> Path:
    """The firelaunch repo that the current folder lies in.

    Raises:
        ClickException: it lies in none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "cookiecutter.json").is_file() and (folder / "template").is_dir():
            return folder
    raise click.ClickException("Run this inside the firelaunch repo, where cookiecutter.json is.")


def app_folder(app: str) -> Path:
    """An app's folder: ``app`` itself where it is one, or ``apps/<app>`` of the repo.

    Raises:
        ClickException: it is not there; the message lists those that are.
    """
    for folder in (Path(app), Path("apps") / app):
        if (folder / "firelaunch.toml").is_file():
            return folder.resolve()
    there = sorted(path.parent.name for path in Path("apps").glob("*/firelaunch.toml"))
    known = f"There are: {', '.join(there)}." if there else "There is none yet."
    raise click.ClickException(f"There is no app {app!r} in apps/. {known} 'make app' makes one.")
