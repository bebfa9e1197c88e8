"""Prompt files by name and version: ``prompts/chat@2.md`` is version 2 of the prompt "chat".

``[prompts]`` in the settings says which version is in use, so that going back is an edit of one number. A prompt holds
``${name}`` where a value goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError

__all__ = ["Prompt", "Prompts"]

_PLACE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt."""

    name: str
    version: int
    template: str

    @property
    def id(self) -> str:
        """``name@version``, as request records quote it."""
        return f"{self.name}@{self.version}"

    def render(self, **values: str) -> str:
        """The text, with each ``${name}`` replaced; what a value holds is not looked at again.

        Raises:
            SettingsError: the prompt has a place that no value was given for.
        """

        def fill(place: re.Match[str]) -> str:
            name = place.group(1)
            if name not in values:
                raise SettingsError(f"prompts/{self.id}.md holds ${{{name}}}, and the workflow gives no value for it.")
            return values[name]

        return _PLACE.sub(fill, self.template)


class Prompts:
    """The prompts in use, read once at boot.

    Args:
        folder: where the ``name@version.md`` files lie.
        versions: the version in use, by name.

    Raises:
        SettingsError: a version that is in use has no file.
    """

    def __init__(self, folder: Path, versions: Mapping[str, int]) -> None:
        self._prompts = {name: _read(folder, name, version) for name, version in versions.items()}

    def get(self, name: str) -> Prompt:
        """The version of ``name`` that is in use.

        Raises:
            SettingsError: the settings name no version of it.
        """
        if name not in self._prompts:
            raise SettingsError(f"firelaunch.toml: prompts.{name} is missing: name the version in use, such as 1.")
        return self._prompts[name]


def _read(folder: Path, name: str, version: int) -> Prompt:
    path = folder / f"{name}@{version}.md"
    try:
        return Prompt(name, version, path.read_text(encoding="utf-8").strip())
    except OSError:
        raise SettingsError(f"firelaunch.toml: prompts.{name} is {version}, and {path} is not there.") from None
