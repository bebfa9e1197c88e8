"""Build an app's web client, for commands that serve or deploy the app."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from ..deploy.app_python import python_of
from ..deploy.web_build import NODE, BuildFailed, Step, WebBuild, node_problem
from .apps import repo_around
from .progress import Progress

__all__ = ["VARIABLE", "client_environ", "starts", "web_build"]

VARIABLE = "FIRELAUNCH_WEB"
"""The folder of the built client, as the app is told it."""

_PLAIN = "/ is the plain page"
_BUILDING = (
    "Building the web client. The first time this may take two minutes; later starts use what is there.\n"
    f"To leave it out, put {VARIABLE}= before the command: {_PLAIN} then."
)


def web_build(folder: Path, step: Step | None = None) -> WebBuild:
    """Return the build of the client of the app in ``folder``, with the template of the repo around it.

    Args:
        step: shows each step that takes long; as lines on the terminal if it is left out.
    """
    root = repo_around(folder)
    template = next(root.glob("template/*/web"), None) if root else None
    return WebBuild(folder, step or Progress(2).step, os.environ, template)


def starts(folder: Path, environ: Mapping[str, str]) -> bool:
    """Return whether the app of ``folder`` can be made with these variables. It says nothing of what stops it."""
    command = [python_of(folder), "-c", "import app; app.create_app()"]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, or the app's
            command, cwd=folder, env=dict(environ), stdin=quiet, stdout=quiet, stderr=quiet, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode == 0


def client_environ(
    folder: Path, say: Callable[[str], object] | None = None, starts: Callable[[], bool] = lambda: True
) -> dict[str, str]:
    """Build the client of the app in ``folder``, and return the variable that has the app serve it.

    Nothing is built where the variable is set already, even to nothing, and where the app has no client. Where Node is
    missing or npm fails, the reason is shown and the app serves its plain page.

    Args:
        say: takes the lines for people; the terminal if it is left out.
        starts: asked before a build, which takes long: whether the app would start. If not, nothing is built.
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
        built = build.current()
        if built is None and not starts():
            return {}
        if built is None:
            say(_BUILDING)
        return {VARIABLE: str(built or build.run())}
    except BuildFailed as failed:
        say(f"{failed}\n{_PLAIN}, until the web client builds: cd {build.folder} && npm ci && npm run build")
        return {}


def _said(say: Callable[[str], object]) -> Step:
    @contextmanager
    def step(title: str) -> Iterator[list[str]]:
        say(title)
        began = time.monotonic()
        yield []
        say(f"{title}: {time.monotonic() - began:.1f} s")

    return step
