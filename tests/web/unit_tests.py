"""The tests of the web client's functions, which Node runs without a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["unit_tests"]

_TESTS = Path(__file__).parent / "unit"
_READER = {"TZ": "America/New_York", "LC_ALL": "en_US.UTF-8", "LANG": "en_US.UTF-8"}


def unit_tests(site: Path) -> None:
    """Bundle the tests with the sources of a site that was built, and run them.

    Raises:
        AssertionError: a test failed; the message has Node's report.
    """
    folder = shutil.copytree(_TESTS, site / "unit", dirs_exist_ok=True)
    bundler = site.parent / "node_modules" / ".bin" / "rolldown"
    made = site / "dist-unit"
    for test in sorted(folder.glob("*.test.ts")):
        _run(bundler, test, "--dir", made, "--platform", "node")
    _run("node", "--test", *sorted(made.glob("*.js")))


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, env={**os.environ, **_READER}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
