"""Where the apps of a repo are, for the commands that take an app's name."""

from __future__ import annotations

import os
from pathlib import Path

import click
from firelaunch.settings.app import Settings

__all__ = ["app_folder", "load_settings", "repo_root", "where"]


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
    if app == ".":
        raise click.ClickException(f"This folder is no app: name one. {known} 'make app' makes one.")
    raise click.ClickException(f"There is no app {app!r} in apps/. {known} 'make app' makes one.")


def load_settings(app: str) -> Settings:
    """The settings of an app, from its folder and the environment.

    Raises:
        ClickException: there is no such app.
        SettingsError: they do not hold.
    """
    return Settings.load(app_folder(app) / "firelaunch.toml", os.environ)


def where(settings: Settings) -> str:
    """The database that an operator's command works on, for people to read."""
    if settings.environment.mode == "embedded":
        return f"{settings.environment.data} (this machine; FIRELAUNCH_MODE=cloud for the deployed app)"
    database = "(default)" if settings.cloud.database == "shared" else settings.app.id
    return f"Firestore database {database} of {settings.cloud.project or 'the emulator'}"
