"""The short form of ``make chaos-jobs``."""

from __future__ import annotations

from pathlib import Path

from firelaunch.testing.emulator import Emulator

from chaos_jobs.run import Load, on_cloud_tasks, on_threads

_LOAD = Load(jobs=40, kills=4, ticks=2, users=20)


def test_jobs_in_threads_survive_their_processes(tmp_path: Path) -> None:
    report = on_threads(tmp_path, _LOAD)
    assert report.holds, report.examples
    assert report.kills > 0
    assert report.ticks == 2


def test_jobs_of_cloud_tasks_survive_the_services_processes(
    tmp_path: Path, firestore_emulator: Emulator, firestore_project: str
) -> None:
    report = on_cloud_tasks(tmp_path, firestore_emulator, firestore_project, _LOAD)
    assert report.holds, report.examples
    assert report.kills > 0
    assert report.ticks == 2
