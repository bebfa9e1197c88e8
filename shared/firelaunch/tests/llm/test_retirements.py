"""Models that end are named in time, by a table that the docs show as it is."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.llm.prices import Prices
from firelaunch.llm.retirements import _TABLE, CHECKED, NOTICE_DAYS, model_warnings, retirement_of
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app

REPO = Path(__file__).parents[4]
TEMPLATE = REPO / "template" / "{{cookiecutter.app_slug}}" / "firelaunch.toml"
END = date(2026, 12, 11)


def load(tmp_path: Path, text: str) -> Settings:
    return Settings.load(write_app(tmp_path, text), {})


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (END - timedelta(days=NOTICE_DAYS + 1), None),
        (END - timedelta(days=NOTICE_DAYS), "gpt-5-mini ends on 2026-12-11, in 60 days"),
        (END - timedelta(days=1), "in 1 day:"),
        (END, "gpt-5-mini has ended on 2026-12-11"),
        (END + timedelta(days=90), "gpt-6.1-terra is recommended in its place"),
    ],
)
def test_a_model_is_named_from_sixty_days_before_its_end(tmp_path: Path, today: date, said: str | None) -> None:
    settings = load(tmp_path, SETTINGS.replace("gpt-5.4-nano", "gpt-5.4-mini"))
    found = list(model_warnings(settings, today))
    assert len(found) == (said is not None)
    assert said is None or (said in found[0] and "https://" in found[0])


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-5-mini-2025-08-07", END),
        ("openai/gpt-5-mini", END),
        ("gemini-2.5-flash", date(2026, 10, 16)),
        ("google/gemini-2.5-flash-001", date(2026, 10, 16)),
        ("gpt-5.4-mini", None),
        ("gpt-5-mini-high", None),
        ("llama3", None),
    ],
)
def test_a_snapshot_ends_with_its_model_and_another_model_does_not(model: str, day: date | None) -> None:
    found = retirement_of(model)
    assert (found.day if found else None) == day


def test_models_of_prompts_are_named_and_those_of_the_other_provider_are_not(tmp_path: Path) -> None:
    text = SETTINGS + '\n[models.vertex]\nchat = "gemini-2.5-flash"\ncheap = "gemini-2.5-flash"\n'
    settings = load(tmp_path, text)
    found = list(model_warnings(settings, CHECKED, ["gpt-4o"]))
    assert [said.split()[0] for said in found] == ["gpt-5-mini", "gpt-4o"]


@pytest.mark.parametrize(
    ("location", "model", "fits"),
    [
        ("global", "gemini-3.8-flash", True),
        ("eu", "gemini-3.8-flash", True),
        ("europe-west1", "gemini-3.8-flash", False),
        ("eu", "gemini-2.9-flash", False),
    ],
)
def test_a_model_that_does_not_answer_where_it_is_called_is_named(
    tmp_path: Path, location: str, model: str, fits: bool
) -> None:
    text = SETTINGS.replace('provider = "openai"', 'provider = "vertex"')
    text += f'\n[models.vertex]\nlocation = "{location}"\nchat = "{model}"\ncheap = "{model}"\n'
    found = list(model_warnings(load(tmp_path, text), CHECKED))
    assert found == [] or "does not answer" in found[0]
    assert (found == []) is fits


def template() -> dict[str, Any]:
    return tomllib.loads(TEMPLATE.read_text())["models"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("provider", ["openai", "vertex"])
def test_the_templates_models_lived_on_when_the_table_was_checked_and_have_a_price(provider: str) -> None:
    """By the table's own date: a day that passes breaks no build, and a new table is held to it anew."""
    choice = template()[provider]
    for model in (choice["chat"], choice["cheap"], *choice["fallback"]):
        found = retirement_of(model)
        assert found is None or found.day - CHECKED > timedelta(days=NOTICE_DAYS)
        Prices(provider, {}).check(provider, [model], "the template")


def test_the_docs_show_the_table_and_the_templates_models() -> None:
    text = (REPO / "docs" / "models.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| 20")]
    shown = {name: line.split("|")[1].strip() for line in lines for name in line.split("|")[2].strip().split(", ")}
    assert shown == {
        name: f"{found.day} at the earliest" if found.at_the_earliest else str(found.day)
        for name, found in _TABLE.items()
    }
    assert f"checked on {CHECKED}" in text
    for provider in ("openai", "vertex"):
        choice = template()[provider]
        assert all(model in text for model in (choice["chat"], choice["cheap"], *choice["fallback"]))
