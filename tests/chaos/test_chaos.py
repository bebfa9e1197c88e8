"""The short form of ``make chaos``: faults that need no rights over the machine, and kill no request."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.faults import FAULTS, Size, play

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the faults are those of Linux")

_SIZE = Size(users=3, seconds=2.0, streams=20)


@pytest.mark.parametrize("fault", ["descriptors", "memory-limit", "store-locked"])
def test_nothing_that_was_promised_is_lost_the_books_are_exact_and_the_app_comes_back(
    tmp_path: Path, fault: str
) -> None:
    outcome = play(fault, tmp_path / fault, _SIZE)
    assert not outcome.skipped
    assert outcome.holds, outcome


def test_each_fault_of_the_table_in_the_docs_can_be_played_and_each_that_can_be_played_is_in_it() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "faults.md").read_text()
    rows = [line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(FAULTS)
