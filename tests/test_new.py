"""Where a new app's files are kept: in apps/ or elsewhere, and by whose git."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import commands
import pytest
from support import ROOT, clean_environ, copy_repo

NAME = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


SAID_OF_QUESTIONS = (
    ("README.md", "seven"),
    ("Makefile", "seven"),
    ("shared/cli/src/firelaunch_cli/commands/new.py", "seven"),
)
"""Where people are told how many questions they are asked."""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A clone of firelaunch, with git."""
    repo = copy_repo(tmp_path / "firelaunch")
    git(repo, "init", "--quiet")
    return repo


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env=clean_environ(**NAME), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def firelaunch(folder: Path, *words: str, said: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return commands.firelaunch(folder, *words, said=said, **{**NAME, **environ})


def test_a_new_app_in_apps_is_said_to_be_kept_by_no_git_and_gets_one_when_asked_for(repo: Path) -> None:
    done = firelaunch(repo, "new", "--no-input", "app_slug=one")
    assert done.returncode == 0, done.stderr
    assert "none keeps it: the repository around it ignores apps/" in done.stdout
    assert f"cd {repo / 'apps' / 'one'} && git init" in done.stdout
    assert not (repo / "apps" / "one" / ".git").exists()
    done = firelaunch(repo, "new", "--no-input", "--git", "app_slug=two")
    assert "its git             its own, with a first commit" in done.stdout, done.stderr
    assert "none" not in done.stdout, "it has one"
    assert "[tool.uv.sources]" in done.stdout, "its test.yml would look for this machine's path"
    app = repo / "apps" / "two"
    assert git(app, "status", "--porcelain") == ""
    assert "firelaunch.toml" in git(app, "ls-files").splitlines()
    assert git(app, "rev-parse", "--show-toplevel") == str(app)


@pytest.mark.parametrize(("answer", "made"), [("", True), ("n", False)])
def test_whoever_is_asked_gets_a_git_by_the_enter_key(repo: Path, answer: str, made: bool) -> None:
    questions = "\n" * 7
    done = firelaunch(repo, "new", "app_slug=asked", said=f"{questions}{answer}\n")
    assert done.returncode == 0, done.stderr
    assert "Give the app a git of its own (git init)? [Y/n]" in done.stdout
    numbers = [int(number) for number in re.findall(r"\[\d+/(\d+)\]", done.stdout)]
    assert numbers == [7] * 7
    for path, said in SAID_OF_QUESTIONS:
        assert f"{said} questions" in (ROOT / path).read_text(), "the question for a git is told apart"
    assert (repo / "apps" / "asked" / ".git").is_dir() is made


def test_an_end_of_the_input_at_the_question_means_no(repo: Path) -> None:
    done = firelaunch(repo, "new", "app_slug=ended", said="\n" * 7)
    assert done.returncode == 0, done.stderr
    assert "to give it one" in done.stdout
    assert not (repo / "apps" / "ended" / ".git").exists()


def test_where_git_knows_no_name_the_app_is_made_and_it_says_so(repo: Path, tmp_path: Path) -> None:
    nobody = dict.fromkeys(NAME, "")
    done = firelaunch(repo, "new", "--no-input", "--git", "app_slug=mine", HOME=str(tmp_path), **nobody)
    assert done.returncode == 0, done.stderr
    assert "nothing is committed" in done.stdout


def test_an_app_that_the_repos_git_keeps_gets_none_of_its_own(repo: Path) -> None:
    ignored = repo / ".gitignore"
    ignored.write_text(ignored.read_text().replace("apps/*\n", ""))
    done = firelaunch(repo, "new", "--no-input", "--git", "app_slug=kept")
    assert f"its git             {repo}; commit the app there" in done.stdout
    assert not (repo / "apps" / "kept" / ".git").exists()


def test_an_app_elsewhere_is_upgraded_staged_and_planned_from_its_own_git(repo: Path, tmp_path: Path) -> None:
    done = firelaunch(repo, "new", "--no-input", "--git", "--into", "../products", "app_slug=shop")
    assert done.returncode == 0, done.stderr
    app = tmp_path / "products" / "shop"
    assert git(app, "rev-parse", "--show-toplevel") == str(app)
    assert not (repo / "apps" / "shop").exists()
    upgraded = firelaunch(app, "upgrade", ".", "region=us-central1")
    assert upgraded.returncode == 0, upgraded.stderr
    assert 'region = "us-central1"' in (app / "firelaunch.toml").read_text()
    git(app, "commit", "--quiet", "--all", "-m", "Upgrade")
    planned = firelaunch(app, "deploy", ".", "--dry-run", GOOGLE_CLOUD_PROJECT="demo-project")
    assert planned.returncode == 0, planned.stderr
    assert "gcloud run deploy shop" in planned.stdout
    staged = firelaunch(app, "stage", ".", "--out", "build")
    assert staged.returncode == 0, staged.stderr
    assert (app / "build" / "service" / "app" / "workflow.py").is_file()
