"""``firelaunch new function`` in an app: it is declared, and its test passes, and fails if the pattern is wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from commands import firelaunch
from support import PYTHON, TEMPLATE, clean_environ

MEALS = '''"""Meals."""

from firelaunch import Collection, Record


class Meal(Record):
    name: str


meals = Collection("meals", Meal, owner="user")
recipes = Collection("recipes", Meal, owner="app")
'''


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app with two collections, one of its users' and one of its own."""
    folder = tmp_path / "my-app"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__", ".firelaunch"))
    (folder / "app" / "meals.py").write_text(MEALS)
    start = folder / "app" / "__init__.py"
    text = start.read_text().replace("from . import workflow", "from . import meals, workflow")
    start.write_text(text.replace("App(__name__)", "App(__name__, collections=[meals.meals, meals.recipes])"))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ()
    return subprocess.run([PYTHON, *command], cwd=folder, env=environ, capture_output=True, text=True, check=False)


def new(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return firelaunch(folder, "new", "function", *words)


@pytest.mark.parametrize(
    ("words", "declared", "wrong"),
    [
        (("meal_written",), "events=[meal_written.meal_written]", ("meals/{", "recipes/{")),
        (("recipe_written", "write", "recipes"), "events=[recipe_written.recipe_written]", ("recipes/{", "meals/{")),
        (("stored", "upload"), "events=[stored.stored]", ("pictures/{", "photos/{")),
        (("hello", "http"), "routes=[hello.routes]", ('"/hello"', '"/hullo"')),
    ],
)
def test_a_new_function_is_declared_and_its_test_passes_and_fails_if_its_pattern_is_wrong(
    app: Path, words: tuple[str, ...], declared: str, wrong: tuple[str, str]
) -> None:
    done = new(app, *words)
    assert done.returncode == 0, done.stderr
    name, start = words[0], (app / "app" / "__init__.py").read_text()
    assert f"collections=[meals.meals, meals.recipes], {declared})" in start
    test = f"tests/test_{name}.py"
    checked = run(app, "-m", "ruff", "check", f"app/{name}.py", "app/__init__.py", test)
    assert checked.returncode == 0, checked.stdout
    passed = run(app, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    code = app / "app" / f"{name}.py"
    code.write_text(code.read_text().replace(*wrong))
    assert run(app, "-m", "pytest", "-q", "-p", "no:cacheprovider", test).returncode == 1


def test_functions_are_added_to_those_that_are_declared(app: Path) -> None:
    for words in (("first",), ("second", "upload"), ("third", "http")):
        assert new(app, *words).returncode == 0
    start = (app / "app" / "__init__.py").read_text()
    assert "from . import first, meals, second, third, workflow" in start
    assert "events=[first.first, second.second], routes=[third.routes]" in start


def test_a_function_is_declared_on_a_line_of_its_own_where_each_argument_has_one(app: Path) -> None:
    start = app / "app" / "__init__.py"
    lines = "App(\n        __name__,\n        collections=[meals.meals, meals.recipes],\n    )"
    start.write_text(start.read_text().replace("App(__name__, collections=[meals.meals, meals.recipes])", lines))
    assert new(app, "hello", "http").returncode == 0
    assert "recipes],\n        routes=[hello.routes],\n    )\n" in start.read_text()


def test_the_file_is_formatted_after_it_as_it_was_before(app: Path) -> None:
    names = [f"a_recipe_that_is_long_{number}" for number in range(1, 4)]
    start = app / "app" / "__init__.py"
    for name in names:
        assert new(app, name, "http").returncode == 0
    assert f"{names[0]}.routes, {names[1]}.routes, {names[2]}.routes],\n    )\n" in start.read_text(), (
        "an argument a line"
    )
    checked = run(app, "-m", "ruff", "format", "--check", "app/__init__.py")
    assert checked.returncode == 0, checked.stdout + start.read_text()


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("App(*[__name__], **{}, ", "to the arguments of App(...) events=[meal_written.meal_written]"),
        ("App(__name__, events=[] + [], ", "to the events of App(...)    meal_written.meal_written"),
    ],
)
def test_where_the_list_is_not_written_out_it_says_what_to_add_where(app: Path, call: str, place: str) -> None:
    start = app / "app" / "__init__.py"
    start.write_text(start.read_text().replace("App(__name__, ", call))
    before = start.read_text()
    done = new(app, "meal_written")
    assert done.returncode == 0, done.stderr
    assert place in done.stdout
    assert "to the imports               from . import meal_written" in done.stdout
    assert start.read_text() == before


HANDLERS = '''

@on_write("meals/{meal}")
def others(event: WriteEvent) -> None:
    """Another handler of meals."""


@on_upload("pictures/{name}")
def of_pictures(event: UploadEvent) -> None:
    """Another handler of pictures."""
'''


def test_its_test_passes_where_other_handlers_have_the_same_documents_and_files(app: Path) -> None:
    meals = app / "app" / "meals.py"
    text = meals.read_text().replace(
        "Collection, Record", "Collection, Record, UploadEvent, WriteEvent, on_upload, on_write"
    )
    meals.write_text(text + HANDLERS)
    start = app / "app" / "__init__.py"
    text = start.read_text()
    start.write_text(text.replace("meals.recipes])", "meals.recipes], events=[meals.others, meals.of_pictures])"))
    assert new(app, "written").returncode == 0
    assert new(app, "stored", "upload").returncode == 0
    passed = run(app, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_written.py", "tests/test_stored.py")
    assert passed.returncode == 0, passed.stdout + passed.stderr


@pytest.mark.parametrize(
    "words", [("Greet",), ("class",), ("a/b",), ("workflow",), ("x", "write", "snacks"), ("x", "storage"), (), ("",)]
)
def test_what_will_not_do_is_refused_and_nothing_is_written(app: Path, words: tuple[str, ...]) -> None:
    before = {path: path.read_text() for path in app.rglob("*.py")}
    done = new(app, *words)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert {path: path.read_text() for path in app.rglob("*.py") if "__pycache__" not in str(path)} == before
