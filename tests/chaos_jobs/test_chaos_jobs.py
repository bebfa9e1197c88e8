"""The short form of ``make chaos-jobs``."""

from __future__ import annotations

from pathlib import Path

from firelaunch.testing.emulator import Emulator

from chaos_jobs.run import on_cloud_tasks, on_threads


def test_jobs_in_threads_survive_their_processes(tmp_path: Path) -> None:
    report = on_threads(tmp_path, jobs=60, kills=4)
    assert report.holds, report.examples
    assert report.kills > 0


def test_jobs_of_cloud_tasks_survive_the_services_processes(
    tmp_path: Path, firestore_emulator: Emulator, firestore_project: str
) -> None:
    report = on_cloud_tasks(tmp_path, firestore_emulator, firestore_project, jobs=60, kills=4)
    assert report.holds, report.examples
    assert report.kills > 0
