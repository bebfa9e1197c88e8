"""The short form of ``make fuzz-metering``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz_metering.run import fuzz


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_what_is_settled_is_what_the_provider_charged_whatever_goes_wrong(tmp_path: Path) -> None:
    report = fuzz(tmp_path, turns=120, seed=1)
    assert report.holds, report
    assert (report.difference_micro_usd, report.overruns, report.unsettled) == (0, 0, 0)
    assert (report.sums_difference_micro_usd, report.repaired_hours) == (0, 0)
    assert report.settled_micro_usd > 0
    assert report.killed > 0
    assert report.refused_for_budget > 0
    assert report.left_at_the_first_word > 0
    assert report.removed_meanwhile > 0
    assert report.erased_meanwhile > 0
