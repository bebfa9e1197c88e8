"""Variables that an app has on a laptop go along with a deploy, or are named with the flag that passes them on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from firelaunch.deploy.more import joined
from firelaunch.deploy.names import Service
from firelaunch.deploy.variables import KINDS, left_behind
from support import ROOT, TEMPLATE

SERVICE = Service("demo", "fl-app-demo", (), {"FIRELAUNCH_MODE": "cloud"}, {"OPENAI_API_KEY": "demo-openai-api-key"})


def said(shell: dict[str, str], file: dict[str, str] | None = None, *more: str, service: Service = SERVICE) -> str:
    return "\n".join(left_behind(shell, file or {}, service, more))


def test_it_is_known_of_every_variable_who_gives_it_to_the_deployed_app() -> None:
    table = (ROOT / "docs" / "settings.md").read_text().partition("## Environment")[2]
    assert set(KINDS) == set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))


def test_what_only_the_person_can_give_is_named_with_one_flag_that_gcloud_takes() -> None:
    shell = {"OPENAI_BASE_URL": "https://models.example/v1", "OPENAI_MODEL": "mine", "HOME": "/root", "EDITOR": "vi"}
    lines = said(shell)
    assert lines.endswith('-- --update-env-vars="OPENAI_BASE_URL=$OPENAI_BASE_URL,OPENAI_MODEL=$OPENAI_MODEL"')
    assert "models.example" not in lines
    flag = f"--update-env-vars=OPENAI_BASE_URL={shell['OPENAI_BASE_URL']},OPENAI_MODEL=mine"
    assert said(shell, {}, flag) == ""
    assert joined(["--set-env-vars=^;^A=b"], [flag]) == (f"--set-env-vars=A=b,{flag.partition('=')[2]}",)
    assert "OPENAI_MODEL" in said(shell, {}, "--update-env-vars", "OPENAI_BASE_URL=x"), "the other one is still named"


def test_the_apps_own_variables_in_its_env_file_are_named_and_no_value_is() -> None:
    lines = said({}, {"GREETING": "good day", "WEATHER_API_KEY": "a-key", "EMPTY": "", "FIRELAUNCH_DATA": "data"})
    assert '-- --update-env-vars="GREETING=VALUE"' in lines
    assert '--update-secrets="WEATHER_API_KEY=demo-weather-api-key:1"' in lines
    assert "fl-app-demo" in lines
    for unsaid in ("good day", "a-key", "EMPTY", "FIRELAUNCH_DATA"):
        assert unsaid not in lines


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind in {"deploy", "laptop", "platform"}])
def test_what_the_deploy_sets_or_a_laptop_alone_needs_is_not_spoken_of(name: str) -> None:
    assert said({name: "x"}) == ""


def test_a_key_that_the_settings_do_not_ask_for_is_said_to_stay() -> None:
    assert said({"OPENAI_API_KEY": "k"}) == ""
    assert "because nothing in its settings is of OpenAI" in said(
        {"OPENAI_API_KEY": "k"}, service=replace(SERVICE, secrets={})
    )
    assert "none of its plans has a stripe_price" in said({"STRIPE_API_KEY": "k"})


def test_the_templates_env_file_names_known_variables_alone() -> None:
    lines = (Path(TEMPLATE) / ".env.example").read_text().splitlines()
    named = {line.strip("#").partition("=")[0] for line in lines if "=" in line and " " not in line}
    assert named
    assert named <= set(KINDS)
