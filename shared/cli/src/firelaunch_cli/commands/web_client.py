"""Build an app's web client, for commands that serve or deploy the app."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..deploy.web_build import NODE, BuildFailed, WebBuild, node_problem
from .apps import repo_around
from .progress import Progress

__all__ = ["VARIABLE", "client_environ", "web_build"]

VARIABLE = "FIRELAUNCH_WEB"
"""The folder of the built client, as the app is told it."""

_PLAIN = "/ is the plain page"


def web_build(folder: Path) -> WebBuild:
    """Return the build of the client of the app in ``folder``, with the template of the repo around it."""
    root = repo_around(folder)
    template = next(root.glob("template/*/web"), None) if root else None
    return WebBuild(folder, Progress(2).step, os.environ, template)


def client_environ(folder: Path) -> dict[str, str]:
    """Build the client of the app in ``folder``, and return the variable that has the app serve it.

    Nothing is built where the variable is set already, even to nothing, and where the app has no client. Where Node is
    missing or npm fails, the reason is shown and the app serves its plain page.
    """
    if VARIABLE in os.environ:
        return {}
    build = web_build(folder)
    if not build.there:
        return {}
    problem = node_problem()
    if problem is not None:
        click.echo(f"{_PLAIN}: {problem}. Node {NODE[0]}.{NODE[1]} or newer builds the web client of {build.folder}.")
        return {}
    try:
        return {VARIABLE: str(build.run())}
    except BuildFailed as failed:
        click.echo(f"{failed}\n{_PLAIN}, until the web client builds: cd {build.folder} && npm ci && npm run build")
        return {}
