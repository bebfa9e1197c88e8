"""Implement ``firelaunch data``: export an app's documents to a file, and import them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from firelaunch.errors import FirelaunchError
from firelaunch.services.build import build_store
from firelaunch.settings.app import Settings

from ..transfer.file import Export, TransferError, export, load
from .apps import load_settings, where

__all__ = ["command", "export_data"]


@click.group("data")
def command() -> None:
    """Export an app's documents to a file, and import them from there into a database.

    The app's settings and the environment choose the database, as for other commands: SQLite on this machine, or
    Firestore with FIRELAUNCH_MODE=cloud and credentials for it.
    """


@command.command("export")
@click.argument("app")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_command(app: str, file: Path) -> None:
    """Write every document of APP to FILE, one on each line. After an interruption, run it again to continue."""
    settings = load_settings(app)
    done = export_data(settings, file)
    already = f", {done.before:,} of them from before" if done.before else ""
    click.echo(f"{file}: {done.documents:,} documents of {settings.app.id} in {where(settings)}{already}.")


@command.command("import")
@click.argument("app")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_command(app: str, file: Path, yes: bool) -> None:
    """Write every document of FILE to the database of APP. After an interruption, run it again to continue.

    Documents with the same path are replaced. Other documents stay as they are.
    """
    settings = load_settings(app)
    if not yes and not click.confirm(f"Write the documents of {file} to {settings.app.id} in {where(settings)}?"):
        raise click.Abort
    store = build_store(settings)
    try:
        done = load(store, settings.app.id, file, where(settings), progress("written"))
    except TransferError as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()
    already = f"; {done.before:,} were there from before" if done.before else ""
    click.echo(f"{done.documents:,} documents written to {settings.app.id} in {where(settings)}{already}.")


def export_data(settings: Settings, file: Path) -> Export:
    """Export the app's documents to ``file``.

    Raises:
        ClickException: the file is not usable, or the database cannot be reached.
    """
    store = build_store(settings)
    try:
        return export(store, settings.app.id, file, progress("exported"))
    except TransferError as error:
        raise click.ClickException(str(error)) from None
    except FirelaunchError as error:
        raise click.ClickException(f"{error.reason or error}. Run it again: it goes on where it stopped.") from None
    finally:
        store.close()


def progress(what: str) -> Callable[[int], None]:
    """Return a function that shows a count on a terminal, and does nothing elsewhere."""

    def show(count: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{count:,} documents {what} ...\r", nl=False, err=True)

    return show
