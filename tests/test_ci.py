"""What continuous integration runs for founders: files of the right form, whose commands are there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from firelaunch_cli.commands import main
from firelaunch_cli.deploy import sign_in, vertex
from firelaunch_cli.deploy.resources import FEATURE_PERMISSIONS, PERMISSIONS, QUOTA_VIEWER
from firelaunch_cli.deploy.spending_alert import ALERT_ROLE
from support import PYTHON, ROOT, TEMPLATE

WORKFLOWS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), TEMPLATE / ".github" / "workflows" / "test.yml"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
BOTS = [folder / ".github" / "dependabot.yml" for folder in (ROOT, TEMPLATE)]
CLOUD_BUILD = ROOT / "deploy" / "cloudbuild.yaml"
OWN = re.compile(r"(?:^|[\s;&|(])(?:\.\./\.\./)?\.venv/bin/(\w+)((?: +[^;&|)\n]+)?)", re.MULTILINE)


def read(path: Path) -> Any:
    # YAML 1.1 takes a workflow's "on" for a truth value; that is all that is different.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text()).items()}


def scripts(path: Path) -> Iterator[str]:
    content = read(path)
    steps = content.get("steps") or [step for job in content["jobs"].values() for step in job["steps"]]
    yield from (step.get("run") or step["script"] for step in steps if "run" in step or "script" in step)


@pytest.mark.parametrize("path", [*WORKFLOWS, *FORMS, *BOTS, CLOUD_BUILD], ids=lambda path: path.name)
def test_each_file_is_of_the_form_that_its_service_publishes(path: Path) -> None:
    schema = "vendor.cloudbuild" if path == CLOUD_BUILD else "vendor.github-workflows"
    if path in BOTS:
        schema = "vendor.dependabot"
    if path in FORMS:
        schema = "vendor.github-issue-config" if path.name == "config.yml" else "vendor.github-issue-forms"
    command = [PYTHON, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*WORKFLOWS, CLOUD_BUILD], ids=lambda path: path.name)
def test_every_script_is_a_shells(path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for script in scripts(path):
        done = subprocess.run([bash, "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def words(script: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of ``program``."""
    for line in script.splitlines():
        for found in re.finditer(rf"(?:^|[\s(;&|]){re.escape(program)}((?: +[^;&|)\n]+)?)", line):
            yield shlex.split(found[1])


def test_the_commands_in_them_are_there_and_take_their_options() -> None:
    seen = set()
    for path in (*WORKFLOWS[:-1], CLOUD_BUILD):
        for script in scripts(path):
            assert ".ci/run" not in script or (ROOT / ".ci" / "run").is_file()
            for target, *_ in words(script, "make"):
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) or target in {"git"}
            for found in OWN.finditer(script):
                assert (ROOT / ".venv" / "bin" / found[1]).exists() or found[1] == "firelaunch"
                if found[1] == "firelaunch":
                    seen.add(check_command(shlex.split(found[2])))
            for arguments in words(script, "python3 tools/changed_apps.py"):
                assert options(arguments) <= {"--all", "--only", "--live", "--env", "--lines"}
    assert {"deploy", "rules build"} <= seen


def options(arguments: list[str]) -> set[str]:
    return {word for word in arguments if word.startswith("--")}


def check_command(arguments: list[str]) -> str:
    """That firelaunch has the command, with these options; its name."""
    command: click.Command = main
    context = click.Context(command)
    names = []
    while isinstance(command, click.Group):
        name = arguments.pop(0)
        found = command.get_command(context, name)
        assert found is not None, name
        names.append(name)
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert options(arguments) <= known, arguments
    return " ".join(names)


def test_what_a_pull_request_runs_has_no_secrets_and_may_write_nothing() -> None:
    for path in WORKFLOWS:
        content = read(path)
        assert "pull_request_target" not in content["on"]
        if path.name != "lock.yml":  # it writes a branch of its own, and runs by the clock or by hand alone
            assert content["permissions"] == {"contents": "read"}
        if "pull_request" in content["on"]:
            assert content["permissions"] == {"contents": "read"}
            assert "secrets." not in path.read_text()
            assert not any("permissions" in job for job in content["jobs"].values())


