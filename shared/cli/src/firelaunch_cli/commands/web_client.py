"""Build an app's web client, for commands that serve or deploy the app."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..deploy.web_build import NODE, BuildFailed, Step, WebBuild, node_problem
from .apps import repo_around
from .progress import Progress

__all__ = ["VARIABLE", "client_environ", "web_build"]

VARIABLE = "FIRELAUNCH_WEB"
"""The folder of the built client, as the app is told it."""

_PLAIN = "/ is the plain page"


def web_build(folder: Path, step: Step | None = None) -> WebBuild:
    """Return the build of the client of the app in ``folder``, with the template of the repo around it.

    Args:
        step: shows each step that takes long; as lines on the terminal if it is left out.
    """
    root = repo_around(folder)
    template = next(root.glob("template/*/web"), None) if root else None
    return WebBuild(folder, step or Progress(2).step, os.environ, template)


def client_environ(folder: Path, say: Callable[[str], object] | None = None) -> dict[str, str]:
    """Build the client of the app in ``folder``, and return the variable that has the app serve it.

    Nothing is built where the variable is set already, even to nothing, and where the app has no client. Where Node is
    missing or npm fails, the reason is shown and the app serves its plain page.

    Args:
        say: takes the lines for people; the terminal if it is left out.
    """
    if VARIABLE in os.environ:
        return {}
    build = web_build(folder, _said(say) if say else None)
    if not build.there:
        return {}
    say = say or click.echo
    problem = node_problem()
    if problem is not None:
        say(f"{_PLAIN}: {problem}. Node {NODE[0]}.{NODE[1]} or newer builds the web client of {build.folder}.")
        return {}
    try:
        return {VARIABLE: str(build.run())}
    except BuildFailed as failed:
        say(f"{failed}\n{_PLAIN}, until the web client builds: cd {build.folder} && npm ci && npm run build")
        return {}


def _said(say: Callable[[str], object]) -> Step:
    @contextmanager
    def step(title: str) -> Iterator[list[str]]:
        say(title)
        yield []

    return step
