"""Find apps and load their settings, for commands that take an app's name."""

from __future__ import annotations

import os
from pathlib import Path

import click
from firelaunch.settings.app import Settings

__all__ = ["app_folder", "load_settings", "repo_root", "where"]


def repo_root() -> Path:
    """Return the root of the firelaunch repo that contains the current folder.

    Raises:
        ClickException: the current folder is in no such repo.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "cookiecutter.json").is_file() and (folder / "template").is_dir():
            return folder
    raise click.ClickException("Run this inside the firelaunch repo, where cookiecutter.json is.")


def app_folder(app: str) -> Path:
    """Return an app's folder: ``app`` itself if it is an app's folder, or ``apps/<app>``.

    Raises:
        ClickException: there is no such app; the message lists the existing ones.
    """
    for folder in (Path(app), Path("apps") / app):
        if (folder / "firelaunch.toml").is_file():
            return folder.resolve()
    names = sorted(path.parent.name for path in Path("apps").glob("*/firelaunch.toml"))
    existing = f"There are: {', '.join(names)}." if names else "There is none yet."
    if app == ".":
        raise click.ClickException(f"This folder is no app: name one. {existing} 'make app' makes one.")
    raise click.ClickException(f"There is no app {app!r} in apps/. {existing} 'make app' makes one.")


def load_settings(app: str) -> Settings:
    """Load an app's settings from its folder and the environment.

    Raises:
        ClickException: there is no such app.
        SettingsError: the settings are not valid.
    """
    return Settings.load(app_folder(app) / "firelaunch.toml", os.environ)


def where(settings: Settings) -> str:
    """Describe the database that an operator's command works on, for people to read."""
    if settings.environment.mode == "embedded":
        return f"{settings.environment.data} (this machine; FIRELAUNCH_MODE=cloud for the deployed app)"
    database = "(default)" if settings.cloud.database == "shared" else settings.app.id
    return f"Firestore database {database} of {settings.cloud.project or 'the emulator'}"
