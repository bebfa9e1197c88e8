"""A second project beside production's: with ``--env`` every command that reaches the cloud goes there alone."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from firelaunch.settings.app import Settings
from firelaunch.testing.rules_api import RulesApi
from firelaunch_cli.commands import _COMMANDS, main
from firelaunch_cli.commands.apps import where
from firelaunch_cli.rules.compose import compose
from support import ROOT, copy_repo, copy_template

LIVE, STAGING = "the-live-project", "the-staging-project"
READS_SETTINGS = re.compile(r"\b(load_settings|settings_for_deploy|Settings\.load|planned)\(")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an app that has two environments and one that has none; the shell has been told of production."""
    repo = copy_repo(tmp_path / "repo")
    for app in ("twice", "once"):
        path = copy_template(repo / "apps" / app) / "firelaunch.toml"
        text = path.read_text().replace('id = "my-app"', f'id = "{app}"').replace('project = ""', f'project = "{LIVE}"')
        more = f'\n[env.staging.cloud]\nproject = "{STAGING}"\nregion = "europe-west4"\nmemory = "1Gi"\n'
        path.write_text(text + (more if app == "twice" else ""))
    monkeypatch.chdir(repo)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", LIVE)
    return repo


def run(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "FIRELAUNCH_ENV" not in os.environ, "the choice is one command's"
    return done.output


def refusal(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code in {1, 2}, done.output
    assert "FIRELAUNCH_ENV" not in os.environ
    return done.output


def commands(command: click.Command, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*names, name))
    else:
        yield names, command


def test_every_command_that_reads_an_apps_settings_takes_an_environment() -> None:
    without = []
    for names, command in commands(main):
        module = importlib.import_module(f"firelaunch_cli.commands.{_COMMANDS[names[0]][0]}")
        if READS_SETTINGS.search(inspect.getsource(module)):
            known = {option for parameter in command.params for option in parameter.opts}
            without += [] if "--env" in known else [" ".join(names)]
    assert without == []


def test_no_command_of_a_staging_deploy_names_the_production_project(repo: Path) -> None:
    plan = run("deploy", "twice", "--env", "staging", "--dry-run", "--yes")
    assert LIVE not in plan
    assert f"--project={STAGING}" in plan
    assert "--region=europe-west4" in plan
    assert "--memory=1Gi" in plan
    deploys = [line for line in plan.splitlines() if "gcloud run deploy" in line]
    told = {line.split()[4]: "FIRELAUNCH_ENV=staging" in line for line in deploys}
    assert told == {"twice": True, "fl-fn-twice": True, "firelaunch-membership": False}
    assert {f"GOOGLE_CLOUD_PROJECT={STAGING}" in line for line in deploys} == {True}
    for words in (["--env", "production"], []):
        assert STAGING not in run("deploy", "twice", *words, "--dry-run")


def test_an_environment_that_is_not_there_is_named_with_those_that_are(repo: Path) -> None:
    assert "There are: production, staging." in refusal("deploy", "twice", "--env", "stagin", "--dry-run")
    assert "There are: production." in refusal("invite", "once", "--env", "staging")
    for words in (["doctor", "--offline"], ["terraform"], ["erase", "ada", "--yes"]):
        assert "No app in" in refusal(*words, "--env", "stagin")


def test_commands_say_in_which_environment_they_work(repo: Path) -> None:
    environ = {"FIRELAUNCH_MODE": "cloud", "OPENAI_API_KEY": "k", "GOOGLE_CLOUD_PROJECT": LIVE}
    path = repo / "apps" / "twice" / "firelaunch.toml"
    staging = where(Settings.load(path, {**environ, "FIRELAUNCH_ENV": "staging"}))
    assert staging == f"Firestore database (default) of {STAGING}, environment staging"
    assert where(Settings.load(path, environ)) == f"Firestore database (default) of {LIVE}"


def test_terraform_writes_an_environments_variables_where_productions_state_does_not_see_them(repo: Path) -> None:
    said = run("terraform", "--env", "staging")
    made = json.loads((repo / "deploy/terraform/firelaunch.staging.tfvars.json").read_text())
    assert (made["project"]["id"], made["project"]["region"]) == (STAGING, "europe-west4")
    assert set(made["services"]) == {"twice", "firelaunch-membership"}
    assert LIVE not in json.dumps(made)
    assert "workspace select -or-create staging" in said
    assert not (repo / "deploy/terraform/firelaunch.auto.tfvars.json").exists()


def test_terraform_also_writes_an_app_that_lies_elsewhere_beside_those_of_the_repo(repo: Path, tmp_path: Path) -> None:
    (repo / "apps" / "once").rename(tmp_path / "once")
    run("terraform", "../once", "--out", str(tmp_path / "vars.json"))
    made = json.loads((tmp_path / "vars.json").read_text())
    assert set(made["services"]) == {"once", "twice", "firelaunch-membership"}, (
        "Terraform would remove what is not named"
    )
    (tmp_path / "once").rename(tmp_path / "alone")
    other = refusal("terraform", "../alone", "--project", "another-project")
    assert "alone is no app of another-project: set cloud.project" in other


def test_rules_are_compared_with_those_of_the_environments_project(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RulesApi() as api:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(api.credentials_file(tmp_path)))
        api.release(STAGING, compose((ROOT / "firestore.rules").read_text(), []).text)
        assert "Nothing would change" in run("rules", "diff", "--env", "staging", "--endpoint", api.url)
    assert "No app names a project in environment stagin" in refusal("rules", "diff", "--env", "stagin")
