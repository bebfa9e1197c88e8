"""The fixtures of the tests of the repo as a whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browser import NO_BROWSER
from support import Server, copy_template, served


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell has what it starts in the background ignore SIGINT, and so would the processes that are tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _on_a_laptop() -> None:
    """Where CI is set a deploy takes no prompt that is not released; most tests are of a founder's own machine."""
    os.environ.pop("CI", None)


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    """The raw template, as an app of this test's own."""
    return copy_template(tmp_path / "my-app")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Serves apps until the test ends: ``serve(folder, OPENAI_API_KEY="...")``."""
    with ExitStack() as stack:
        yield lambda folder, **environ: stack.enter_context(served(folder, **environ))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One loud line each for what needs Node, and for what needs a browser."""
    for missing in ("no JavaScript SDK", NO_BROWSER):
        skipped = [r for r in terminalreporter.stats.get("skipped", []) if missing in str(r.longrepr)]
        if skipped:
            why = str(skipped[0].longrepr[2]).removeprefix("Skipped: ").splitlines()[0]
            terminalreporter.write_line(f"{len(skipped)} tests were SKIPPED: {why}", yellow=True, bold=True)
