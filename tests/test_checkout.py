"""An app outside of the repo is deployed from the firelaunch that is installed: its folder, or its git at a commit."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from firelaunch_cli.commands.checkout import builds_of, firelaunch_checkout
from firelaunch_cli.commands.rules import rules_with
from support import ROOT

Install = Callable[[dict[str, Any] | None], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Notes where firelaunch was installed from, as pip and uv do; the current folder is outside of any repo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def note(origin: dict[str, Any] | None) -> None:
        info = tmp_path / "site" / "firelaunch-0.1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: firelaunch\nVersion: 0.1.0\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))

    return note


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """What of the repo tells that it is one, in git."""
    repo = tmp_path / "origin"
    (repo / "template").mkdir(parents=True)
    (repo / "shared" / "firelaunch").mkdir(parents=True)
    for name in ("cookiecutter.json", "template/x", "shared/x"):
        (repo / name).write_text("{}")
    git(repo, "init", "--quiet")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "x")
    return repo


def git(folder: Path, *command: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(
        ["git", *name, *command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def from_git(repo: Path, commit: str) -> dict[str, Any]:
    return {
        "url": f"file://{repo}",
        "vcs_info": {"vcs": "git", "commit_id": commit},
        "subdirectory": "shared/firelaunch",
    }


def test_the_repo_around_the_current_folder_comes_first(install: Install, repo: Path, monkeypatch: Any) -> None:
    install({"url": f"file://{ROOT}/shared/firelaunch", "dir_info": {"editable": True}})
    assert firelaunch_checkout() == ROOT
    monkeypatch.chdir(repo / "shared")
    assert firelaunch_checkout() == repo


def test_a_git_is_cloned_once_at_the_commit_that_is_installed(install: Install, repo: Path, capsys: Any) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    (repo / "template" / "x").write_text("later")
    git(repo, "commit", "--quiet", "--all", "-m", "y")
    install(from_git(repo, commit))
    found = firelaunch_checkout()
    assert git(found, "rev-parse", "HEAD") == commit
    assert (found / "template" / "x").read_text() == "{}"
    assert commit[:12] in capsys.readouterr().err
    shutil.rmtree(repo)
    assert firelaunch_checkout() == found, "it is not asked for again"


def test_what_cannot_be_found_or_cloned_is_said_with_the_mend_and_without_a_password(
    install: Install, repo: Path, tmp_path: Path, capsys: Any
) -> None:
    install(None)
    for origin in (None, {"url": "file:///nowhere/shared"}, {"url": "https://example.com/firelaunch.whl"}):
        install(origin)
        with pytest.raises(click.ClickException, match="inside a clone of the firelaunch repo"):
            firelaunch_checkout()
    install(from_git(repo, "f" * 40))
    with pytest.raises(click.ClickException, match="cannot be cloned"):
        firelaunch_checkout()
    assert not list((tmp_path / "cache").rglob("cookiecutter.json")), "what is half-made is not kept"
    install({"url": "https://me:hunter2@127.0.0.1:9/x", "vcs_info": {"vcs": "git", "commit_id": "f" * 40}})
    with pytest.raises(click.ClickException) as failed:
        firelaunch_checkout()
    assert "hunter2" not in failed.value.message + capsys.readouterr().err


def test_what_is_built_of_an_app_lies_in_the_repo_or_in_the_apps_own_folder_where_git_ignores_it(
    repo: Path, tmp_path: Path
) -> None:
    (repo / "apps" / "shop").mkdir(parents=True)
    assert builds_of(repo, repo / "apps" / "shop", make=True) == repo / "build"
    for name in ("one", "two"):
        app = tmp_path / name / "shop"
        app.mkdir(parents=True)
        git(app, "init", "--quiet")
        assert builds_of(repo, app, make=False) == app / "build"
        assert list(app.iterdir()) == [app / ".git"], "a dry run makes nothing"
        (builds_of(repo, app, make=True) / "x").write_text("x")
        assert git(app, "status", "--porcelain") == ""


def test_dev_loads_the_rules_of_an_app_that_lies_outside_of_the_repo(
    install: Install, repo: Path, tmp_path: Path
) -> None:
    (repo / "firestore.rules").write_text((ROOT / "firestore.rules").read_text())
    install({"url": f"file://{repo}/shared/firelaunch", "dir_info": {"editable": True}})
    app = tmp_path / "rental"
    app.mkdir()
    (app / "firestore.rules").write_text("match /notes/{note} { allow read; }\n")
    assert "match /notes/{note} { allow read: if isMember('rental'); }" in rules_with(app)
