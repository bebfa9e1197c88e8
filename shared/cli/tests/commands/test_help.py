"""The command line as people meet it: its help, its completion, its errors, and what programs read of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from firelaunch.testing.apps import write_app
from firelaunch_cli.commands import _COMMANDS, _GROUPS, main
from firelaunch_cli.commands.progress import Count

ROOT = Path(__file__).parents[4]
DOCS = ROOT / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Each command and each command of a group, with its words."""
    context = click.Context(main)
    for name in _COMMANDS:
        command = main.get_command(context, name)  # type: ignore[attr-defined]
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", command.commands[below]) for below in command.commands)


def run(*words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FIRELAUNCH_WEB": "", **(environ or {})}
    command = [sys.executable, "-m", "firelaunch_cli", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with an app's settings."""
    return write_app(tmp_path).parent


def test_the_help_has_each_command_once_below_its_task() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    for title, group in _GROUPS.items():
        section = said.partition(f"{title}:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  ([a-z-]+)", section, re.MULTILINE) == list(group)


def test_each_help_fits_80_columns() -> None:
    for words in ["", *(name for name, _ in commands() if name != "test-rules")]:
        said = CliRunner().invoke(main, [*words.split(), "--help"]).output
        assert "Usage:" in said
        assert [line for line in said.splitlines() if len(line) > 80] == [], words


def test_the_page_on_the_command_line_lists_each_command_that_prints_json() -> None:
    has = {name for name, command in commands() if any("--json" in param.opts for param in command.params)}
    table = DOCS.read_text().partition("## For programs")[2].partition("\n\n`web-config`")[0]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert listed == has - {"test-rules"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_completes_the_command(shell: str) -> None:
    said = CliRunner().invoke(main, ["completion", shell])
    assert said.exit_code == 0
    assert "_FIRELAUNCH_COMPLETE" in said.output


def test_a_shell_completes_commands_and_the_apps_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("meals", "menu", "other"):
        (tmp_path / "apps" / name).mkdir(parents=True)
        (tmp_path / "apps" / name / "firelaunch.toml").touch()
    monkeypatch.chdir(tmp_path)
    asked = {"_FIRELAUNCH_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "firelaunch serve me"}
    said = subprocess.run(
        [sys.executable, "-c", "from firelaunch_cli.commands import main; main(prog_name='firelaunch')"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["plain,meals", "plain,menu"]


def test_an_error_is_one_line_in_a_pipe_and_fits_where_columns_are_named(app: Path) -> None:
    settings = app / "firelaunch.toml"
    settings.write_text(settings.read_text() + "\n[limitz]\nx = 1\n")
    whole = run("publish", str(app))
    assert whole.returncode == 2
    assert len(whole.stderr.splitlines()) == 1
    fitted = run("publish", str(app), environ={"COLUMNS": "40"}).stderr
    assert max(len(line) for line in fitted.splitlines()) <= 40
    assert " ".join(fitted.split()) == " ".join(whole.stderr.split())


def test_no_color_leaves_out_escapes_where_colours_are_forced(monkeypatch: pytest.MonkeyPatch, app: Path) -> None:
    monkeypatch.setenv("PATH", "")
    words = ["doctor", str(app), "--offline"]
    assert "\x1b[" in CliRunner().invoke(main, words, color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, words, color=True).output


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["publish"], {"app", "join", "by"}),
        (["invite", "--role", "admin"], {"app", "code", "role", "uses", "expires_at"}),
        (["data", "export", "{app}", "{app}/out.jsonl"], {"app", "file", "documents", "before"}),
        (["doctor", "--offline"], {"problems", "checks"}),
        (
            ["reembed", "--dry-run"],
            {"app", "version", "documents", "missing", "characters", "tokens", "estimate_micro_usd", "searched"},
        ),
        (["reembed", "--abandon"], {"app", "abandoned"}),
        (["reembed", "--drop-old"], {"app", "dropped"}),
        (["costs"], {"apps", "rows", "cost_micro_usd", "forecast_micro_usd"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_with_json_standard_output_is_one_json_value(app: Path, words: list[str], keys: set[str]) -> None:
    named = [word.format(app=app) for word in words]
    if str(app) not in named:
        named.append(str(app))
    done = run(*named, "--json", environ={"PATH": ""})
    assert set(json.loads(done.stdout)) == keys, done.stderr


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 1.0, 11.0, 11.0, 12.0])
    count = Count("documents built", 1000, clock=lambda: next(seconds))
    for done in (1, 500, 999):
        count(done)
    assert capsys.readouterr().err == "500 of 1,000 documents built\n"
