"""The generator: what it makes, from where, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tomllib
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cookiecutter.exceptions import CookiecutterException  # type: ignore[import-untyped]
from cookiecutter.main import cookiecutter  # type: ignore[import-untyped]
from firelaunch.scope import APP_ID
from firelaunch.settings.app import AppSettings, Settings
from hypothesis import given
from hypothesis import strategies as st
from support import PYTHON, ROOT, TEMPLATE, clean_environ, mypy_cache

ANSWERS = ("app_name", "app_slug", "description", "project", "region", "model_provider", "index")


@pytest.fixture(autouse=True)
def _own_cookiecutter_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own is read, and nothing is written to the home folder."""
    config = tmp_path / "cookiecutter.yaml"
    config.write_text(f"replay_dir: {tmp_path}/replay\ncookiecutters_dir: {tmp_path}/clones\n")
    monkeypatch.setenv("COOKIECUTTER_CONFIG", str(config))


@pytest.fixture
def bake(tmp_path: Path) -> Any:
    """Makes an app in a folder of the test, as ``cookiecutter --no-input`` does; returns the app's folder."""

    def make(template: Path | str = ROOT, folder: Path = tmp_path / "made", **answers: str) -> Path:
        return Path(cookiecutter(str(template), no_input=True, extra_context=answers, output_dir=str(folder)))

    return make


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A copy of what a clone of this repo holds for the generator."""
    copy = tmp_path / "firelaunch.git"
    leftovers = shutil.ignore_patterns("__pycache__", ".*_cache", ".firelaunch")
    for name in ("template", "shared"):
        shutil.copytree(ROOT / name, copy / name, ignore=leftovers)
    for name in ("cookiecutter.json", "firestore.rules"):
        shutil.copy(ROOT / name, copy)
    (copy / "apps").mkdir()
    return copy


def git(folder: Path, *command: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(["git", *name, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def committed(repo: Path) -> Path:
    git(repo, "init", "--quiet")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "First")
    return repo


def source(app: Path) -> dict[str, Any]:
    """Where an app takes firelaunch from."""
    sources: dict[str, Any] = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["uv"]["sources"]
    ours = sources["firelaunch"]
    for name, part in (("firelaunch-cli", "cli"), ("firelaunch-rules-tester", "rules")):
        there = {key: value for key, value in ours.items() if key not in ("path", "subdirectory")}
        key = "path" if "path" in ours else "subdirectory"
        assert sources[name] == {**there, key: ours[key].removesuffix("firelaunch") + part}
    return dict(ours)


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("of_the_template", ROOT / "template" / path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


HOOK = module("hooks/post_gen_project.py")
RULES = module("firelaunch_answers.py")
RAW = (TEMPLATE / "firelaunch.toml").read_text()
RAW_PROJECT = (TEMPLATE / "pyproject.toml").read_text()


# What is made


def test_every_answer_is_a_setting(bake: Any) -> None:
    answers = {
        "app_name": 'Zoës "Shop" \\ 🚀 \'\'\'"""',
        "app_slug": "zoes-shop",
        "description": "Öffnet c:\\new um 9 ${x} #1 = [a]",
        "project": "zoes-project",
        "region": "us-central1",
        "model_provider": "vertex",
        "index": "pgvector",
    }
    app = bake(**answers)
    settings = Settings.load(app / "firelaunch.toml", {})
    assert (settings.app.name, settings.app.id, settings.app.description) == tuple(
        answers[name] for name in ("app_name", "app_slug", "description")
    )
    assert (settings.cloud.project, settings.cloud.region) == ("zoes-project", "us-central1")
    assert (settings.models.provider, settings.index.backend) == ("vertex", "pgvector")
    project = tomllib.loads((app / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["description"]) == ("zoes-shop", answers["description"])
    assert (app / "README.md").read_text().startswith(f"# {answers['app_name']}\n")
    assert json.loads((app / ".firelaunch-answers.json").read_text())["answers"] == answers


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Garden", "garden"),
        ("The garden planner of the whole", "the-garden-planner-of-the-whole"),
        ("The garden planner of the whole town", "the-garden-planner-of-the-whole"),
        ("The garden planner of the neighbourhood", "the-garden-planner-of-the"),
        ("x" * 40, "x" * 31),
    ],
)
def test_an_id_that_is_proposed_can_be_deployed_and_ends_with_a_whole_word(bake: Any, name: str, slug: str) -> None:
    assert bake(app_name=name).name == slug


def test_no_answer_changes_code(bake: Any) -> None:
    one = bake(app_slug="one")
    other = bake(app_slug="other", model_provider="vertex", index="firestore", project="some-project")
    for path in [*one.rglob("*.py"), *(one / "app" / "prompts").iterdir()]:
        twin = other / path.relative_to(one)
        raw = TEMPLATE / path.relative_to(one)
        assert path.read_bytes() == twin.read_bytes() == raw.read_bytes()


one_line = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=100)


