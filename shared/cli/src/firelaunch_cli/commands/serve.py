"""Implement ``firelaunch serve``: run an app on this machine, in the foreground."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import click

from ..deploy.app_python import python_of
from .apps import app_argument, app_folder, env_option, take_env_file
from .web_client import client_environ, starts

__all__ = ["command", "free_port", "gunicorn_command"]


def gunicorn_command(folder: Path) -> list[str]:
    """Return the command that runs the app of ``folder``, started in that folder."""
    return [python_of(folder), "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]


def free_port(wanted: int | None, usual: int = 8080, host: str = "127.0.0.1") -> int:
    """Return a port to listen on: ``wanted`` if it is given, else the usual one, or any other if that is taken.

    Raises:
        ClickException: the wanted port is taken, or this process may not listen on it.
    """
    for port in (wanted,) if wanted else (usual, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise click.ClickException(f"Cannot listen on port {port} of {host}: {error.strerror}.") from None
            free: int = probe.getsockname()[1]
            return free
    raise click.ClickException(
        f"Port {wanted} is taken, by another program or by an app that runs already; end that, or choose another port "
        "with PORT=8081 or --port 8081."
    )


@click.command("serve")
@app_argument
@click.option("--port", envvar="PORT", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@env_option
def command(app: str, port: int, host: str) -> None:
    """Run APP under gunicorn until Ctrl-C.

    Without FIRELAUNCH_MODE it runs in embedded mode: no cloud account, no network. Where Node is installed, the app's
    web client is built first, if it has changed, and served at /. The app's .env is read; the environment comes before
    it.
    """
    folder = app_folder(app)
    free_port(port, host=host)  # gunicorn itself would retry for five seconds, and suggest no remedy
    os.chdir(folder)
    take_env_file(folder)
    client = client_environ(folder, starts=lambda: starts(folder, os.environ))
    os.environ.update(client, PORT=str(port), HOST=host)
    # gunicorn replaces this process, so that signals reach gunicorn itself.
    program, *words = gunicorn_command(folder)
    os.execv(program, [program, *words])  # noqa: S606 - our own interpreter, or the app's
