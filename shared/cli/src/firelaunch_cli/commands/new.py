"""``firelaunch new``: an app from the template, by cookiecutter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import click

from .apps import repo_root

__all__ = ["bake", "command", "parse_answers", "render"]


def bake(root: Path, answers: Mapping[str, str], *, ask: bool, next_steps: bool = True) -> Path:
    """Make an app under ``apps/`` of the repo ``root``; its folder.

    Args:
        answers: by the names in ``template/cookiecutter.json``.
        ask: put the questions; else the template's defaults serve where ``answers`` has none.
        next_steps: print what to do with the app.

    Raises:
        ClickException: an answer will not do, or the app is there already. Nothing was made.
    """
    given = {**answers, "_next_steps": "print" if next_steps else ""}
    # The template itself, because from the root one more question would be which template to take.
    return render(str(root / "template"), given, root / "apps", ask=ask)


def render(template: str, given: Mapping[str, str], out: Path, *, ask: bool = False, directory: str = "") -> Path:
    """Make an app in the folder ``out``; the app's own folder.

    Args:
        template: a folder, a git URL or a zip, with the template in it, or in its ``directory``.

    Raises:
        ClickException: the template cannot be had, an answer will not do, or the app is there already.
    """
    try:
        from cookiecutter.config import get_user_config  # type: ignore[import-untyped]  # it ships no types
        from cookiecutter.exceptions import (  # type: ignore[import-untyped]
            CookiecutterException,
            OutputDirExistsException,
        )
        from cookiecutter.main import cookiecutter  # type: ignore[import-untyped]
        from jinja2 import TemplateError
    except ImportError:
        raise click.ClickException(
            "cookiecutter is not installed here; in the firelaunch repo, make installs it."
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        try:
            # A user's own cookiecutter settings may prefill the questions; where none is asked they would be a
            # surprise. Where clones are kept is theirs to say: the template's hook looks there.
            clones = get_user_config()["cookiecutters_dir"]
            config: Any = False if ask else {"replay_dir": folder, "cookiecutters_dir": clones}
            made = cookiecutter(
                template,
                no_input=not ask,
                extra_context=dict(given),
                output_dir=str(out),
                default_config=config,
                directory=directory or None,
            )
        except OutputDirExistsException as error:
            taken = str(error).split('"')[1]
            raise click.ClickException(f"{taken} already exists. Give the app another id, or move that away.") from None
        except (CookiecutterException, TemplateError, ValueError) as error:
            # cookiecutter renders given answers, so that one with Jinja's own signs in it may be no template.
            raise click.ClickException(getattr(error, "message", None) or str(error)) from None
    return Path(made)


@click.command("new")
@click.option("--no-input", is_flag=True, help="Ask nothing; take the defaults, and the ANSWERS given.")
@click.argument("answers", nargs=-1, metavar="[NAME=VALUE]... | function NAME [KIND]")
def command(no_input: bool, answers: tuple[str, ...]) -> None:
    """Make an app under apps/, asking up to seven questions.

    Answers may be given, as in: firelaunch new app_name="My shop" model_provider=vertex

    "firelaunch new function NAME [http|storage|firestore]" makes a Cloud Function instead: docs/functions.md.
    """
    root = repo_root()
    if answers[:1] == ("function",):
        _function(root, answers[1:])
        return
    given = parse_answers(answers, _questions(root))
    if not no_input:
        given = _another_name(root / "apps", given)
    bake(root, given, ask=not no_input)


def _another_name(apps: Path, given: dict[str, str]) -> dict[str, str]:
    """``given``, with a name that is free to be proposed where the template's own would only be refused at the end."""
    there = {path.parent.name for path in apps.glob("*/firelaunch.toml")}
    if not there:
        return given
    click.echo(f"There are already: {', '.join(sorted(there))}.")
    if not (apps / "my-app").exists() or not given.keys().isdisjoint({"app_name", "app_slug"}):
        return given
    number = next(number for number in count(2) if not (apps / f"my-app-{number}").exists())
    return {**given, "app_name": f"My app {number}"}


def _function(root: Path, given: tuple[str, ...]) -> None:
    from .new_function import KINDS, make_function

    name, kind, *more = (*given, "http") if len(given) == 1 else given or ("", "")
    if more or kind not in KINDS:
        raise click.UsageError(f"Say: firelaunch new function NAME [{'|'.join(KINDS)}]")
    for path in make_function(root, name, kind):
        click.echo(path.relative_to(root))
    click.echo(
        f"\n  what it does        functions/{name}.py"
        f"\n  its test            .venv/bin/pytest -q tests/functions/test_{name}.py"
        "\n  run it, deploy it   docs/functions.md"
    )


def _questions(root: Path) -> list[str]:
    asked = json.loads((root / "template" / "cookiecutter.json").read_text(encoding="utf-8"))
    return [name for name in asked if not name.startswith("_")]


def parse_answers(answers: Sequence[str], questions: Collection[str]) -> dict[str, str]:
    """The answers that were given as NAME=VALUE.

    Raises:
        BadParameter: one is not of that form, or is to no question of these.
    """
    return dict(_parse(answer, questions) for answer in answers)


def _parse(answer: str, questions: Collection[str]) -> tuple[str, str]:
    name, equals, value = answer.partition("=")
    if not equals:
        raise click.BadParameter(f"{answer!r} is not NAME=VALUE.")
    if name not in questions:
        raise click.BadParameter(f"{name!r} is not asked. There are: {', '.join(questions)}.")
    return name, value
