"""Find apps and load their settings, for commands that take an app's name."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from firelaunch.errors import FirelaunchError, SettingsError
from firelaunch.server.start_error import start_error
from firelaunch.settings.app import Settings, read_settings
from firelaunch.settings.environments import PRODUCTION, VARIABLE, chosen, environments

from ..doctor.env_file import read_env, with_env_file

if TYPE_CHECKING:
    from firelaunch.server.app import App
    from firelaunch.store.passes import Share

__all__ = [
    "app_argument",
    "app_around",
    "app_folder",
    "app_folders",
    "apps_named",
    "env_option",
    "load_settings",
    "made_app",
    "repo_around",
    "repo_root",
    "take_env_file",
    "task_share",
    "where",
]

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
    """Return the root of the firelaunch repo that contains the current folder.

    Raises:
        ClickException: the current folder is in no such repo.
    """
    found = repo_around(Path.cwd())
    if found is None:
        raise click.ClickException("Run this inside the firelaunch repo, where cookiecutter.json is.")
    return found


def repo_around(folder: Path) -> Path | None:
    """The firelaunch repo that a folder is or lies in; None where there is none."""
    tops = (each for each in (folder, *folder.parents) if (each / "cookiecutter.json").is_file())
    return next((each for each in tops if (each / "template").is_dir()), None)


def app_argument(function: _Command) -> _Command:
    """Give a command the argument ``app`` for :func:`app_folder`; "." if left out, also before other arguments."""
    # Of all arguments click fills one with nargs=-1 last, so that "readmit UID" has its UID.
    return click.argument("app", nargs=-1, metavar="[APP]", callback=_one_app, shell_complete=_apps_like)(function)


def _apps_like(_context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
    """The apps of the repo around whose names begin so, for a shell to complete."""
    names = sorted(path.parent.name for path in _apps_here().glob("*/firelaunch.toml"))
    return [name for name in names if name.startswith(begun)]


def _one_app(_context: click.Context, _argument: click.Parameter, apps: tuple[str, ...]) -> str:
    if len(apps) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({apps[1]}): this command takes one app.")
    return apps[0] if apps else "."


def app_around(folder: Path) -> Path | None:
    """Return the app that a folder is or lies in; None if there is none."""
    return next((each for each in (folder, *folder.parents) if (each / "firelaunch.toml").is_file()), None)


def app_folder(app: str) -> Path:
    """Return an app's folder.

    Args:
        app: its folder; or its id, of an app in apps/ or of the app that the current folder lies in; "." is that app.

    Raises:
        ClickException: there is no such app; the message lists the existing ones.
    """
    apps, around = _apps_here(), app_around(Path.cwd())
    for folder in (Path(app), apps / app):
        if (folder / "firelaunch.toml").is_file():
            return folder.resolve()
    if around is not None and app in {".", around.name, id_of(around)}:
        return around.resolve()
    raise click.ClickException(_no_app(app, apps, around))


def _no_app(app: str, apps: Path, around: Path | None) -> str:
    names = sorted(path.parent.name for path in apps.glob("*/firelaunch.toml"))
    in_repo = repo_around(Path.cwd()) is not None
    said = f"There is no app {app!r} {'in apps/' if in_repo or names else 'here'}."
    if app == ".":
        said = "This folder is no app: name one."
    if names:
        return f"{said} There are: {', '.join(names)}."
    if in_repo:
        return f"{said} There is none yet. 'make app' makes one."
    inside = f" This folder is in the app {id_of(around)}." if around else ""
    return f"{said}{inside} Name the folder of an app, where its firelaunch.toml is, or run this inside of it."


def _apps_here() -> Path:
    """The folder of apps of the repo around the current folder; outside of one, the current folder's own."""
    return (repo_around(Path.cwd()) or Path()) / "apps"


def id_of(folder: Path) -> str:
    """The id in an app's settings, or its folder's name where they name none or cannot be read."""
    try:
        return str(read_settings(folder / "firelaunch.toml").get("app", {})["id"])
    except (SettingsError, KeyError, AttributeError, TypeError):
        return folder.name


