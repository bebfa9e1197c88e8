"""``firelaunch new``: an app from the template, by cookiecutter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click

from .apps import repo_root

__all__ = ["bake", "command"]


def bake(root: Path, *, ask: bool, **answers: str) -> None:
    """Make an app under ``apps/`` of the repo ``root``.

    Args:
        ask: put the questions; else the template's defaults serve where ``answers`` has none.
        answers: by the names in ``template/cookiecutter.json``.

    Raises:
        ClickException: cookiecutter refused; it has said why.
    """
    given = [f"{name}={value}" for name, value in answers.items()]
    options = [] if ask else ["--no-input"]
    command = [sys.executable, "-m", "cookiecutter", str(root), "-o", str(root / "apps"), *options, *given]
    # A process of its own, because cookiecutter's hooks find their interpreter and their paths by the process.
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own interpreter
    if done.returncode != 0:
        raise click.ClickException(_refusal(done.stderr))
    sys.stderr.write(done.stderr)


def _refusal(said: str) -> str:
    """What our own hooks said, without the traceback that cookiecutter puts below it."""
    ours = [line for line in said.splitlines() if line.startswith("Not made: ")]
    undefined = re.search(r"has no attribute '(app_slug: .*)'$", said.strip())
    if undefined:
        ours.append(f"Not made: {undefined.group(1)}.")
    return "\n".join(ours) or "The app was not made. " + "\n".join(said.splitlines()[-1:])


@click.command("new")
@click.option("--no-input", is_flag=True, help="Ask nothing; take the defaults, and the ANSWERS given.")
@click.argument("answers", nargs=-1, metavar="[NAME=VALUE]...")
def command(no_input: bool, answers: tuple[str, ...]) -> None:
    """Make an app under apps/, asking up to seven questions.

    Answers may be given, as in: firelaunch new app_name="My shop" model_provider=vertex
    """
    given: dict[str, str] = {}
    for answer in answers:
        name, equals, value = answer.partition("=")
        if not equals:
            raise click.BadParameter(f"{answer!r} is not NAME=VALUE.")
        given[name] = value
    bake(repo_root(), ask=not no_input, **given)
