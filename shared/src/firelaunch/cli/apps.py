"""Where the apps of a repo are, for the commands that take an app's name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..environments import PRODUCTION, VARIABLE, chosen, environments
from ..settings import Settings, read_settings

__all__ = ["app_folder", "app_folders", "env_option", "load_settings", "repo_around", "repo_root", "where"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def env_option(function: _Command) -> _Command:
    """Give a command the option ``--env``: it sets FIRELAUNCH_ENV for the command and what it starts."""
    return click.option(
        *("--env", "_env"),
        metavar="NAME",
        callback=_choose,
        expose_value=False,
        is_eager=True,
        help=f"The environment, [env.NAME] of firelaunch.toml; {PRODUCTION}, or {VARIABLE}, if left out.",
    )(function)


def _choose(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    if name is None:
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name

    def back() -> None:
        os.environ.pop(VARIABLE)
        os.environ.update({} if before is None else {VARIABLE: before})

    context.call_on_close(back)


def repo_root() -> Path:
    """The firelaunch repo that the current folder lies in.

    Raises:
        ClickException: it lies in none.
    """
    found = repo_around(Path.cwd())
    if found is None:
        raise click.ClickException("Run this inside the firelaunch repo, where cookiecutter.json is.")
    return found


def repo_around(folder: Path) -> Path | None:
    """The firelaunch repo that a folder is or lies in; None where there is none."""
    tops = (each for each in (folder, *folder.parents) if (each / "cookiecutter.json").is_file())
    return next((each for each in tops if (each / "template").is_dir()), None)


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


def app_folders(apps: Path) -> list[Path]:
    """The folders of all apps below ``apps``; of those alone that have the environment, where one is chosen.

    Raises:
        ClickException: there are apps, and none has it.
        SettingsError: one's file cannot be read.
    """
    there, name = sorted(path.parent for path in apps.glob("*/firelaunch.toml")), chosen(os.environ)
    found = [folder for folder in there if not name or name in environments(read_settings(folder / "firelaunch.toml"))]
    if there and not found:
        raise click.ClickException(f"No app in {apps} has an [env.{name}] in its firelaunch.toml.")
    return found


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
    named = f", environment {settings.environment.name}" if settings.environment.name else ""
    if settings.environment.mode == "embedded":
        return f"{settings.environment.data} (this machine; FIRELAUNCH_MODE=cloud for the deployed app)"
    return f"Firestore database {database or settings.database} of {settings.cloud.project or 'the emulator'}{named}"