@given(one_line, one_line)
def test_any_line_of_text_comes_back_from_the_settings_as_it_was_answered(name: str, description: str) -> None:
    answers = {**dict.fromkeys(ANSWERS, "x"), "app_name": name, "description": description}
    app = tomllib.loads(HOOK.settings(RAW, answers))["app"]
    assert (app["name"], app["description"]) == (name, description)
    project = tomllib.loads(HOOK.project(RAW_PROJECT, answers, {"firelaunch": "{ path = 'x' }"}))["project"]
    assert project["description"] == description


def test_comments_and_the_order_of_the_settings_stay() -> None:
    answers = dict.fromkeys(ANSWERS, "x")
    made, raw = HOOK.settings(RAW, answers).splitlines(), RAW.splitlines()
    changed = [line for line, before in zip(made, raw, strict=True) if line != before]
    assert len(changed) == len(ANSWERS)
    assert all(line.endswith(' = "x"') for line in changed)


def test_the_templates_own_settings_are_the_questions_defaults() -> None:
    asked = json.loads((ROOT / "template" / "cookiecutter.json").read_text())
    questions = {name: value for name, value in asked.items() if not name.startswith("_")}
    assert tuple(questions) == ANSWERS
    defaults = {name: value[0] if isinstance(value, list) else value for name, value in questions.items()}
    assert HOOK.settings(RAW, {**defaults, "app_slug": "my-app"}) == RAW
    assert set(asked["__prompts__"]) == set(ANSWERS)


def test_what_running_the_raw_template_leaves_behind_is_in_no_app(repo: Path, bake: Any) -> None:
    raw = repo / "template" / TEMPLATE.name
    for name in (".firelaunch", ".venv", ".mypy_cache", ".ruff_cache", "app/__pycache__", "web/node_modules/x"):
        folder = raw / name
        folder.mkdir(parents=True)
        (folder / "left.json").write_text("{{ {% not jinja")
    made = {path.name for path in bake(repo).rglob("*")}
    assert "left.json" not in made
    assert "workflow.py" in made


def test_an_app_is_refused_where_one_is_and_the_one_there_is_left_alone(bake: Any) -> None:
    app = bake(app_slug="mine")
    (app / "app" / "workflow.py").write_text("# my own work\n")
    before = {path: path.read_bytes() for path in app.rglob("*") if path.is_file()}
    with pytest.raises(CookiecutterException, match="already exists"):
        bake(app_slug="mine", app_name="Another")
    assert {path: path.read_bytes() for path in app.rglob("*") if path.is_file()} == before


# What is refused

LONG = "x" * 5000
BAD = [
    *(("app_slug", slug) for slug in ("../x", "a/b/c", "/x", ".", "..", "", "A B", "-x", "x-", "9x", "ünï", "a\\b")),
    *(("app_slug", slug) for slug in ("x\n", "con", "lpt1", "x" * 50, LONG)),
    *(("app_name", name) for name in ("", "  ", "two\nlines", "a\x00b", "a\x7fb", "a\u2028b", "x" * 101)),
    *(("description", text) for text in ("two\nlines", "\x1b[31m", "x" * 501)),
    *(("project", name) for name in ("x", "Upper-Case", "ends-", "under_score", "x" * 31)),
    *(("region", name) for name in ("", "mars", "europe", "Europe-West1", "europe-west1 ")),
    ("model_provider", "anthropic"),
    ("index", "faiss"),
]


@pytest.mark.parametrize(("question", "answer"), BAD, ids=lambda value: ascii(value)[:30])
def test_a_bad_answer_is_named_and_leaves_nothing(bake: Any, tmp_path: Path, question: str, answer: str) -> None:
    folder = tmp_path / "deep" / "made"
    folder.mkdir(parents=True)
    good = {} if question == "app_slug" else {"app_slug": "good"}
    with pytest.raises((CookiecutterException, ValueError)) as refused:
        bake(folder=folder, **good, **{question: answer})
    assert question in str(refused.value)
    assert len(str(refused.value)) < 400
    assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]


