"""Implement ``firelaunch data``: export an app's documents to a file, and import them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from firelaunch.errors import FirelaunchError
from firelaunch.scope import Scope
from firelaunch.services.build import build_store
from firelaunch.settings.app import MODEL_KEYS, Settings
from firelaunch.store.audit import OPERATOR, audit_writes

from ..transfer.file import Export, TransferError, check_export, export, load
from .apps import app_argument, env_option, load_settings, where
from .output import json_option, report
from .progress import Count

__all__ = ["command", "export_data"]


@click.group("data")
def command() -> None:
    """Export an app's documents to a file, and import them from there into a database.

    The app's settings and the environment choose the database, as for other commands: SQLite on this machine, or
    Firestore with FIRELAUNCH_MODE=cloud and credentials for it.
    """


@command.command("export")
@app_argument
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--database", default="", help="Another Firestore database of the project: one that a restore made.")
@json_option
@env_option
def export_command(app: str, file: Path, database: str, as_json: bool) -> None:
    """Write every document of APP to FILE, one a line; after an interruption, go on."""
    settings = _settings(app)
    if database and settings.environment.mode == "embedded":
        raise click.UsageError("--database names one of Firestore's: set FIRELAUNCH_MODE=cloud.")
    done = export_data(settings, file, database)
    already = f", {done.before:,} of them from before" if done.before else ""
    text = f"{file}: {done.documents:,} documents of {settings.app.id} in {where(settings, database)}{already}."
    facts = {"app": settings.app.id, "file": str(file), "documents": done.documents, "before": done.before}
    report(text, facts, as_json=as_json)


@command.command("import")
@app_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@env_option
def import_command(app: str, file: Path, yes: bool, as_json: bool) -> None:
    """Write every document of FILE to the database of APP. After an interruption, run it again to continue.

    Documents with the same path are replaced. Other documents stay as they are.
    """
    settings = _settings(app)
    try:
        check_export(settings.app.id, file)
    except TransferError as error:
        raise click.ClickException(str(error)) from None
    if not yes and not click.confirm(f"Write the documents of {file} to {settings.app.id} in {where(settings)}?"):
        raise click.Abort
    store = build_store(settings)
    try:
        done = load(store, settings.app.id, file, where(settings), Count("documents written"))
    except TransferError as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()
    already = f"; {done.before:,} were there from before" if done.before else ""
    text = f"{done.documents:,} documents written to {settings.app.id} in {where(settings)}{already}."
    facts = {"app": settings.app.id, "file": str(file), "documents": done.documents, "before": done.before}
    report(text, facts, as_json=as_json)


def _settings(app: str) -> Settings:
    """An app's settings for who copies documents and calls no model: the keys of one are not asked for."""
    return load_settings(app, unused={*MODEL_KEYS})


def export_data(settings: Settings, file: Path, database: str = "") -> Export:
    """The app's documents in ``file``; ``database`` as of :func:`build_store`.

    Raises:
        ClickException: the file is not usable, or the database cannot be reached.
    """
    store = build_store(settings, database)
    try:
        done = export(store, settings.app.id, file, Count("documents exported"))
        facts = {"documents": done.documents, "file": file.name}
        app = Scope(settings.app.id)
        store.commit(audit_writes(app, "data.exported", OPERATOR, datetime.now(UTC), after=facts))
        return done
    except TransferError as error:
        raise click.ClickException(str(error)) from None
    except FirelaunchError as error:
        raise click.ClickException(f"{error.reason or error}. Run it again: it goes on where it stopped.") from None
    finally:
        store.close()
