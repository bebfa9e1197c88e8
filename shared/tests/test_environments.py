"""Environments: ``[env.NAME]`` is laid over the rest, and nothing of production's project gets into another one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from firelaunch.environments import overlaid
from firelaunch.errors import SettingsError
from firelaunch.settings import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from hypothesis import given
from hypothesis import strategies as st

STAGING = """
[env.staging.cloud]
project = "my-staging"
region = "us-central1"
[env.staging.limits]
max_output_tokens = 7
[env.staging.plans.free]
daily_usd = "0.01"
[env.staging.membership]
join = "open"
"""
PRODUCTION = SETTINGS + '\n[cloud]\nproject = "my-live"\nmin_instances = 2\n'


def load(folder: Path, text: str = PRODUCTION + STAGING, name: str = "staging", **environ: str) -> Settings:
    return Settings.load(write_app(folder, text), {"FIRELAUNCH_ENV": name, **environ})


def refusal(folder: Path, text: str, name: str = "staging", **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, text, name, **environ)
    return str(caught.value)


def test_an_environment_replaces_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    staging, production = load(tmp_path), load(tmp_path, name="")
    assert (staging.cloud.project, staging.cloud.region, staging.cloud.min_instances) == (
        "my-staging",
        "us-central1",
        2,
    )
    assert (staging.limits.max_output_tokens, staging.plans["free"].daily_usd) == (7, 10_000)
    assert staging.membership.join == "open"
    assert staging.plans["free"].model_copy(update={"daily_usd": 0}) == production.plans["free"].model_copy(
        update={"daily_usd": 0}
    )
    assert (staging.environment.name, production.environment.name) == ("staging", "")
    assert production.cloud.project == "my-live"
    assert load(tmp_path, name="production") == production


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[env.staging.cloud]\nprojet = 'x'",
            "env.staging.cloud.projet is not a setting; did you mean env.staging.cloud.project",
        ),
        ("[env.staging.clod]\nproject = 'x'", "env.staging.clod is not a setting; did you mean env.staging.cloud"),
        ("[env.staging.limits]\nmax_output_tokens = 0", "env.staging.limits.max_output_tokens is 0"),
        ("[env.staging]\nlimits = 3", "env.staging.limits is 3"),
        ("[env.staging.plans.pro]\nname = 'x'", "env.staging.plans.pro."),
        ("[env.staging.environment]\nmode = 'cloud'", "[environment] is not a section"),
        ("[env]\nstaging = 'x'", "env holds tables alone"),
        ("[env.Staging.cloud]\nproject = 'x'", "env.Staging"),
        ("[env.production.cloud]\nproject = 'x'", "env.production"),
    ],
)
def test_what_is_wrong_in_an_environment_is_named_whichever_is_chosen(tmp_path: Path, text: str, says: str) -> None:
    for name in ("", "staging"):
        assert says in refusal(tmp_path, f"{SETTINGS}\n{text}\n", name)


def test_an_unknown_environment_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, PRODUCTION + STAGING + "[env.demo.limits]\nmax_output_tokens = 9\n", "stagin")
    assert "no environment 'stagin'" in said
    assert said.endswith("There are: production, demo, staging.")


def test_a_shells_project_does_not_lead_an_environment_back_to_production(tmp_path: Path) -> None:
    assert load(tmp_path, GOOGLE_CLOUD_PROJECT="my-live").cloud.project == "my-staging"
    without = PRODUCTION + "[env.staging.limits]\nmax_output_tokens = 7\n"
    assert "env.staging.cloud.project is missing" in refusal(tmp_path, without)
    assert "is missing" in refusal(tmp_path, without, GOOGLE_CLOUD_PROJECT="my-live")
    assert load(tmp_path, without, GOOGLE_CLOUD_PROJECT="another").cloud.project == "another"
    assert "is 'my-live'" in refusal(tmp_path, PRODUCTION + '[env.staging.cloud]\nproject = "my-live"\n')
    assert load(tmp_path, name="", GOOGLE_CLOUD_PROJECT="other").cloud.project == "other"


@pytest.mark.parametrize(
    ("section", "line", "none"),
    [
        ("documents", 'bucket = "my-live-files"', 'bucket = ""'),
        ("identity", 'tenant = "customers-1"', 'tenant = ""'),
        ("identity", 'app_check = ["1:1:web:ab"]', "app_check = []"),
        ("jobs", 'url = "https://live.example"', 'url = ""'),
        ("jobs", 'service_account = "a@my-live.iam.gserviceaccount.com"', 'service_account = ""'),
    ],
)
def test_what_belongs_to_productions_project_is_not_taken_over(
    tmp_path: Path, section: str, line: str, none: str
) -> None:
    text = f"{PRODUCTION}[{section}]\n{line}\n{STAGING}"
    key = f"env.staging.{section}.{line.partition(' ')[0]}"
    assert key in refusal(tmp_path, text)
    assert load(tmp_path, text, name="").cloud.project == "my-live"
    load(tmp_path, f"{text}[env.staging.{section}]\n{none}\n")


def test_an_index_of_vertex_is_replaced_whole(tmp_path: Path) -> None:
    index = 'backend = "vertex"\nembedder = "openai"\n'
    ids = 'index = "{0}"\ndomain = "{0}.example"\nendpoint = "{0}"\ndeployed = "fl"\n'
    text = f"{PRODUCTION}[index]\n{index}[index.vertex]\n{ids.format(1)}{STAGING}"
    assert "env.staging.index.vertex" in refusal(tmp_path, text)
    half = f'{text}[env.staging.index.vertex]\nindex = "2"\n'
    assert "env.staging.index.vertex" in refusal(tmp_path, half), "the rest would be production's"
    found = load(tmp_path, f"{text}[env.staging.index.vertex]\n{ids.format(2)}").index.vertex
    assert found is not None
    assert (found.index, found.endpoint) == ("2", "2")
    load(tmp_path, f'{text}[env.staging.index]\nbackend = "firestore"\n')


KEYS = st.sampled_from("abc")
TABLES = st.recursive(
    st.dictionaries(KEYS, st.integers(0, 9), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(0, 9), max_size=3),
    max_leaves=8,
)


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found = {}
    for key, value in table.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


@given(base=TABLES, over=TABLES)
def test_every_value_of_an_environment_holds_and_every_other_is_the_bases(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    data = {**copy.deepcopy(base), "env": {"x": copy.deepcopy(over)}}
    merged, before = leaves(overlaid(data, "x")), copy.deepcopy(data)
    assert {path: merged[path] for path in leaves(over)} == leaves(over)
    for path, value in merged.items():
        assert path in leaves(over) or leaves(base)[path] == value
    assert overlaid(data, "") == base
    assert data == before
