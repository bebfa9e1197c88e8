"""Implement ``firelaunch web-config``: print the config with which web clients initialise Firebase."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import click

from ..deploy.gcloud import CommandFailed, Tools
from ..deploy.rehearsal import settings_for_deploy
from ..deploy.resources import Place
from ..deploy.web_app import web_config
from .apps import app_argument, app_folder, env_option

__all__ = ["command", "shown"]


def shown(config: Mapping[str, str]) -> str:
    """Format a config as JSON, for people and for files."""
    return json.dumps(config, indent=2)


@click.command("web-config")
@app_argument
@env_option
def command(app: str) -> None:
    """Print, as JSON, the Firebase config of the web clients of APP.

    A deploy registers the web app that the config belongs to. The config holds no secrets. docs/auth.md says how
    clients sign in.
    """
    settings = settings_for_deploy(app_folder(app), os.environ)
    tools = Tools(os.environ, lambda line: click.echo(line, err=True), patient=False)
    if not settings.cloud.project:
        raise click.ClickException("No project is named: set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT")
    try:
        tools.check_installed()
        config = web_config(tools, Place(settings.cloud.project, settings.cloud.region), settings.app.id)
    except CommandFailed as failed:
        raise click.ClickException(f"{failed}\nMend: {failed.mend}") from None
    click.echo(shown(config))