def test_on_the_command_line_a_refusal_is_one_line_and_a_failure(tmp_path: Path) -> None:
    command = [PYTHON, "-m", "cookiecutter", str(ROOT), "--no-input", "app_slug=../x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("\n") == 1
    assert "app_slug is '../x'" in done.stdout


@given(st.text(alphabet="abz09-A_ ", max_size=52))
def test_the_generator_takes_the_slugs_that_firelaunch_takes(slug: str) -> None:
    if APP_ID.fullmatch(slug):
        assert RULES.checked(slug, "app_slug") == ""
    else:
        with pytest.raises(CookiecutterException):
            RULES.checked(slug, "app_slug")


def test_the_generator_and_the_settings_agree_on_lengths() -> None:
    limits = {"app_name": AppSettings.model_fields["name"], "description": AppSettings.model_fields["description"]}
    for question, field in limits.items():
        most = next(item.max_length for item in field.metadata if hasattr(item, "max_length"))
        assert RULES.LENGTHS[question] == most


# Where the template, and then firelaunch, comes from


def test_an_app_inside_the_repo_shares_its_firelaunch(repo: Path, bake: Any) -> None:
    app = bake(repo, folder=repo / "apps")
    assert source(app) == {"path": "../../shared/firelaunch", "editable": True}
    assert (app / "../../shared/firelaunch/pyproject.toml").is_file()


def test_an_app_made_from_a_path_elsewhere_names_that_path(repo: Path, bake: Any) -> None:
    committed(repo)
    assert source(bake(repo)) == {"path": str(repo / "shared/firelaunch"), "editable": True}


def test_the_path_may_be_relative_and_lead_to_the_template_itself(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(repo)
    monkeypatch.chdir(tmp_path)
    for number, directory in enumerate((None, "template")):
        app = cookiecutter(repo.name, no_input=True, directory=directory, extra_context={"app_slug": f"app-{number}"})
        assert source(Path(app)) == {"path": str(repo / "shared/firelaunch"), "editable": True}


def test_an_app_made_from_a_git_url_names_that_url_and_the_release(repo: Path, bake: Any, tmp_path: Path) -> None:
    url = f"file://{committed(repo)}"
    commit = git(repo, "rev-parse", "HEAD")
    assert source(bake(url, app_slug="unreleased")) == {"git": url, "rev": commit, "subdirectory": "shared/firelaunch"}
    version = tomllib.loads((repo / "shared/firelaunch/pyproject.toml").read_text())["project"]["version"]
    git(repo, "tag", f"v{version}")
    assert source(bake(url, app_slug="released")) == {
        "git": url,
        "tag": f"v{version}",
        "subdirectory": "shared/firelaunch",
    }


def test_an_app_made_from_a_zip_takes_its_firelaunch_along(repo: Path, bake: Any, tmp_path: Path) -> None:
    git(committed(repo), "archive", "--prefix=firelaunch-main/", "--output", str(tmp_path / "main.zip"), "HEAD")
    app = bake(tmp_path / "main.zip")
    assert source(app) == {"path": "vendor/firelaunch"}
    assert (app / "vendor/firelaunch/src/firelaunch/server/app.py").is_file()
    assert tomllib.loads((app / "vendor/firelaunch/pyproject.toml").read_text())["project"]["name"] == "firelaunch"
    assert not (app / "vendor/firelaunch/tests").exists()
    command = [PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=app / "vendor" / "cli", capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:  # an app tests itself under these, wherever it was made
        assert archive.read("firelaunch_cli/rules/firestore.rules") == (ROOT / "firestore.rules").read_bytes()


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://example.com/me/firelaunch.git", "https://example.com/me/firelaunch.git"),
        ("https://me:secret@example.com/me/firelaunch", "https://example.com/me/firelaunch"),
        ("git@example.com:me/firelaunch.git", "ssh://git@example.com/me/firelaunch.git"),
        ("ssh://git@example.com:2222/me/firelaunch.git", "ssh://git@example.com:2222/me/firelaunch.git"),
    ],
)
def test_a_remote_is_written_down_as_a_url_without_its_password(remote: str, url: str) -> None:
    assert HOOK.url(remote) == url


def test_an_app_elsewhere_is_started_by_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv, or the firelaunch of the repo; where there is neither, it says how to get uv."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    monkeypatch.setenv("PATH", str(bin_folder))
    assert HOOK.firelaunch(tmp_path) == "python3 -m pip install uv && python3 -m uv run firelaunch"
    own = tmp_path / "my clone" / ".venv" / "bin" / "firelaunch"
    own.parent.mkdir(parents=True)
    own.touch()
    assert HOOK.firelaunch(tmp_path / "my clone") == f"'{own}'"
    (bin_folder / "uv").touch(mode=0o755)
    assert HOOK.firelaunch(tmp_path / "my clone") == "uv run firelaunch"


# What an app is worth


FOUNDERS_TEST = '''"""A founder's test: lists of few and of several are right for strict type checks."""

from pathlib import Path

from firelaunch import Collection, Record, crud
from firelaunch.testing.indexes import missing_indexes


class Meal(Record):
    name: str


class Loan(Record):
    tool: str


meals = Collection("meals", Meal)
loans = Collection("loans", Loan)
everything = [meals, loans]
by_name = {"meals": meals, "loans": loans}


def test_of_routes_and_indexes() -> None:
    crud(meals, only=("list",))
    crud(meals, only=["list"])
    crud(meals, only={"list"})
    crud(meals, only=("list", "add"))
    for collections in (everything, (meals, loans), [meals], list(by_name.values())):
        assert missing_indexes(Path("app"), collections) == []
'''


@pytest.mark.parametrize("check", [["pytest", "-q", "-p", "no:cacheprovider"], ["ruff", "check"], ["mypy"]], ids=str)
def test_a_new_app_passes_its_own_checks(bake: Any, check: list[str]) -> None:
    app = bake(app_name='A new "app"', model_provider="vertex", project="some-project")
    (app / "tests" / "test_lists.py").write_text(FOUNDERS_TEST)
    passes(app, check)


def test_the_raw_template_passes_its_own_tests_in_place() -> None:
    passes(TEMPLATE, ["pytest", "-q", "-p", "no:cacheprovider"])


def passes(folder: Path, check: list[str]) -> None:
    command = [PYTHON, "-m", *check]
    with mypy_cache() if check == ["mypy"] else nullcontext({}) as more:
        environ = clean_environ(**more)
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
