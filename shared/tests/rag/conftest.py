"""One index after another, for the suite that all of them must pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firelaunch.rag.index.base import Index
from firelaunch.rag.index.embedded import EmbeddedIndex

DIMENSIONS = 8
ADAPTERS = ["embedded"]


@pytest.fixture(params=ADAPTERS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    made: Index = request.getfixturevalue(f"{request.param}_index")
    yield made
    made.close()


@pytest.fixture
def embedded_index(tmp_path: Path) -> Index:
    return EmbeddedIndex(tmp_path / "index")
