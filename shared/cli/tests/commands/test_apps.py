"""Every command finds an app in the same way: by its id, by its folder, or around the current folder."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from firelaunch.testing.apps import SETTINGS
from firelaunch_cli.commands import _COMMANDS, main
from firelaunch_cli.commands.apps import app_folder, apps_named


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """An app that lies in no repo, in a folder that isn't named as it is."""
    folder = write_app(tmp_path / "products" / "new-one", 'id = "rental"')
    (folder / "app").mkdir()
    return folder


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo with two apps."""
    repo = tmp_path / "repo"
    (repo / "template").mkdir(parents=True)
    (repo / "cookiecutter.json").write_text("{}")
    for name in ("shop", "zoo"):
        write_app(repo / "apps" / name, f'id = "{name}"')
    return repo


def write_app(folder: Path, settings: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "firelaunch.toml").write_text(f"[app]\n{settings}\n")
    return folder


@pytest.mark.parametrize("name", [".", "rental", "new-one", "{folder}"])
@pytest.mark.parametrize("below", [".", "app"])
def test_inside_an_app_it_is_found_by_its_id_its_folder_or_nothing(
    outside: Path, name: str, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside / below)
    assert app_folder(name.format(folder=outside)) == outside
    assert apps_named([]) == [outside]


@pytest.mark.parametrize("below", [".", "apps", "apps/zoo", "template"])
def test_anywhere_in_the_repo_an_id_is_an_app_of_it(repo: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo / below)
    assert app_folder("shop") == repo / "apps" / "shop"
    assert [each.name for each in apps_named([])] == (["zoo"] if below == "apps/zoo" else ["shop", "zoo"])
    assert [each.name for each in apps_named(["shop", str(repo / "apps" / "shop")])] == ["shop"]


def test_an_app_that_is_not_there_is_refused_with_what_to_do(
    repo: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name, said in (
        (repo, "shoe", "no app 'shoe' in apps/. There are: shop, zoo."),
        (repo, ".", "This folder is no app: name one. There are: shop, zoo."),
        (outside, "shop", "There is no app 'shop' here. This folder is in the app rental. Name the folder of an app"),
        (
            outside.parent,
            "shop",
            "There is no app 'shop' here. Name the folder of an app, where its firelaunch.toml is",
        ),
        (outside.parent, ".", "This folder is no app: name one. Name the folder of an app"),
    ):
        monkeypatch.chdir(folder)
        with pytest.raises(click.ClickException) as refused:
            app_folder(name)
        assert said in refused.value.message


def test_settings_that_cannot_be_read_are_found_by_the_folders_name(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outside / "firelaunch.toml").write_text("[app\n")
    monkeypatch.chdir(outside)
    assert app_folder("new-one") == outside


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words)


ELSEWISE = {"completion", "data", "demo", "erase", "eval", "new", "rules", "test-rules", "verify"}
"""Commands with no app as their only first argument."""


@pytest.mark.parametrize("name", sorted(_COMMANDS.keys() - ELSEWISE))
def test_a_command_that_takes_an_app_may_be_run_without_it_in_the_apps_folder(name: str) -> None:
    command: click.Command = importlib.import_module(f"firelaunch_cli.commands.{_COMMANDS[name][0]}").command
    argument = next(each for each in command.params if isinstance(each, click.Argument))
    assert argument.name in {"app", "apps"}
    assert not argument.required
    assert argument.make_metavar(click.Context(command)).startswith("[APP]")


def test_the_help_says_what_an_app_may_be_given_as() -> None:
    assert "APP is an app's id or its folder. Leave it out inside the app's folder." in invoke("--help").output


def test_other_arguments_come_after_an_app_that_may_be_left_out(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (outside / "firelaunch.toml").write_text(SETTINGS.replace('id = "demo"', 'id = "rental"'))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.chdir(outside)
    for words in (("readmit", "ada"), ("readmit", "rental", "ada"), ("readmit", ".", "ada")):
        assert "ada was not removed from rental" in invoke(*words).output
    for words in (("data", "export", "a.jsonl"), ("data", "export", "rental", "b.jsonl")):
        assert "documents of rental" in invoke(*words).output
    assert "this command takes one app" in invoke("readmit", "rental", "shop", "ada").output
    assert "There is no app 'shop'" in invoke("readmit", "shop", "ada").output


def test_an_apps_answers_are_checked_from_any_folder_of_the_app(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for below in (".", "app"):
        monkeypatch.chdir(outside / below)
        assert f"{outside / 'evals' / 'questions.toml'}" in invoke("eval").output


def test_what_comes_after_two_dashes_is_no_app(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(outside)
    assert "no app '--memory" not in invoke("deploy", "--dry-run", "--", "--memory=1Gi").output
    assert "no app 'app_name=" not in invoke("upgrade", "--dry-run", "app_name=Mine").output
