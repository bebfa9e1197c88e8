"""What ``firelaunch deploy`` and ``firelaunch stage`` look at first: whether the service would start."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..deploy.names import Service
from ..deploy.rehearsal import rehearse, release_prompts, where_to

__all__ = ["would_start"]


def would_start(folder: Path, service: Service, *, write: bool) -> None:
    """Refuse what the deployed service would refuse at its start; release the prompts that it is the first to use.

    Args:
        write: note those prompts in the app's ``prompts.lock``, where somebody is there to commit it: not in continuous
            integration, which throws its files away.

    Raises:
        SettingsError: the service would not start; the message names each mend.
    """
    in_ci = bool(os.environ.get("CI"))
    if write and not in_ci:
        for name in release_prompts(folder, where_to(service.environ)):
            click.echo(f"prompts.lock: {name} is released with this, and is not changed from now on; commit the file")
    rehearse(folder, service, releasing=not write and not in_ci)