def test_a_deploy_has_no_key_but_a_token_of_its_run_and_is_never_broken_off() -> None:
    content = read(ROOT / ".github" / "workflows" / "deploy.yml")
    deploy = content["jobs"]["deploy"]
    assert deploy["permissions"] == {"contents": "read", "id-token": "write"}
    assert content["concurrency"]["cancel-in-progress"] is False
    # An environment has one group: a push to staging does not drop a deploy to production that waits.
    assert content["concurrency"]["group"] == f"deploy-{deploy['environment']}"
    assert deploy["env"]["TARGET"] == deploy["environment"]
    checkout = next(step for step in deploy["steps"] if "checkout" in step.get("uses", ""))
    assert checkout["with"]["fetch-depth"] == 0
    assert "pull_request" not in content["on"]
    assert "credentials_json" not in json.dumps(content)


def test_nothing_that_others_write_stands_in_a_script() -> None:
    """A branch's name or an input may hold shell commands; they go through variables."""
    for path in WORKFLOWS:
        assert not any("${{" in script for script in scripts(path)), path


def test_the_page_gives_the_deployer_the_roles_that_the_table_says() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    assert set(re.findall(r"roles/[\w.]+", page)) - {"roles/iam.workloadIdentityUser"} == {
        *(*PERMISSIONS.values(), QUOTA_VIEWER, *vertex.PERMISSIONS.values(), *sign_in.OF_TENANTS.values(), ALERT_ROLE),
        *(role for of_feature in FEATURE_PERMISSIONS.values() for role in of_feature.values()),
    }


# Which apps are to be deployed


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with three apps, one of which git ignores."""
    for name in ("one", "two", "ignored"):
        (tmp_path / "apps" / name / "tests").mkdir(parents=True)
        (tmp_path / "apps" / name / "firelaunch.toml").write_text("[app]\n")
        (tmp_path / "apps" / name / "tests" / "test_app.py").write_text("")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "x.py").write_text("")
    (tmp_path / ".gitignore").write_text("apps/ignored\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *command: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(["git", *name, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def changed(repo: Path, *arguments: str) -> list[str]:
    command = [PYTHON, str(ROOT / "tools" / "changed_apps.py"), *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_without_git_all_apps_that_were_uploaded_count_and_none_is_an_error(repo: Path) -> None:
    """ "gcloud builds submit" uploads no .git, and nothing that .gitignore names."""
    shutil.rmtree(repo / ".git")
    shutil.rmtree(repo / "apps" / "ignored")
    for arguments in (["--all"], ["--since", "HEAD^"]):
        assert changed(repo, *arguments) == ["one", "two"]
    shutil.rmtree(repo / "apps")
    for arguments in (["--all"], ["--since", "HEAD^"], ["--all", "--lines"]):
        command = [PYTHON, str(ROOT / "tools" / "changed_apps.py"), *arguments]
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert ".gitignore" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("path", "apps"),
    [
        ("apps/one/app/workflow.py", ["one"]),
        ("apps/two/firelaunch.toml", ["two"]),
        ("apps/two/tests/test_app.py", []),
        ("apps/one/README.md", []),
        ("apps/ones/app.py", []),
        ("README.md", []),
        ("docs/shared/x.md", []),
        ("shared/x.py", ["one", "two"]),
        ("requirements.lock", ["one", "two"]),
        ("firestore.rules", ["one", "two"]),
        ("functions/main.py", ["one", "two"]),
    ],
)
def test_an_app_is_deployed_when_its_files_or_what_is_shared_changed(repo: Path, path: str, apps: list[str]) -> None:
    before = git(repo, "rev-parse", "HEAD")
    (repo / path).parent.mkdir(parents=True, exist_ok=True)
    (repo / path).write_text("changed\n")
    commit(repo)
    commit(repo)
    assert changed(repo, "--since", before) == apps


def test_several_commits_count_together_and_an_app_that_is_gone_does_not(repo: Path) -> None:
    before = git(repo, "rev-parse", "HEAD")
    (repo / "apps" / "one" / "firelaunch.toml").write_text("changed\n")
    commit(repo)
    shutil.rmtree(repo / "apps" / "two")
    commit(repo)
    assert changed(repo, "--since", before) == ["one"]
    assert changed(repo, "--since", git(repo, "rev-parse", "HEAD")) == []


@pytest.mark.parametrize("since", ["0" * 40, "f" * 40, "HEAD^", "no such thing"])
def test_where_git_does_not_know_what_was_before_all_are_deployed(repo: Path, since: str) -> None:
    assert changed(repo, "--since", since) == ["one", "two"]


def test_one_app_may_be_named_if_it_is_there(repo: Path) -> None:
    assert changed(repo, "--only", "two") == ["two"]
    assert changed(repo, "--all") == ["one", "two"]
    with pytest.raises(subprocess.CalledProcessError):
        changed(repo, "--only", "ignored")
    with pytest.raises(subprocess.CalledProcessError):
        changed(repo, "--only", "$(id)")
