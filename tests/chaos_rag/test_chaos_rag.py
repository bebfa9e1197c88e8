"""The short form of ``make chaos-rag``."""

from __future__ import annotations

from pathlib import Path

from chaos_rag.run import run


def test_documents_are_whole_after_kills_in_the_middle_of_indexing_and_re_embedding(tmp_path: Path) -> None:
    report = run(tmp_path, documents=6, kills=3)
    assert report.holds, report.examples
    assert not report.examples
    assert report.killed >= 1, "the half that comes while documents are indexed"
    assert (report.deleted >= 2, report.found_after_delete) == (True, 0)
