"""Every benchmark runs, in its short form: what nobody runs for months would have rotted by the time it is asked."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import PYTHON, ROOT, clean_environ


def names() -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: tuple[str, ...] = module.NAMES
    return found


def short(*arguments: str, out: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, str(ROOT / "bench" / "run.py"), "--short", *arguments]
    environ = clean_environ(BENCH_OUT=str(out), **more)
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


ON_AN_EMULATOR = {"firestore_search", "growth", "processes"}
"""Benchmarks that take the emulator that there is, each with projects of its own names."""


@pytest.mark.parametrize("name", names())
def test_a_benchmarks_short_form_ends_with_figures(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    more = {}
    if name in ON_AN_EMULATOR:
        more["FIRESTORE_EMULATOR_HOST"] = request.getfixturevalue("firestore_emulator").host
    done = short(name, out=tmp_path, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped:" in done.stdout:
        return  # it says so itself where its data is not here
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["name"] == name
    assert report["short"] is True
    assert report["rows"]
    assert all(math.isfinite(row["value"]) for row in report["rows"])
    assert all(math.isfinite(value) for value in report["ratios"].values())
    assert set(report["more_is_better"]) <= report["ratios"].keys()
    assert done.stderr == ""
    picture = ElementTree.parse(tmp_path / f"{name}.svg")  # noqa: S314 - the repo's own
    assert {row["case"] for row in report["rows"]} <= {each.text for each in picture.iter()}


def test_each_module_that_measures_is_a_benchmark_by_name() -> None:
    with_a_main = {path.stem for path in (ROOT / "bench").glob("*.py") if "report = Report(" in path.read_text()}
    assert with_a_main == set(names())


def test_one_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    """A file stands where the folder of its figures would be."""
    (tmp_path / "out").touch()
    done = short("identity", "identity", out=tmp_path / "out")
    assert done.returncode == 1
    assert "failed: identity, identity" in done.stderr


RUN = {
    "name": "turn",
    "rows": [{"case": "a case " * 12, "metric": "CPU a turn", "value": 2.0, "unit": "ms"}],
    "ratios": {"cost": 2.0, "kept_up": 0.5},
    "more_is_better": ["kept_up"],
}


def compare(
    folder: Path, ratios: dict[str, float], *arguments: str, **more: object
) -> subprocess.CompletedProcess[str]:
    for name, run in (("before", RUN), ("after", {**RUN, "ratios": ratios, **more})):
        (folder / f"{name}.json").write_text(json.dumps(run))
    command = [ROOT / "bench" / "compare", folder / "before.json", folder / "after.json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("ratios", "worse"),
    [
        ({"cost": 2.0, "kept_up": 0.5}, []),
        ({"cost": 2.3, "kept_up": 0.43}, []),
        ({"cost": 1.0, "kept_up": 1.0}, []),
        ({"cost": 2.6, "kept_up": 0.5}, ["cost"]),
        ({"cost": 2.0, "kept_up": 0.4}, ["kept_up"]),
        ({"cost": 2.0, "kept_up": 0.0}, ["kept_up"]),
    ],
)
def test_two_runs_are_compared_and_a_ratio_that_became_worse_fails(
    tmp_path: Path, ratios: dict[str, float], worse: list[str]
) -> None:
    done = compare(tmp_path, ratios, "--worse", "1.2")
    assert [line.removeprefix("worse: ") for line in done.stdout.splitlines() if line.startswith("worse: ")] == worse
    assert done.returncode == bool(worse), done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert compare(tmp_path, ratios).returncode == 0


def test_a_ratio_that_is_not_measured_any_more_fails_too(tmp_path: Path) -> None:
    done = compare(tmp_path, {"cost": 2.0}, "--worse", "1.2")
    assert (done.returncode, "no longer measured: kept_up" in done.stdout) == (1, True)


@pytest.mark.parametrize("more", [{"name": "start"}, {"short": True}])
def test_runs_that_say_nothing_of_each_other_are_not_compared(tmp_path: Path, more: dict[str, object]) -> None:
    done = compare(tmp_path, {}, **more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
