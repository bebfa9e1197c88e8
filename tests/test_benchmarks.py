"""Every benchmark runs, in its short form: what nobody runs for months would have rotted by the time it is asked."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
from pathlib import Path

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


def short(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, str(ROOT / "bench" / "run.py"), "--short", *arguments]
    return subprocess.run(command, env=clean_environ(BENCH_OUT=str(out)), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", names())
def test_a_benchmarks_short_form_ends_with_figures(name: str, tmp_path: Path) -> None:
    done = short(name, out=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped:" in done.stdout:
        return  # it says so itself where its data is not here
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["name"] == name
    assert report["short"] is True
    assert report["rows"]
    assert all(math.isfinite(row["value"]) for row in report["rows"])
    assert all(math.isfinite(value) for value in report["ratios"].values())


def test_each_module_that_measures_is_a_benchmark_by_name() -> None:
    with_a_main = {path.stem for path in (ROOT / "bench").glob("*.py") if "report = Report(" in path.read_text()}
    assert with_a_main == set(names())


def test_one_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    """A file stands where the folder of its figures would be."""
    (tmp_path / "out").touch()
    done = short("identity", "identity", out=tmp_path / "out")
    assert done.returncode == 1
    assert "failed: identity, identity" in done.stderr
