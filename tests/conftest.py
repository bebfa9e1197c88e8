"""The fixtures of the tests of the repo as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import Server, copy_template, served


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    """The raw template, as an app of this test's own."""
    return copy_template(tmp_path / "my-app")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Serves apps until the test ends: ``serve(folder, OPENAI_API_KEY="...")``."""
    with ExitStack() as stack:
        yield lambda folder, **environ: stack.enter_context(served(folder, **environ))