def apps_named(names: Iterable[str]) -> list[Path]:
    """Return the folders of the named apps; without names, the app around the current folder, or all apps of the repo.

    Raises:
        ClickException: there is no such app.
        SettingsError: one's file cannot be read.
    """
    around = app_around(Path.cwd())
    folders = [app_folder(name) for name in names] or ([around] if around else app_folders(_apps_here()))
    return list(dict.fromkeys(folders))


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
    """The settings of an app, from its folder, its ``.env`` and the environment.

    Args:
        unused: variables that cloud mode asks for and the command has no use for.

    Raises:
        ClickException: there is no such app.
        SettingsError: the settings are not valid.
    """
    folder = app_folder(app)
    take_env_file(folder)
    return Settings.load(folder / "firelaunch.toml", {**dict.fromkeys(unused, "unused"), **os.environ})


_TAKEN = f"{__name__}.taken"
"""Key of the folder whose ``.env`` the command has taken, and of what takes its variables away again."""


def take_env_file(folder: Path) -> None:
    """Set the variables of the app's ``.env`` that the environment lacks, and name the lines that set none.

    They last until the command ends, or takes those of another app.
    """
    context = click.get_current_context()
    taken, undo = context.meta.get(_TAKEN) or (None, contextlib.ExitStack())
    if taken == folder:
        return
    undo.close()
    path = folder / ".env"
    for problem in read_env(path).problems:
        click.echo(f"{path}: {problem}", err=True)
    lacking = {name: text for name, text in with_env_file(folder, os.environ).items() if name not in os.environ}
    os.environ.update(lacking)
    for name in lacking:
        undo.callback(os.environ.pop, name, None)
    context.meta[_TAKEN] = folder, undo
    context.call_on_close(undo.close)


def made_app(folder: Path) -> App:
    """Return the app in ``folder``, made by its own ``create_app`` as for serving, and log warnings alone from then on.

    The app's ``.env`` is taken first, by :func:`take_env_file`.

    Raises:
        ClickException: the folder has no ``create_app``, or its code fails.
        SettingsError: its settings, or what it declares, do not hold together.
    """
    take_env_file(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
        del sys.modules[name]  # another app's
    sys.path.insert(0, str(folder.resolve()))
    already = logging.root.manager.disable
    logging.disable(logging.INFO)  # what a server says at its start is not this command's
    try:
        if not hasattr(importlib.import_module("app"), "create_app"):
            raise click.ClickException(f"{folder}: there is no app/__init__.py with a create_app.")
        app: App = sys.modules["app"].create_app(os.environ)
    except (FirelaunchError, click.ClickException):
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "app":
            raise click.ClickException(f"{folder}: there is no app/__init__.py with a create_app.") from None
        raise click.ClickException(f"The app {id_of(folder)} cannot start: {start_error(error, folder)}") from None
    finally:
        logging.disable(already)
        sys.path.remove(str(folder.resolve()))
    logging.getLogger().setLevel(logging.WARNING)
    return app


def task_share() -> Share:
    """Return this process's share of the work, by the variables of a Cloud Run job's tasks; all of it without them."""
    from firelaunch.store.passes import Share

    try:
        return Share(int(os.environ.get("CLOUD_RUN_TASK_INDEX", "0")), int(os.environ.get("CLOUD_RUN_TASK_COUNT", "1")))
    except ValueError as error:
        raise click.ClickException(f"CLOUD_RUN_TASK_INDEX and CLOUD_RUN_TASK_COUNT do not fit: {error}.") from None


def where(settings: Settings, database: str = "") -> str:
    """The database that an operator's command works on, for people to read; ``database`` as of ``build_store``."""
    named = f", environment {settings.environment.name}" if settings.environment.name else ""
    if settings.environment.mode == "embedded":
        return f"{settings.environment.data} (this machine; FIRELAUNCH_MODE=cloud for the deployed app)"
    return f"Firestore database {database or settings.database} of {settings.cloud.project or 'the emulator'}{named}"
