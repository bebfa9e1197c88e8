"""Check that a service would start, for ``firelaunch deploy`` and ``firelaunch stage``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from ..deploy.declarations import Declarations
from ..deploy.rehearsal import rehearse, release_prompts, where_to
from ..deploy.resources import Service

__all__ = ["would_start"]


def would_start(folder: Path, service: Service, own: Mapping[str, str], *, write: bool) -> Declarations:
    """Refuse what the deployed service would refuse at its start, and release the prompts that it is the first to use.

    Args:
        own: variables that the app's own code reads.
        write: record those prompts in the app's ``prompts.lock``, for you to commit. Continuous integration throws its
            files away, so nothing is recorded there.

    Returns:
        What the app declares.

    Raises:
        SettingsError: the service would not start; the message names each remedy.
    """
    in_ci = bool(os.environ.get("CI"))
    if write and not in_ci:
        for name in release_prompts(folder, where_to(service.environ)):
            click.echo(f"prompts.lock: {name} is released with this, and is not changed from now on; commit the file")
    return rehearse(folder, service, releasing=not write and not in_ci, own=own)
