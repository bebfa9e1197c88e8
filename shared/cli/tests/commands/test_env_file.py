"""Every command that works with an app's own data reads the app's ``.env`` as ``serve`` does: below the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.commands import main

CODE = """
from pathlib import Path

from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings

def create_app(environ):
    app = App("app")
    init_app(app, build(Settings.load(Path({path!r}), environ)), lambda _: ())
    return app
"""

READ_IT = {
    "costs {app}",
    "data export {app} {app}/out.jsonl",
    "data import {app} {app}/in.jsonl",
    "demo",
    "dev {app}",
    "doctor --offline {app}",
    "eject {app} --to other-project",
    "erase nora --app {app} --yes",
    "eval {app}",
    "invite {app}",
    "migrate {app}",
    "publish {app}",
    "readmit {app} nora",
    "reembed {app} --dry-run",
    "serve {app}",
}
"""Those that open the app's database, or run the app."""

DO_NOT = {
    "completion",
    "deploy",
    "lock-prompts",
    "new",
    "restore",
    "rules build",
    "rules diff",
    "rules kept",
    "stage",
    "terraform",
    "test-rules",
    "upgrade",
    "verify",
    "web-config",
}
"""Those that need no app's settings, or plan for the cloud, where no ``.env`` is: they take the environment alone."""

TRIED_ELSEWHERE = {"demo", "dev {app}", "serve {app}"}
"""They run until they are ended; tests/test_cli.py and tests/test_dev.py have them."""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app with code and questions, in a repo."""
    repo = tmp_path / "repo"
    (repo / "template").mkdir(parents=True)
    (repo / "cookiecutter.json").write_text("{}")
    return _app(repo, "shop", monkeypatch)


def _app(repo: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_app(repo / "apps" / name, SETTINGS.replace('id = "demo"', f'id = "{name}"')).parent
    (folder / "app").mkdir(exist_ok=True)
    (folder / "app" / "__init__.py").write_text(CODE.format(path=str(folder / "firelaunch.toml")))
    (folder / "evals").mkdir()
    (folder / "evals" / "questions.toml").write_text('[[question]]\nask = "Hello?"\nmust_contain = ["Hello"]\n')
    (folder / "in.jsonl").write_text("")
    monkeypatch.chdir(repo)
    return folder


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """Every command by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def run(words: str, app: Path) -> Result:
    before = dict(os.environ)
    done = CliRunner().invoke(main, words.format(app=app).split())
    assert dict(os.environ) == before, "what a command takes ends with it"
    return done


def test_each_command_is_known_to_read_it_or_not_to() -> None:
    reading = {words.partition(" {")[0].partition(" --")[0].partition(" nora")[0] for words in READ_IT}
    assert reading | DO_NOT == set(commands(main))
    assert not reading & DO_NOT


@pytest.mark.parametrize("words", sorted(READ_IT - TRIED_ELSEWHERE))
def test_a_command_takes_the_apps_variables_from_its_env_file(
    app: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIRELAUNCH_MODE", raising=False)
    (app / ".env").write_text("FIRELAUNCH_MODE=of-the-file\n")
    done = run(words, app)
    assert done.exit_code in {1, 2}, done.output
    assert "of-the-file" in done.output


def test_the_environment_comes_before_the_env_file(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (app / ".env").write_text("FIRELAUNCH_MODE=of-the-file\n")
    monkeypatch.setenv("FIRELAUNCH_MODE", "embedded")
    assert run("reembed {app} --dry-run", app).exit_code == 0


def test_an_app_after_another_does_not_get_its_variables(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRELAUNCH_DATA", raising=False)
    second = _app(app.parents[1], "zoo", monkeypatch)
    (app / ".env").write_text(f"FIRELAUNCH_DATA={app / 'elsewhere'}\n")
    done = run("erase nora --yes", app)
    assert done.exit_code == 0, done.output
    assert f"shop in {app / 'elsewhere'} " in done.output
    assert f"zoo in {second / '.firelaunch'} " in done.output


def test_a_line_that_sets_no_variable_is_named_once(app: Path) -> None:
    (app / ".env").write_text("FIRELAUNCH_MODE = embedded\n")
    done = run("eject {app} --to other-project --no-data", app)
    assert done.stderr.count("line 1 is not NAME=VALUE") <= 1
    assert run("reembed {app} --dry-run", app).stderr.count("line 1 is not NAME=VALUE") == 1
