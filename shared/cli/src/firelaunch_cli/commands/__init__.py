"""Define the command line. Each command has its own module, which is imported when the command runs."""

from __future__ import annotations

import importlib
import os
import sys

import click
from firelaunch.errors import SettingsError
from firelaunch.server.terminal import line_width, wrapped

__all__ = ["main"]

_GROUPS = {
    "Make and run an app": {
        "new": ("new", "Make an app."),
        "serve": ("serve", "Run an app on this machine."),
        "dev": ("dev", "Run an app with the emulators, and restart it after changes."),
        "demo": ("demo", "Make a demo app, start it and talk to it."),
        "doctor": ("doctor", "Find problems here, and say how to fix them."),
        "upgrade": ("upgrade", "Merge the current template into an app."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
    "Make it answer well": {
        "costs": ("costs", "Print what apps cost, and who or what caused it."),
        "eval": ("evaluate", "Measure search on a collection, or check an app's answers."),
        "lock-prompts": ("lock_prompts", "Record an app's prompts as released."),
        "reembed": ("reembed", "Rebuild an app's index beside the one in use."),
    },
    "Put it in the cloud": {
        "deploy": ("deploy", "Deploy an app to Cloud Run."),
        "stage": ("stage", "Make the folder that an app is built from."),
        "terraform": ("terraform", "Write a deploy's resources as Terraform variables."),
        "verify": ("verify", "Prove on a real project what no emulator can."),
        "web-config": ("web_config", "Print the config with which web clients initialise Firebase."),
        "eject": ("eject", "Prepare an app's move to its own project."),
    },
    "Say who may do what": {
        "publish": ("publish", "Publish an app's name, and who may join it."),
        "invite": ("invite", "Invite people to an app, including its first admin."),
        "readmit": ("readmit", "Let a removed member join an app again."),
        "rules": ("rules", "Build and compare the security rules of all apps."),
        "test-rules": ("test_rules", "Check whether tests would notice wrong security rules."),
    },
    "Look after its data": {
        "data": ("data", "Export an app's documents to a file, and import them."),
        "migrate": ("migrate", "Rewrite the records of an app's older models."),
        "restore": ("restore", "Print how to bring an app's data back."),
        "erase": ("erase", "Remove all data of a user."),
    },
}
"""Each command by the task that it serves, with its module and its line in the help."""

_COMMANDS = {name: entry for group in _GROUPS.values() for name, entry in group.items()}


_ERROR = "Error: "


class _BadSettings(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{_COMMANDS[name][0]}", __name__)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(len(name) for name in _COMMANDS)
        for title, commands in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{widest}}", text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> object:
        if sys.platform == "win32":
            raise click.ClickException(
                "firelaunch runs on Linux and macOS, and on Windows under WSL. Install that in PowerShell with "
                "'wsl --install', and run this command there."
            )
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            ctx.color = False
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _BadSettings(_fitted(str(error))) from None
        except click.ClickException as error:
            vars(error)["message"] = _fitted(error.message)  # click's own type declares it as final
            raise


def _fitted(message: str) -> str:
    """Break an error's message for the terminal; click writes "Error: " before it."""
    return wrapped(message, line_width(sys.stderr), first=_ERROR).removeprefix(_ERROR)


@click.command(cls=_Commands, context_settings={"max_content_width": 80})
@click.version_option(package_name="firelaunch")
def main() -> None:
    """One Firebase project, many AI apps.

    APP is an app's id or its folder. Leave it out inside the app's folder. docs/cli.md has the exit codes, and what
    programs can read.
    """
