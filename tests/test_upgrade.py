"""An app with edits of its own, brought up to a template that has changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import commands
import pytest
from support import PYTHON, ROOT, clean_environ

APP = "template/{{cookiecutter.app_slug}}"
BINARY = bytes(range(256)) * 8
Upgrade = Callable[..., subprocess.CompletedProcess[str]]


def git(folder: Path, *command: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(["git", *name, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> None:
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A clone of this repo, with a few files more in its template."""
    copy = tmp_path / "firelaunch.git"
    leftovers = shutil.ignore_patterns("__pycache__", ".*_cache", ".firelaunch", "tests")
    shutil.copytree(ROOT / "shared", copy / "shared", ignore=leftovers)
    shutil.copytree(ROOT / "template", copy / "template", ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    for name in ("cookiecutter.json", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    (copy / "apps").mkdir()
    (copy / APP / "logo.bin").write_bytes(BINARY)
    (copy / APP / "app" / "tools.py").write_text("".join(f"line_{n} = {n}\n" for n in range(20)))
    (copy / APP / "app" / "old.py").write_text("OLD = True\n")
    (copy / APP / "app" / "kept.py").write_text("KEPT = True\n")
    commit(copy)
    return copy


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of the user's own is read, and nothing is written to the home folder."""
    config = tmp_path / "cookiecutter.yaml"
    config.write_text(f"replay_dir: {tmp_path}/replay\ncookiecutters_dir: {tmp_path}/clones\n")
    return clean_environ(COOKIECUTTER_CONFIG=str(config))


@pytest.fixture
def run(repo: Path, environ: dict[str, str]) -> Upgrade:
    """``firelaunch ...`` in the repo."""

    def call(*words: str, cwd: Path = repo) -> subprocess.CompletedProcess[str]:
        return commands.run(cwd, words, environ)

    return call


@pytest.fixture
def app(repo: Path, run: Upgrade) -> Path:
    """apps/demo, in a git repository of its own."""
    assert run("new", "--no-input", "app_name=Demo", "region=us-central1").returncode == 0
    commit(repo / "apps" / "demo")
    return repo / "apps" / "demo"


def files(app: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(app)): path.read_bytes()
        for path in app.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def new_template(repo: Path) -> None:
    """Version 0.3.0 of the template: files changed, renamed, new and gone; a setting and a question more."""
    template = repo / APP
    edit(template / "firelaunch.toml", "max_output_tokens = 1024", "max_output_tokens = 2048")
    edit(template / "app" / "workflow.py", "*turn.history,", "*turn.history[-8:],")
    git(repo, "mv", f"{APP}/app/tools.py", f"{APP}/app/helpers.py")
    edit(template / "app" / "helpers.py", "line_19 = 19", "line_19 = 1900")
    (template / "app" / "added.py").write_text("ADDED = True\n")
    (template / "run.sh").write_text("#!/bin/sh\n")
    (template / "run.sh").chmod(0o755)
    (template / "app" / "old.py").unlink()
    (template / "app" / "kept.py").unlink()
    (template / "logo.bin").write_bytes(BINARY[::-1])
    edit(repo / "shared" / "firelaunch" / "pyproject.toml", 'version = "0.2.0"', 'version = "0.3.0"')
    asked = json.loads((repo / "template" / "cookiecutter.json").read_text())
    (repo / "template" / "cookiecutter.json").write_text(json.dumps({"colour": ["red", "blue"], **asked}))
    commit(repo)


def test_edits_and_the_templates_changes_are_both_there_afterwards(repo: Path, app: Path, run: Upgrade) -> None:
    edit(app / "firelaunch.toml", 'daily_usd = "0.50"', 'daily_usd = "0.75"')
    edit(app / "app" / "workflow.py", "yield from turn.llm.stream(messages)", "yield from mine(turn, messages)")
    edit(app / "app" / "tools.py", "line_0 = 0", "line_0 = 1000")
    (app / "app" / "mine.py").write_text("MINE = True\n")
    commit(app)
    new_template(repo)

    done = run("upgrade", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    told = r"template 0\.2\.0 of \d{4}-\d\d-\d\d \(\w{9}\) -> 0\.3\.0 of \d{4}-\d\d-\d\d \(\w{9}\); CHANGELOG\.md"
    assert re.search(told, done.stdout)
    assert "new question colour: answered with 'red'" in done.stdout

    settings = tomllib.loads((app / "firelaunch.toml").read_text())
    assert settings["limits"]["max_output_tokens"] == 2048
    assert settings["plans"]["free"]["daily_usd"] == "0.75"
    assert settings["cloud"]["region"] == "us-central1"
    workflow = (app / "app" / "workflow.py").read_text()
    assert "turn.history[-8:]" in workflow
    assert "mine(turn, messages)" in workflow
    helpers = (app / "app" / "helpers.py").read_text()
    assert "line_0 = 1000" in helpers, "an edit goes along with a file that the template renamed"
    assert "line_19 = 1900" in helpers
    there = files(app)
    assert not {"app/tools.py", "app/old.py"} & there.keys()
    assert {"app/added.py", "app/mine.py"} <= there.keys()
    assert there["logo.bin"] == BINARY[::-1]
    assert (app / "run.sh").stat().st_mode & 0o111
    record = json.loads((app / ".firelaunch-answers.json").read_text())
    assert record["template_version"] == "0.3.0"
    assert record["answers"]["colour"] == "red"
    source = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["uv"]["sources"]["firelaunch"]
    assert source == {"path": "../../shared/firelaunch", "editable": True}


def test_a_second_upgrade_changes_nothing(repo: Path, app: Path, run: Upgrade) -> None:
    new_template(repo)
    assert run("upgrade", "demo").returncode == 0
    commit(app)
    before = files(app)
    done = run("upgrade", "demo")
    assert done.returncode == 0
    assert "no file changes" in done.stdout
    assert "from which the app was made; there is no newer one" in done.stdout
    assert files(app) == before

    (repo / "template" / "NOTES.md").write_text("Nothing of an app.")
    commit(repo)
    assert ", between two releases" in run("upgrade", "demo").stdout
    told = json.loads(run("upgrade", "demo", "--dry-run", "--json").stdout)
    assert (told["to"]["version"], told["changes"], told["conflicts"]) == ("0.3.0", [], [])


def test_where_both_changed_the_same_both_stay_between_markers_and_it_is_said(
    repo: Path, app: Path, run: Upgrade
) -> None:
    edit(app / "firelaunch.toml", "max_output_tokens = 1024", "max_output_tokens = 512")
    (app / "logo.bin").write_bytes(b"\0my own logo")
    edit(app / "app" / "kept.py", "KEPT = True", "KEPT = 'and used'")
    (app / "app" / "workflow.py").unlink()
    (app / "app" / "added.py").write_text("MY_OWN = 1\n")
    commit(app)
    new_template(repo)

    done = run("upgrade", "demo")
    assert done.returncode == 1
    text = (app / "firelaunch.toml").read_text()
    assert "<<<<<<< yours\nmax_output_tokens = 512\n=======\nmax_output_tokens = 2048\n>>>>>>> template-0.3.0" in text
    assert (app / "logo.bin").read_bytes() == b"\0my own logo"
    assert (app / "logo.bin.template-0.3.0").read_bytes() == BINARY[::-1]
    assert "and used" in (app / "app" / "kept.py").read_text(), "what was edited here is not deleted"
    added = (app / "app" / "added.py").read_text()
    assert "MY_OWN" in added
    assert "ADDED" in added
    for path in ("firelaunch.toml", "logo.bin", "app/kept.py", "app/workflow.py", "app/added.py"):
        assert any(path in line for line in done.stdout.splitlines() if "CONFLICT" in line), path


def test_a_file_that_was_renamed_here_gets_the_templates_change(repo: Path, app: Path, run: Upgrade) -> None:
    (app / "app" / "tools.py").rename(app / "app" / "toolbox.py")
    commit(app)
    edit(repo / APP / "app" / "tools.py", "line_7 = 7", "line_7 = 70")
    commit(repo)
    assert run("upgrade", "demo").returncode == 0
    assert "line_7 = 70" in (app / "app" / "toolbox.py").read_text()
    assert not (app / "app" / "tools.py").exists()


def test_a_dry_run_shows_the_patch_and_writes_nothing(repo: Path, app: Path, run: Upgrade) -> None:
    edit(app / "README.md", "# Demo", "# My demo")  # uncommitted, which does not matter
    new_template(repo)
    before = files(app)
    done = run("upgrade", "demo", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "renamed  app/tools.py -> app/helpers.py" in done.stdout
    assert "+max_output_tokens = 2048" in done.stdout
    assert files(app) == before


def test_uncommitted_changes_are_refused_unless_allowed_and_then_kept(repo: Path, app: Path, run: Upgrade) -> None:
    edit(app / "firelaunch.toml", 'daily_usd = "0.50"', 'daily_usd = "0.75"')
    new_template(repo)
    before = files(app)
    refused = run("upgrade", "demo")
    assert refused.returncode == 1
    assert "firelaunch.toml" in refused.stderr
    assert files(app) == before

    assert run("upgrade", "demo", "--allow-uncommitted").returncode == 0
    (kept,) = (app / ".firelaunch").glob("before-upgrade-*.tar.gz")
    shutil.unpack_archive(kept, app / ".firelaunch" / "before")
    for path in ("firelaunch.toml", "app/old.py", "app/tools.py", ".firelaunch-answers.json"):
        assert (app / ".firelaunch" / "before" / path).read_bytes() == before[path]


def test_an_app_outside_of_git_is_refused_unless_allowed(repo: Path, run: Upgrade) -> None:
    """apps/ is ignored by the repo, whose own git would not bring anything back."""
    assert run("new", "--no-input", "app_name=Demo").returncode == 0
    refused = run("upgrade", "demo")
    assert refused.returncode == 1
    assert "not kept in git" in refused.stderr
    assert run("upgrade", "demo", "--allow-uncommitted").returncode == 0


def test_answers_can_be_changed_but_for_the_apps_id(app: Path, run: Upgrade) -> None:
    assert run("upgrade", "demo", "region=europe-west4").returncode == 0
    assert tomllib.loads((app / "firelaunch.toml").read_text())["cloud"]["region"] == "europe-west4"
    commit(app)
    assert "app_slug" in run("upgrade", "demo", "app_slug=other").stderr
    assert "region" in run("upgrade", "demo", "region=mars").stderr
    assert git(app, "status", "--porcelain") == ""


@pytest.mark.parametrize("kind", ["path", "git URL", "zip"])
def test_apps_that_plain_cookiecutter_made_elsewhere_are_upgraded(
    repo: Path, tmp_path: Path, environ: dict[str, str], run: Upgrade, kind: str
) -> None:
    archive = tmp_path / "main.zip"

    def pack() -> None:
        git(repo, "archive", "--prefix=firelaunch-main/", "--output", str(archive), "HEAD")

    pack()
    template = {"path": str(repo), "git URL": f"file://{repo}", "zip": str(archive)}[kind]
    command = [PYTHON, "-m", "cookiecutter", template, "--no-input", "--output-dir", str(tmp_path / "made")]
    subprocess.run([*command, "app_slug=demo"], cwd=tmp_path, env=environ, check=True, capture_output=True)
    app = tmp_path / "made" / "demo"
    edit(app / "app" / "tools.py", "line_0 = 0", "line_0 = 1000")
    commit(app)
    new_template(repo)
    (repo / "shared" / "firelaunch" / "src" / "firelaunch" / "brand_new.py").write_text("NEW = 1\n")
    commit(repo)
    pack()

    done = run("upgrade", str(app), cwd=tmp_path)
    if kind == "zip":
        assert done.returncode == 1
        assert "--template" in done.stderr
        done = run("upgrade", str(app), "--template", str(archive), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    helpers = (app / "app" / "helpers.py").read_text()
    assert "line_0 = 1000" in helpers
    assert "line_19 = 1900" in helpers
    source = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["uv"]["sources"]["firelaunch"]
    if kind == "git URL":
        assert source["rev"] == git(repo, "rev-parse", "HEAD")
    if kind == "zip":
        assert (app / "vendor" / "firelaunch" / "src" / "firelaunch" / "brand_new.py").is_file()


@pytest.mark.parametrize("name", [".firelaunch-answers.json", ".firelaunch-template.tar.gz"])
@pytest.mark.parametrize("text", [None, b"{not what was written"], ids=["gone", "damaged"])
def test_a_record_that_is_gone_or_damaged_is_named(app: Path, run: Upgrade, name: str, text: bytes | None) -> None:
    if text is None:
        (app / name).unlink()
    else:
        (app / name).write_bytes(text)
    commit(app)
    done = run("upgrade", "demo")
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_without_its_first_files_is_upgraded_from_those_given(
    repo: Path, app: Path, tmp_path: Path, run: Upgrade
) -> None:
    made = shutil.copytree(app, tmp_path / "made", ignore=shutil.ignore_patterns(".git"))
    (app / ".firelaunch-template.tar.gz").unlink()
    edit(app / "app" / "tools.py", "line_0 = 0", "line_0 = 1000")
    commit(app)
    new_template(repo)
    assert run("upgrade", "demo", "--base", str(made)).returncode == 0
    assert "line_0 = 1000" in (app / "app" / "helpers.py").read_text()
    assert (app / ".firelaunch-template.tar.gz").is_file()


def test_the_same_app_gives_the_same_bytes_of_its_first_files(app: Path, run: Upgrade) -> None:
    first = (app / ".firelaunch-template.tar.gz").read_bytes()
    shutil.rmtree(app)
    assert run("new", "--no-input", "app_name=Demo", "region=us-central1").returncode == 0
    assert (app / ".firelaunch-template.tar.gz").read_bytes() == first


def test_an_answer_that_the_template_no_longer_offers_is_asked_for_anew(app: Path, run: Upgrade) -> None:
    record = app / ".firelaunch-answers.json"
    edit(record, '"index": "firestore"', '"index": "embedded"')
    commit(app)
    refused = run("upgrade", "demo")
    assert refused.returncode == 1
    assert "no longer offers the app's answer: give another, as index=ANSWER" in refused.stderr
    done = run("upgrade", "demo", "index=pgvector")
    assert done.returncode == 0, done.stderr
    assert 'backend = "pgvector"' in (app / "firelaunch.toml").read_text()
