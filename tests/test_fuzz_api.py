"""The short form of ``make fuzz-api``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fuzz_api import PLANS, apps, fuzz


@pytest.mark.parametrize("budget", PLANS)
def test_a_served_app_answers_schemathesis_with_nothing_but_what_its_document_tells_of(
    budget: str, tmp_path: Path
) -> None:
    held, said = fuzz(apps(tmp_path)[budget], 6, "--seed", "1")
    assert held, said
    selected, tested = re.search(r"Selected: (\d+)/\d+\s+Tested: (\d+)", said).groups()  # type: ignore[union-attr]
    assert int(selected) == int(tested) > 10, said
