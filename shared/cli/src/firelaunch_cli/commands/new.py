"""Implement ``firelaunch new``: make an app from the template, with cookiecutter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import click

from .app_git import offer_git
from .apps import app_around, repo_root

__all__ = ["bake", "command", "parse_answers", "render"]


def bake(
    root: Path, answers: Mapping[str, str], *, ask: bool, next_steps: bool = True, into: Path | None = None
) -> Path:
    """Make an app from the template of the repo ``root``, and return its folder.

    Args:
        answers: answers by the names in ``template/cookiecutter.json``.
        ask: ask the questions; otherwise the template's defaults complete ``answers``.
        next_steps: print what to do with the app.
        into: the folder in which the app's folder is made; ``apps/`` of the repo, if left out.

    Raises:
        ClickException: an answer is not valid, or the app exists already. Nothing was made.
    """
    context = {**answers, "_next_steps": "print" if next_steps else ""}
    # The template's own folder: from the root, cookiecutter would also ask which template to take.
    return render(str(root / "template"), context, into or root / "apps", ask=ask)


def render(template: str, given: Mapping[str, str], out: Path, *, ask: bool = False, directory: str = "") -> Path:
    """Make an app in the folder ``out``, and return the app's folder.

    Args:
        template: a folder, a git URL or a zip that contains the template, or has it in its ``directory``.
        given: the answers, and the template's private variables.
        directory: the template's folder within ``template``.

    Raises:
        ClickException: the template cannot be read, an answer is not valid, or the app exists already.
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
            # A user's cookiecutter settings may prefill the questions. Without questions they would be a surprise,
            # except for the folder of clones, where the template's hook looks.
            clones = get_user_config()["cookiecutters_dir"]
            config: Any = False if ask else {"replay_dir": folder, "cookiecutters_dir": clones}
            app_path = cookiecutter(
                template,
                no_input=not ask,
                extra_context=dict(given),
                output_dir=str(out),
                default_config=config,
                directory=directory or None,
            )
        except OutputDirExistsException as error:
            place = str(error).split('"')[1]
            raise click.ClickException(f"{place} already exists. Give the app another id, or move that away.") from None
        except (CookiecutterException, TemplateError, ValueError) as error:
            # cookiecutter renders answers with Jinja, so an answer with Jinja's signs may fail as a template.
            raise click.ClickException(getattr(error, "message", None) or str(error)) from None
    return Path(app_path)


@click.command("new")
@click.option("--no-input", is_flag=True, help="Ask nothing; take the defaults, and the ANSWERS given.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder in which the app's folder is made, as in --into ../products; apps/, if left out.",
)
@click.option(
    "--git/--no-git", "with_git", default=None, help="Give the app a git of its own, or not; asked otherwise."
)
@click.argument("answers", nargs=-1, metavar="[NAME=VALUE]... | function NAME [KIND]")
def command(no_input: bool, into: Path | None, with_git: bool | None, answers: tuple[str, ...]) -> None:
    """Make an app under apps/. Asks seven questions, and then whether the app gets a git of its own.

    The repo's git ignores apps/. So without a git of its own, nothing keeps the app's files.

    You can give answers, as in: firelaunch new app_name="My shop" model_provider=vertex

    "firelaunch new function NAME [write|upload|http]", in an app's folder, makes a function of the app's own instead;
    in the repo, with http, storage or firestore, a Cloud Function: docs/functions.md.
    """
    if answers[:1] == ("function",):
        _new_function(answers[1:])
        return
    root = repo_root()
    chosen = parse_answers(answers, _questions(root))
    if not no_input:
        chosen = _with_free_name(into or root / "apps", chosen)
    app = bake(root, chosen, ask=not no_input, into=into.absolute() if into else None)
    if no_input and with_git is None:
        with_git = False
    offer_git(app, with_git)


def _with_free_name(apps: Path, chosen: dict[str, str]) -> dict[str, str]:
    """Add a free name to the answers if the template's default name is taken and would be refused at the end."""
    existing = {path.parent.name for path in apps.glob("*/firelaunch.toml")}
    if not existing:
        return chosen
    click.echo(f"There are already: {', '.join(sorted(existing))}.")
    if not (apps / "my-app").exists() or not chosen.keys().isdisjoint({"app_name", "app_slug"}):
        return chosen
    number = next(number for number in count(2) if not (apps / f"my-app-{number}").exists())
    return {**chosen, "app_name": f"My app {number}"}


def _new_function(words: tuple[str, ...]) -> None:
    from .new_function import KINDS, make_function
    from .new_handler import HANDLER_KINDS

    app = app_around(Path.cwd())
    if app is not None:
        name, kind, *more = (*words, "write") if len(words) == 1 else words or ("", "")
        if kind not in HANDLER_KINDS or len(more) > 1:
            raise click.UsageError(
                f"Say: firelaunch new function NAME [{'|'.join(HANDLER_KINDS)}] [COLLECTION or FOLDER]"
            )
        _new_handler(app, name, kind, *more)
        return
    root = repo_root()
    name, kind, *more = (*words, "http") if len(words) == 1 else words or ("", "")
    if more or kind not in KINDS:
        raise click.UsageError(
            f"Say: firelaunch new function NAME [{'|'.join(KINDS)}], or run it in an app's folder for one of the app's."
        )
    for path in make_function(root, name, kind):
        click.echo(path.relative_to(root))
    click.echo(
        f"\n  what it does        functions/{name}.py"
        f"\n  its test            .venv/bin/pytest -q tests/functions/test_{name}.py"
        "\n  run it, deploy it   docs/functions.md"
    )


def _new_handler(app: Path, name: str, kind: str, of: str = "") -> None:
    from .new_handler import make_handler

    made = make_handler(app, name, kind, of)
    for path in made.files:
        click.echo(path.relative_to(app))
    if made.by_hand:
        click.echo("\nIt is not declared yet. In app/__init__.py, which is left as it was, add:")
        for place, code in made.by_hand:
            click.echo(f"  to {place:<25} {code}")
    click.echo(f"\n  what it does        app/{name}.py\n  its test            pytest -q tests/test_{name}.py")


def _questions(root: Path) -> list[str]:
    questions = json.loads((root / "template" / "cookiecutter.json").read_text(encoding="utf-8"))
    return [name for name in questions if not name.startswith("_")]


def parse_answers(answers: Sequence[str], questions: Collection[str]) -> dict[str, str]:
    """Parse answers of the form NAME=VALUE.

    Raises:
        BadParameter: an answer is not of that form, or there is no such question.
    """
    return dict(_parse(answer, questions) for answer in answers)


def _parse(answer: str, questions: Collection[str]) -> tuple[str, str]:
    name, equals, value = answer.partition("=")
    if not equals:
        raise click.BadParameter(f"{answer!r} is not NAME=VALUE.")
    if name not in questions:
        raise click.BadParameter(f"{name!r} is not asked. There are: {', '.join(questions)}.")
    return name, value
