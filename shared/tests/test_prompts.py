"""Prompt files: the version that the settings name, filled in once."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch.errors import SettingsError
from firelaunch.prompts import Prompts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chat@1.md").write_text("Old, ${name}.\n", encoding="utf-8")
    (tmp_path / "chat@2.md").write_text("Grüße, ${name}: {braces} $5 ${name}\n", encoding="utf-8")
    return tmp_path


def test_the_settings_pick_the_version(folder: Path) -> None:
    assert Prompts(folder, {"chat": 1}).get("chat").render(name="Ada") == "Old, Ada."
    newer = Prompts(folder, {"chat": 2}).get("chat")
    assert newer.render(name="Ada") == "Grüße, Ada: {braces} $5 Ada"
    assert newer.id == "chat@2"


def test_what_a_value_holds_is_not_filled_in_again(folder: Path) -> None:
    assert Prompts(folder, {"chat": 1}).get("chat").render(name="${name} ${other}") == "Old, ${name} ${other}."


def test_a_version_without_a_file_a_prompt_without_a_version_and_a_place_without_a_value_are_refused(
    folder: Path,
) -> None:
    with pytest.raises(SettingsError, match="chat is 3"):
        Prompts(folder, {"chat": 3})
    with pytest.raises(SettingsError, match=r"prompts\.title is missing"):
        Prompts(folder, {"chat": 1}).get("title")
    with pytest.raises(SettingsError, match=r"\$\{name\}"):
        Prompts(folder, {"chat": 1}).get("chat").render(other="x")
