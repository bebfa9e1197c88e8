"""The short form of ``make soak``: it bounds files and threads, and says nothing of time or memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from soak.run import FIGURES, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the figures are those of /proc")


def test_a_loaded_app_opens_as_many_files_and_threads_as_its_bounds_allow(tmp_path: Path) -> None:
    report = run(tmp_path, 0.4)
    assert not report.failed
    assert sum(report.requests.values()) > 100
    # Of the index 32 connections and of the store 9, with a log each and sometimes a shared file; threads for clients.
    assert report.most["files"] < 180
    assert report.most["threads"] < 24 + 40
    assert set(report.slopes) == set(FIGURES)
