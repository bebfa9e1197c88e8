"""``firelaunch rules``: one rules file for all apps, and what deploying it would change."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from firelaunch.errors import InvalidId, SettingsError
from firelaunch.scope import check_app_id
from firelaunch.settings.app import read_settings
from firelaunch.settings.environments import PRODUCTION, VARIABLE, environments, project_of
from firelaunch.store.reserved_paths import kept
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from firelaunch.text_file import decode_text

from ..rules.compare import Comparison, compare
from ..rules.compose import Composed, CompositionRefused, compile_problems, compose
from ..rules.fragment import Fragment, Problem
from ..rules.live import ENDPOINT, LiveError, fetch
from ..rules.paths import shown
from .checkout import firelaunch_checkout

__all__ = ["command", "composed_rules", "rules_with"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_STATUS = {"closes": 3, "opens": 4}
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Wrong(click.ClickException):
    exit_code = 2


@click.group("rules")
def command() -> None:
    """Compose the Firestore rules of all apps, and see what deploying them would change."""


def _sources(function: _Command) -> _Command:
    for option in (
        click.option("--base", default="firestore.rules", show_default=True, type=_FILE, help="Rules for all apps."),
        click.option(
            "--apps",
            default="apps",
            show_default=True,
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="The folder of apps; each may have a firestore.rules of its own.",
        ),
    ):
        function = option(function)
    return function


@command.command("build")
@_sources
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here; else to standard output.")
@click.option("--no-compile", is_flag=True, help="Leave out the check by the Firestore emulator, which needs Java.")
def build(apps: Path, base: Path, out: Path | None, no_compile: bool) -> None:
    """Compose the base rules and every app's fragment (apps/<app>/firestore.rules) into one file.

    Exit 1 where a fragment is refused or does not compile, 2 where the files cannot be read or nothing can compile
    them. Nothing is written then.
    """
    composed = composed_rules(apps, base)
    if out and (out.resolve() == base.resolve() or out.resolve().parent.parent == apps.resolve()):
        raise _Wrong(f"{out} is one of the files that the rules are built from; give --out another name.")
    if no_compile:
        click.echo("The rules were not compiled, as --no-compile was given.", err=True)
    elif problems := _compiled(composed):
        raise click.ClickException("The rules do not compile:\n" + "\n".join(map(str, problems)))
    if out is None:
        click.echo(composed.text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(composed.text, encoding="utf-8", newline="\n")
    click.echo(f"{out}: the rules of {base}, and of {', '.join(composed.apps) or 'no app besides'}.", err=True)


@command.command("kept")
def kept_paths() -> None:
    """List what firelaunch keeps, below apps/<app>: an app's own rules may open none of it."""
    places = sorted(shown(place[2:]).replace("{}", "{uid}") for place in kept())
    click.echo("\n".join(place or "(the app's own document)" for place in places))


@command.command("diff")
@_sources
@click.option("--new", type=_FILE, help="A built file; else the rules are composed now, and not compiled.")
@click.option("--live", type=_FILE, help="A file with the live rules.")
@click.option("--project", help="Fetch the live rules of this Firebase project.")
@click.option("--database", default="(default)", show_default=True, help="With --project: which database's.")
@click.option("--drop", multiple=True, metavar="APP", help="An app whose block may go. May be given again.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 if something is closed, and 4 if anything is opened.")
@click.option("--env", metavar="NAME", help="Fetch those of the project that the apps have under [env.NAME].")
@click.option("--endpoint", default=ENDPOINT, show_default=True, help="With --project: where the Rules API is.")
def diff(
    apps: Path,
    base: Path,
    new: Path | None,
    live: Path | None,
    project: str | None,
    database: str,
    drop: tuple[str, ...],
    as_json: bool,
    exit_code: bool,
    env: str | None,
    endpoint: str,
) -> None:
    """Show what deploying the rules would change of those that are live.

    Exit 0 where a deploy may go on, whether or not anything changes; 1 where it would drop an app's block that is live,
    or a fragment is refused; 2 where the input is wrong or the live rules cannot be fetched. With --exit-code, 3 where
    a deploy may go on and closes something, and 4 where it opens anything.
    """
    if [live, project, env].count(None) != 2:
        raise _Wrong("Give either --live FILE, --project PROJECT or --env NAME.")
    project = _project_of(apps, env) if env else project
    text = _read(new) if new else composed_rules(apps, base).text
    try:
        before = _read(live) if live else fetch(str(project), database, endpoint)
    except LiveError as error:
        raise _Wrong(f"The live rules cannot be fetched: {error}.") from None
    found = compare(before, text)
    refused = [app for app in found.removed if app not in drop]
    if as_json:
        click.echo(json.dumps(_report(found, before is not None, refused), indent=2))
    else:
        _show(found, before is not None)
    if refused:
        raise click.ClickException(
            f"This deploy would drop the live rules of {', '.join(refused)}. Build where "
            f"apps/{refused[0]}/firestore.rules is, or, if the rules are to go, pass --drop {refused[0]}."
        )
    if exit_code and found.kind != "none":
        sys.exit(_STATUS[found.kind])


