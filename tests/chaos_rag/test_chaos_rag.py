"""The short form of ``make chaos-rag``."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch.testing.emulator import Emulator

from chaos_rag.run import PHASES, run


def test_documents_are_whole_after_kills_deletions_and_cancellations_in_the_middle_of_the_work(tmp_path: Path) -> None:
    report = run(tmp_path, documents=6, kills=3, doomed=len(PHASES))
    assert report.holds, report.examples
    assert not report.examples
    assert report.killed >= 1, "the half that comes while documents are indexed"
    assert report.deleted >= 2


@pytest.mark.long
def test_so_they_are_on_firestore(tmp_path: Path, firestore_emulator: Emulator, firestore_project: str) -> None:
    report = run(tmp_path, documents=3, kills=1, doomed=2, emulator=(firestore_emulator, firestore_project))
    assert report.holds, report.examples
    assert not report.examples
