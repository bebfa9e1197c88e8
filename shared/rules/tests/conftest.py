"""Every test judges mutants anew: none finds verdicts of an earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_known_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RULES_TESTER_CACHE", str(tmp_path / "verdicts"))
