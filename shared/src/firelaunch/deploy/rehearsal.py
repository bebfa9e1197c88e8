"""Whether a service would start: its settings, prompts and adapters are put together as its own start does it.

It happens in a process of its own, with the environment that the service will have and nothing of this machine's. What
the service would refuse is so refused by the service's own code, before anything is made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ..environments import VARIABLE
from ..errors import SettingsError
from ..prompt_lock import lock
from ..settings import Settings
from .names import NO_PROJECT, Place, Service, app_service
from .vertex import PLACEHOLDER, own_index, told

__all__ = ["rehearse", "release_prompts", "service_as_planned", "settings_for_deploy", "where_to"]

_SETTINGS = "firelaunch.toml"
_PROMPTS = Path("app") / "prompts"
_SECRET = "in-secret-manager"  # noqa: S105 - stands for the values that the service alone is given
_SECONDS = 60.0

_START = """
import os, sys
from pathlib import Path
from firelaunch.errors import SettingsError
from firelaunch.settings import Settings
from firelaunch.wiring import build
try:
    build(Settings.load(Path("firelaunch.toml"), os.environ))
except SettingsError as error:
    sys.exit(str(error))
"""


def settings_for_deploy(folder: Path, environ: Mapping[str, str]) -> Settings:
    """An app's settings, of this machine's variables with those alone that say where a deploy goes.

    Raises:
        SettingsError: they do not hold.
    """
    return Settings.load(folder / _SETTINGS, where_to(environ))


def where_to(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of this machine that say where a deploy goes."""
    return {name: environ[name] for name in ("GOOGLE_CLOUD_PROJECT", VARIABLE) if environ.get(name)}


def service_as_planned(settings: Settings) -> Service:
    """An app's service before anything is deployed: placeholders stand for what Google will name.

    Raises:
        SettingsError: the app's id cannot be a service's.
    """
    service = app_service(settings, Place(settings.cloud.project or NO_PROJECT, settings.cloud.region))
    return told(service, PLACEHOLDER) if own_index(settings) else service


def rehearse(folder: Path, service: Service, *, releasing: bool = False) -> None:
    """Start an app's settings, prompts and adapters as its service will, without its code and without a network.

    Args:
        releasing: whether prompts that are in use and not in ``prompts.lock`` yet count as released.

    Raises:
        SettingsError: the service would refuse to start; the message is its own, and names each mend.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder / _PROMPTS, copy / _PROMPTS) if (folder / _PROMPTS).is_dir() else copy.mkdir()
        shutil.copyfile(folder / _SETTINGS, copy / _SETTINGS)
        if releasing:
            release_prompts(copy, where_to(service.environ))
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _START],
            cwd=copy,
            env=dict(_environ(service)),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return
        said = done.stderr.strip()
        if "Traceback" in said:
            said = f"{service.name} would not start: {said.splitlines()[-1]}"
        raise SettingsError(said.replace(str(_PROMPTS), str(folder / _PROMPTS)))


def release_prompts(folder: Path, environ: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Add the prompts that an app's settings use to its ``prompts.lock``; the file names of those that are new.

    Raises:
        SettingsError: the settings do not hold, or a released prompt was changed.
    """
    settings = Settings.load(folder / _SETTINGS, environ)
    used = {f"{name}@{version}.md" for name, choice in settings.prompts.items() for version in choice.versions}
    return lock(folder / _PROMPTS, used)


def _environ(service: Service) -> Iterator[tuple[str, str]]:
    """The service's variables, and of this machine's those alone by which Python itself finds its files."""
    for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH"):
        if os.environ.get(name):
            yield name, os.environ[name]
    yield "K_SERVICE", service.name
    yield from service.environ.items()
    yield from ((variable, _SECRET) for variable in service.secrets)
