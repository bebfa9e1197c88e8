"""Prompt files by name and version: ``prompts/chat@2.md`` is version 2 of the prompt "chat".

``[prompts]`` in the settings says which version is in use, and which share of the users gets another one, so that
going back means editing one number. ``${name}`` in a prompt stands for a value. Above the text, between two lines of
``+++``, TOML holds the prompt's model, temperature, schema and notes. A released version never changes:
``prompts.lock`` next to the files holds their hashes (:mod:`firelaunch.prompts.lock`).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import SettingsError
from ..settings.app import PromptChoice
from ..text_file import read_text_file
from .lock import check, prompt_files

__all__ = ["Prompt", "Prompts", "UserPrompts"]

_PLACE = re.compile(r"\$\{(\w+)\}")
_FENCE = re.compile(r"\A\+\+\+[ \t]*\n(?P<matter>.*?)^\+\+\+[ \t]*$\n?", re.MULTILINE | re.DOTALL)


class _Matter(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = Field(default=None, min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt.

    Attributes:
        model: the model to call instead of the settings' ``chat``.
        temperature: of the calls that use the prompt.
        schema: JSON schema of the answer, for an extraction.
        notes: for the prompt's editors; sent to nobody.
    """

    name: str
    version: int
    template: str
    model: str | None = None
    temperature: float | None = None
    schema: Mapping[str, Any] | None = None
    notes: str = ""

    @property
    def id(self) -> str:
        """``name@version``, as in request records."""
        return f"{self.name}@{self.version}"

    def render(self, **values: str) -> str:
        """Return the text with each ``${name}`` replaced. Values are inserted unchanged, even if they hold ``${name}``.

        Raises:
            SettingsError: the prompt has a name for which no value was given.
        """

        def fill(place: re.Match[str]) -> str:
            name = place.group(1)
            if name not in values:
                raise SettingsError(f"prompts/{self.id}.md holds ${{{name}}}, and the workflow gives no value for it.")
            return values[name]

        return _PLACE.sub(fill, self.template)


class Prompts:
    """All versions of an app's prompts, read once at start.

    Args:
        folder: holds the ``name@version.md`` files.
        choices: the version in use, by name.
        released: accept only versions in ``prompts.lock``, as in deployed apps.
        own_models: whether a prompt's model counts; False if one model replaces all, as on a laptop without a key.

    Raises:
        SettingsError: a version in use has no file or is not released, a released one was changed, or a file's front
            matter is not valid.
    """

    def __init__(
        self,
        folder: Path,
        choices: Mapping[str, PromptChoice],
        *,
        released: bool = False,
        own_models: bool = True,
    ) -> None:
        self._folder = folder
        self._choices = choices
        prompts = (_read(*entry) for entry in prompt_files(folder))
        self._prompts = {p.id: p if own_models else replace(p, model=None) for p in prompts}
        in_use = [prompt.id for prompt in self.in_use()]
        check(folder, in_use if released else ())

    def in_use(self) -> Iterator[Prompt]:
        """Yield every version that some user may get."""
        for name, choice in self._choices.items():
            for version in choice.versions:
                yield self._find(name, version)

    def of(self, uid: str, *, own_models: bool = True) -> UserPrompts:
        """Return the prompts as one user gets them.

        Args:
            own_models: False if the user's plan uses a cheaper model, whatever the prompt says.
        """
        return UserPrompts(self, uid, own_models)

    def get(self, name: str, uid: str = "") -> Prompt:
        """Return the version of ``name`` that ``uid`` gets, which is always the same with the same settings.

        "chat@2" names exactly that version.

        Raises:
            SettingsError: the settings name no version of it, or there is no such file.
        """
        name, at, version = name.partition("@")
        if at:
            return self._find(name, version)
        if name not in self._choices:
            raise SettingsError(f"firelaunch.toml: prompts.{name} is missing: name the version in use, such as 1.")
        return self._find(name, _version_for(self._choices[name], name, uid))

    def __contains__(self, name: str) -> bool:
        return name in self._choices

    def _find(self, name: str, version: int | str) -> Prompt:
        try:
            return self._prompts[f"{name}@{version}"]
        except KeyError:
            path = self._folder / f"{name}@{version}.md"
            raise SettingsError(f"firelaunch.toml: prompts.{name} is {version}, and {path} is not there.") from None


@dataclass(frozen=True, slots=True)
class UserPrompts:
    """One user's versions of the prompts."""

    prompts: Prompts
    uid: str
    own_models: bool = True

    def get(self, name: str) -> Prompt:
        """Return the user's version of a prompt, as :meth:`Prompts.get` describes."""
        prompt = self.prompts.get(name, self.uid)
        return prompt if self.own_models else replace(prompt, model=None)


def _version_for(choice: PromptChoice, name: str, uid: str) -> int:
    # The hash includes the prompt's name, so that not the same users get every new prompt first.
    share = int.from_bytes(hashlib.sha256(f"{name}\n{uid}".encode()).digest()[:8], "big") % 10_000
    for version, percent in sorted(choice.rollout.items()):
        share -= percent * 100
        if share < 0:
            return version
    return choice.version


def _read(name: str, version: int, path: Path) -> Prompt:
    text = read_text_file(path)
    fence = _FENCE.match(text)
    if fence is None:
        return Prompt(name, version, text.strip())
    try:
        matter = _Matter.model_validate(tomllib.loads(fence["matter"]))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: what stands between the lines of +++ is not valid TOML: {error}.") from None
    except ValidationError as error:
        item = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in item["loc"])
        allowed_keys = "model, temperature, schema and notes"
        raise SettingsError(f"{path}: {key}: {item['msg']}. Front matter holds {allowed_keys}; correct it.") from None
    body = text[fence.end() :].strip()
    return Prompt(name, version, body, matter.model, matter.temperature, matter.json_schema, matter.notes)
