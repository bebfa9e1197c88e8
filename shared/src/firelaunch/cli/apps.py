"""Where the apps of a repo are, for the commands that take an app's name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from ..settings import Settings

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


def load_settings(app: str, unused: Iterable[str] = ()) -> Settings:
    """The settings of an app, from its folder and the environment.

    Args:
        unused: variables that cloud mode asks for and the command has no use for.

    Raises:
        ClickException: there is no such app.
        SettingsError: they do not hold.
    """
    return Settings.load(app_folder(app) / "firelaunch.toml", {**dict.fromkeys(unused, "unused"), **os.environ})


def where(settings: Settings, database: str = "") -> str:
    """The database that an operator's command works on, for people to read; ``database`` as of ``build_store``."""
    if settings.environment.mode == "embedded":
        return f"{settings.environment.data} (this machine; FIRELAUNCH_MODE=cloud for the deployed app)"
    return f"Firestore database {database or settings.database} of {settings.cloud.project or 'the emulator'}"
