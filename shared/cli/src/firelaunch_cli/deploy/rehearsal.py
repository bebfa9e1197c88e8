"""Whether a service would start: the app is started as its own image starts it, and says what it declares.

It happens in a process of its own, with the environment that the service will have and nothing of this machine's. What
the service would refuse is so refused by the service's own code, before anything is made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firelaunch.errors import SettingsError
from firelaunch.prompts.lock import lock
from firelaunch.settings.app import Settings
from firelaunch.settings.environments import VARIABLE

from .app_python import python_of
from .build_folder import SERVICE_FILES
from .declarations import Declarations
from .resources import NO_PROJECT, Place, Service, app_service
from .vertex import PLACEHOLDER, own_index, told

__all__ = ["rehearse", "release_prompts", "service_as_planned", "settings_for_deploy", "where_to"]

_SETTINGS = "firelaunch.toml"
_PROMPTS = Path("app") / "prompts"
_SECRET = "in-secret-manager"  # noqa: S105 - stands for the values that the service alone is given
_SECONDS = 60.0

_SAID = "said.json"

_START = """
import json, pathlib, sys
from firelaunch.errors import SettingsError
try:
    from firelaunch.server.declarations import declarations
    from app import create_app
    said = {"declared": declarations(create_app())}
except SettingsError as error:
    said = {"refused": str(error)}
except ModuleNotFoundError as error:
    said = {"missing": error.name}
except Exception as error:
    try:
        from firelaunch.server.start_error import start_error
    except ModuleNotFoundError:  # an older firelaunch
        raise error
    said = {"failed": start_error(error, pathlib.Path.cwd())}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(said, file)
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


def rehearse(
    folder: Path, service: Service, *, releasing: bool = False, own: Mapping[str, str] = MappingProxyType({})
) -> Declarations:
    """Start an app as its service will, from the files that its image has, and return what it declares.

    Args:
        releasing: whether prompts that are in use and not in ``prompts.lock`` yet count as released.
        own: variables that the app's own code reads.

    Raises:
        SettingsError: the service would refuse to start; the message is its own, and names each mend.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve() / folder.name
        copy.mkdir()
        for name in SERVICE_FILES:
            _copy(folder / name, copy / name)
        if releasing:
            release_prompts(copy, where_to(service.environ))
        said = _started(folder, copy, service, own)
    if "declared" not in said:
        raise SettingsError(_refusal(folder, said).replace(str(copy), str(folder)))
    declared = Declarations.of(said["declared"])
    _check_edge(folder, service, declared)
    return declared


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.is_file():
        shutil.copyfile(source, target)


def _started(folder: Path, copy: Path, service: Service, own: Mapping[str, str]) -> dict[str, Any]:
    """Return what the app said of itself when it was started in ``copy``."""
    answer = copy.parent / _SAID
    done = subprocess.run(  # noqa: S603 - our own interpreter, or the app's
        [python_of(folder), "-c", _START, str(answer)],
        cwd=copy,
        env={**own, **dict(_environ(service))},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if answer.is_file():
        said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return {"refused": f"{service.name} would not start: {said['failed']}"} if "failed" in said else said
    lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    return {"refused": f"{service.name} would not start: {lines[-1]}"}


def _refusal(folder: Path, said: Mapping[str, Any]) -> str:
    if "refused" in said:
        return str(said["refused"])
    missing = str(said["missing"])
    if missing.partition(".")[0] == "firelaunch":
        return f"{python_of(folder)} has an older firelaunch, without {missing}: run 'uv sync' in {folder}."
    return (
        f"{folder / 'app'} imports {missing}, which {python_of(folder)} does not have. Name its package in "
        f"{folder / 'pyproject.toml'}, and run 'uv sync' there (docs/packages.md)."
    )


def _check_edge(folder: Path, service: Service, declared: Declarations) -> None:
    """Refuse what Google's services would have to call in a private service."""
    schedules = settings_for_deploy(folder, where_to(service.environ)).schedules
    called = [*(f"schedules.{name}" for name in schedules), *(trigger.handler for trigger in declared.triggers)]
    if called and not service.public:
        raise SettingsError(
            f'firelaunch.toml: cloud.edge is "private", so nothing can call {", ".join(called)}: Cloud Run strips the '
            'signature from the tokens that Google\'s services send. Set cloud.edge = "public", or take these out.'
        )


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
