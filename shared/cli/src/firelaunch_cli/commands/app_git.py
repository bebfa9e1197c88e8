"""The git that keeps an app's files."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import click

__all__ = ["keeping_git", "offer_git"]


def offer_git(app: Path, wanted: bool | None) -> None:
    """Give a new app a git of its own, with a first commit, if no git keeps its files.

    Args:
        wanted: whether it gets one; None to ask.
    """
    there = keeping_git(app)
    if there is not None:
        click.echo(f"  its git             {there}; commit the app there")
        return
    reason = "the repository around it ignores apps/" if _top(app) else "its folder is in no repository"
    later = f"cd {shlex.quote(str(app))} && git init && git add . && git commit -m 'Made by firelaunch new'"
    if wanted is None:
        click.echo(f"\nNo git keeps the app's files yet: {reason}.")
        try:
            wanted = click.confirm("Give the app a git of its own (git init)?", default=True)
        except click.Abort:  # the app is made all the same
            click.echo()
            wanted = False
    if not wanted:
        click.echo(f"  its git             none keeps it: {reason}")
        click.echo(f"  to give it one      {later}")
        return
    if _git(app, "init", "--quiet", "--initial-branch=main") is None:
        raise click.ClickException(f"git could not be run; the app is made. Install git, then: {later}")
    _git(app, "add", ".")
    if _git(app, "commit", "--quiet", "--no-gpg-sign", "-m", "Made by firelaunch new") is None:
        unnamed = "nothing is committed: git does not know your name (git config --global user.name)"
        click.echo(f"  its git             its own, made just now; {unnamed}")
        return
    click.echo(
        "  its git             its own, with a first commit; docs/ci.md says how its pushes are tested and deployed\n"
        "  before a push       name your fork's git under [tool.uv.sources] in its pyproject.toml. A path of this\n"
        "                      machine is there, with which its test.yml fails on GitHub (docs/ci.md says how)"
    )


def keeping_git(app: Path) -> Path | None:
    """Return the work tree whose git keeps an app's files, or would once they are added; None if none does."""
    top = _top(app)
    if top is None or _git(app, "check-ignore", "--quiet", ".") is not None:
        return None
    return top


def _top(app: Path) -> Path | None:
    top = _git(app, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def _git(folder: Path, *words: str) -> str | None:
    """Return what git says in a folder; None if it ends with an error or is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603, S607 - git of the PATH
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
