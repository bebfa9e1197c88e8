"""Implement ``firelaunch completion``: print the script with which a shell completes commands, options and apps."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]

_SHELLS = ("bash", "fish", "zsh")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash   firelaunch completion bash >> ~/.bashrc
    zsh    firelaunch completion zsh >> ~/.zshrc
    fish   firelaunch completion fish > ~/.config/fish/completions/firelaunch.fish

    Then open another terminal.
    """
    complete = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    assert complete is not None  # noqa: S101 - click has these three
    click.echo(complete(root, {}, "firelaunch", "_FIRELAUNCH_COMPLETE").source())
