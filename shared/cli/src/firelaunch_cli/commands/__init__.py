"""Define the command line. Each command has its own module, which is imported when the command runs."""

from __future__ import annotations

import importlib
import sys

import click
from firelaunch.errors import SettingsError

__all__ = ["main"]

_COMMANDS = {
    "costs": ("costs", "Print what apps cost, and who or what caused it."),
    "data": ("data", "Export an app's documents to a file, and import them."),
    "demo": ("demo", "Make a demo app, start it and talk to it."),
    "deploy": ("deploy", "Deploy an app to Cloud Run."),
    "dev": ("dev", "Run an app with the emulators, and restart it after changes."),
    "doctor": ("doctor", "Find problems here, and say how to fix them."),
    "eject": ("eject", "Prepare an app's move to its own project."),
    "invite": ("invite", "Invite people to an app, including its first admin."),
    "migrate": ("migrate", "Rewrite the records of an app's older models."),
    "lock-prompts": ("lock_prompts", "Record an app's prompts as released."),
    "erase": ("erase", "Remove all data of a user."),
    "eval": ("evaluate", "Measure search on a collection, or check an app's answers."),
    "new": ("new", "Make an app."),
    "publish": ("publish", "Publish an app's name, and who may join it."),
    "readmit": ("readmit", "Let a removed member join an app again."),
    "reembed": ("reembed", "Rebuild an app's index beside the one in use."),
    "restore": ("restore", "Print how to bring an app's data back."),
    "rules": ("rules", "Build and compare the security rules of all apps."),
    "serve": ("serve", "Run an app on this machine."),
    "stage": ("stage", "Make the folder that an app is built from."),
    "terraform": ("terraform", "Write a deploy's resources as Terraform variables."),
    "test-rules": ("test_rules", "Check whether tests would notice wrong security rules."),
    "upgrade": ("upgrade", "Merge the current template into an app."),
    "verify": ("verify", "Prove on a real project what no emulator can."),
    "web-config": ("web_config", "Print the config with which web clients initialise Firebase."),
}


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
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> object:
        if sys.platform == "win32":
            raise click.ClickException(
                "firelaunch runs on Linux and macOS, and on Windows under WSL. Install that in PowerShell with "
                "'wsl --install', and run this command there."
            )
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _BadSettings(str(error)) from None


@click.command(cls=_Commands)
@click.version_option(package_name="firelaunch")
def main() -> None:
    """One Firebase project, many AI apps.

    APP is an app's id or its folder. Leave it out inside the app's folder.
    """
