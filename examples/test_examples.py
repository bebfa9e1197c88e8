"""Each example is an app as a founder has it: elsewhere, with its own checks, served, staged and ready to deploy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
from support import PYTHON, ROOT, clean_environ, mypy_cache, served

MEALCOACH = ROOT / "examples" / "mealcoach"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A copy of the example in a folder of its own."""
    leftovers = shutil.ignore_patterns(".firelaunch", "__pycache__", ".*_cache", ".venv")
    return Path(shutil.copytree(MEALCOACH, tmp_path / "mealcoach", ignore=leftovers))


def run(folder: Path, *command: str, **more: str) -> str:
    required = {name: os.environ[name] for name in ("REQUIRE_EMULATOR",) if name in os.environ}
    done = subprocess.run(
        [PYTHON, "-m", *command],
        cwd=folder,
        env=clean_environ(**required, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "check",
    [["pytest", "-q", "-p", "no:cacheprovider"], ["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=" ".join,
)
def test_an_example_passes_its_own_checks_elsewhere(app: Path, check: list[str]) -> None:
    with mypy_cache() if check == ["mypy"] else nullcontext({}) as more:
        run(app, *check, **more)


def test_an_example_is_staged_and_serves_from_what_was_staged(app: Path, tmp_path: Path) -> None:
    run(app, "firelaunch_cli", "stage", ".", "--out", str(tmp_path / "staged"))
    with served(tmp_path / "staged" / "service") as server:
        ada, bob = server.sign_in("ada"), server.sign_in("bob")
        meal = ada.call("POST", "/api/meals", {"name": "Soup", "kcal": 300, "day": "2026-03-02"})
        assert meal.status_code == 201, meal.text
        where = f"/api/meals/{meal.json()['id']}"
        assert ada.call("GET", where).json()["name"] == "Soup"
        assert bob.call("GET", where).status_code == 404
        assert ada.call("GET", "/v1/ops/schedules").status_code == 403
        admin = server.sign_in("eve", role="admin")
        assert [each["name"] for each in admin.call("GET", "/v1/ops/schedules").json()["items"]] == ["weekly_summary"]


def test_a_dry_run_deploys_what_an_example_declares(app: Path) -> None:
    plan = run(app, "firelaunch_cli", "deploy", ".", "--dry-run")
    assert "gcloud run deploy mealcoach" in plan
    assert re.search(r"schedules +weekly_summary: 0 7 \* \* 1, Europe/Berlin", plan)
    assert re.search(r"events +meal_written: apps/mealcoach/users/\{uid\}/meals/\{meal\}", plan)
    assert re.search(r"queries +an index of meals: kind, -day", plan)


def test_an_example_is_ready_to_move_to_a_project_of_its_own(app: Path, tmp_path: Path) -> None:
    run(app, "firelaunch_cli", "eject", ".", "--to", "my-new-project", "--out", str(tmp_path / "ejected"))
    assert "match /users/{uid}/meals/{meal}" in (tmp_path / "ejected" / "firestore.rules").read_text()
    assert 'project = "my-new-project"' in (tmp_path / "ejected" / "app" / "firelaunch.toml").read_text()


def test_an_example_is_as_small_as_its_page_says() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (MEALCOACH / "app").rglob("*.py"))
    said = re.search(r"with less than (\d+) lines of Python", (ROOT / "docs" / "your-app.md").read_text())
    assert said is not None
    assert lines < int(said[1])
