"""Jobs in the app's own process: they survive it, its threads end with it, and it is no laptop's way on Cloud Run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from fakes.jobs import JOB_SETTINGS, embedded_site
from firelaunch.errors import JobsUnavailable, SettingsError
from firelaunch.jobs import Kind
from firelaunch.jobs.embedded import EmbeddedBackend
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.worker import JobDone, JobRun
from pydantic import BaseModel

ADA = Scope("demo", "ada")
CLOUD = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note)


def test_jobs_that_are_left_are_done_by_the_next_process(tmp_path: Path) -> None:
    with embedded_site(tmp_path, started=False) as before:
        job = before.services.jobs.enqueue(ADA, NOTE, Note(text="later"))
    with embedded_site(tmp_path) as after:
        after.handlers.on(NOTE)(lambda _, payload: JobDone(payload.text))
        ended = after.finished(job)
    assert (ended.state, ended.result) == ("succeeded", '"later"')


def test_the_lease_of_a_process_that_is_gone_is_taken_back(tmp_path: Path) -> None:
    from firelaunch.jobs.lease import Lease, take

    settings = JOB_SETTINGS.replace("lease_seconds = 30", "lease_seconds = 0.2")
    with embedded_site(tmp_path, settings=settings, started=False) as before:
        job = before.services.jobs.enqueue(ADA, NOTE, Note())
        assert isinstance(take(before.services.jobs, job.id, None), Lease)
    with embedded_site(tmp_path) as after:
        after.handlers.on(NOTE)(lambda _, __: None)
        ended = after.finished(job)
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert "worker_lost" in [entry["event"] for entry in ended.history]


def test_a_lease_is_renewed_for_as_long_as_the_handler_works(tmp_path: Path) -> None:
    settings = JOB_SETTINGS.replace("lease_seconds = 30", "lease_seconds = 2")  # less, and a loaded machine loses it
    with embedded_site(tmp_path, settings=settings) as site:
        tries: list[int] = []

        @site.handlers.on(NOTE)
        def handle(run: JobRun, _: Note) -> None:
            tries.append(run.attempt)
            until = site.job(ADA, run.id).due_at
            give_up = time.monotonic() + 30
            while time.monotonic() < give_up:
                now = site.job(ADA, run.id).due_at
                assert now is not None
                assert until is not None
                if (now - until).total_seconds() > 4:
                    return
                time.sleep(0.05)

        ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, tries) == ("succeeded", [1])


def test_a_try_that_takes_too_long_is_stopped_at_its_next_check_and_tried_again(tmp_path: Path) -> None:
    brief = Kind("brief", Note, seconds=0.05)
    with embedded_site(tmp_path) as site:

        @site.handlers.on(brief)
        def handle(run: JobRun, _: Note) -> None:
            give_up = time.monotonic() + 30
            while time.monotonic() < give_up and run.attempt == 1:
                run.check()

        ended = site.finished(site.services.jobs.enqueue(ADA, brief, Note()))
    assert (ended.state, ended.attempts) == ("succeeded", 2)


def test_a_process_that_is_told_to_end_gives_its_job_back_unspent_and_takes_no_other(tmp_path: Path) -> None:
    with embedded_site(tmp_path) as site:
        begun, told = threading.Event(), threading.Event()

        @site.handlers.on(NOTE)
        def handle(run: JobRun, _: Note) -> None:
            begun.set()
            assert told.wait(30)
            run.check()

        job = site.services.jobs.enqueue(ADA, NOTE, Note())
        assert begun.wait(30)
        site.app.shutdown.begin()
        told.set()
        jobs = site.services.jobs
        assert jobs.backend is not None
        other = jobs.enqueue(ADA, NOTE, Note())
        jobs.backend.stop()
        left = site.job(ADA, job.id)
        assert (left.state, left.attempts, left.history[-1]["event"]) == ("queued", 0, "released")
        assert site.job(ADA, other.id).attempts == 0


def test_a_database_that_fails_for_a_while_does_not_end_the_threads(tmp_path: Path) -> None:
    with embedded_site(tmp_path, started=False) as site:
        ended = threading.Event()
        failures = iter(range(3))

        def due(most: int) -> list[str]:
            if next(failures, None) is not None:
                raise OSError
            return site.services.jobs.due(most)

        site.handlers.on(NOTE)(lambda _, __: ended.set())
        job = site.services.jobs.enqueue(ADA, NOTE, Note())
        assert site.services.jobs.backend is not None
        site.services.jobs.backend.start(due, site.runner.run)
        assert site.finished(job).state == "succeeded"


def test_threads_are_refused_on_cloud_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K_SERVICE", "demo")
    with pytest.raises(SettingsError):
        EmbeddedBackend(1)


def test_the_cloud_never_gets_the_threads_and_says_what_is_missing(tmp_path: Path) -> None:
    bare = build(Settings.load(write_app(tmp_path / "bare"), CLOUD))
    assert bare.jobs.backend is None
    assert bare.internal is None
    with pytest.raises(JobsUnavailable, match=r"jobs\.url"):
        bare.jobs.prepare(ADA, NOTE, Note())
    settings = SETTINGS + '[jobs]\nurl = "https://demo.example"\nservice_account = "jobs@p-12345"\n'
    whole = build(Settings.load(write_app(tmp_path / "whole", settings), CLOUD))
    assert type(whole.jobs.backend).__name__ == "CloudTasksBackend"
    assert whole.internal is not None
