"""The short form of ``make chaos-budget``."""

from __future__ import annotations

from pathlib import Path

from chaos_budget.run import Load, run


def test_guests_never_pass_their_ceiling_whatever_dies(tmp_path: Path) -> None:
    report = run(tmp_path, Load(users=30, clients=3, processes=2, kills=2, ceiling_usd="0.06"), seed=1)
    assert report.holds, report
    assert report.kills > 0
    assert report.refused > 0