def _project_of(apps: Path, env: str) -> str:
    """The one project that the apps have in an environment."""
    environ = {**os.environ, VARIABLE: env}
    files = [read_settings(path) for path in sorted(apps.glob("*/firelaunch.toml"))]
    try:
        named = {project_of(file, environ) for file in files if env in {PRODUCTION, *environments(file)}} - {""}
    except SettingsError as error:
        raise _Wrong(str(error)) from None
    if len(named) != 1:
        said = (
            f"The apps have {', '.join(sorted(named))} there"
            if named
            else f"No app names a project in environment {env}"
        )
        raise _Wrong(f"{said}; say which one is meant with --project.")
    return named.pop()


def _report(found: Comparison, live: bool, refused: list[str]) -> dict[str, Any]:
    return {
        "live": live,
        "changed": bool(found.lines),
        "base_changed": found.base_changed,
        "apps": {"added": found.added, "changed": found.changed, "removed": found.removed},
        "refused": refused,
        "kind": found.kind,
        "opens": list(found.opens),
        "closes": list(found.closes),
        "diff": list(found.lines),
    }


def _show(found: Comparison, live: bool) -> None:
    if not live:
        click.echo("No rules were ever deployed here; all is new.")
    for line in found.lines:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour) if colour else line)
    for what, names in (("added", found.added), ("changed", found.changed), ("removed", found.removed)):
        for app in names:
            click.echo(f"app {app}: {what}")
    if found.base_changed:
        click.echo("base: changed")
    for sentence in (*found.opens, *found.closes):
        click.echo(sentence)
    if found.lines and live and found.kind == "none":
        click.echo("Nobody can do more or less than before.")
    if not found.lines:
        click.echo("Nothing would change.")


def composed_rules(apps: Path, base: Path, more: Path | None = None) -> Composed:
    """The rules of all apps, not compiled.

    Args:
        more: the folder of an app that may lie elsewhere.

    Raises:
        ClickException: they are refused, or cannot be read.
    """
    try:
        return compose(_read(base), _fragments(apps, more), str(base))
    except CompositionRefused as refused:
        raise click.ClickException(f"The rules are refused:\n{refused}") from None


def rules_with(folder: Path) -> str:
    """Return the rules of all apps of the repo and of the app in ``folder``, which may lie elsewhere; not compiled.

    Raises:
        ClickException: they are refused, or no repo is found.
    """
    root = firelaunch_checkout()
    return composed_rules(root / "apps", root / "firestore.rules", folder).text


def _compiled(composed: Composed) -> list[Problem]:
    if sys.stderr.isatty():
        click.echo("Compiling with the Firestore emulator ...", err=True)
    try:
        with Emulator.start() as emulator:
            return compile_problems(composed, emulator)
    except EmulatorUnavailable as error:
        raise _Wrong(f"The rules cannot be compiled: {error}. --no-compile leaves this check out.") from None


def _fragments(apps: Path, more: Path | None) -> list[Fragment]:
    paths = {path.parent.name: path for path in sorted(apps.glob("*/firestore.rules"))}
    if more is not None:
        paths[more.name] = more / "firestore.rules"
    return [Fragment(_app_id(path.parent), str(path), _read(path)) for path in paths.values() if path.is_file()]


def _app_id(folder: Path) -> str:
    """The folder's name, which must be the app's id: a fragment in the wrong folder would be another app's rules."""
    settings = folder / "firelaunch.toml"
    try:
        app = check_app_id(folder.name)
        given = tomllib.loads(_read(settings)).get("app", {}).get("id", app) if settings.is_file() else app
    except InvalidId as error:
        raise _Wrong(f"{folder}: the folder's name is no app id. {error}") from None
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        raise _Wrong(f"{settings} cannot be read: {error}.") from None
    if given != app:
        raise _Wrong(f"{settings} says that the app's id is {given!r}; rename the folder {folder} to that.")
    return app


def _read(path: Path) -> str:
    try:
        return decode_text(path.read_bytes(), path)
    except SettingsError as error:
        raise _Wrong(str(error)) from None
