"""Requests go first: who pauses for whom, and for how long at most."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.jobs import JOB_SETTINGS, embedded_site
from firelaunch import precedence
from firelaunch.jobs import Kind
from firelaunch.scope import Scope
from firelaunch.shutdown import Shutdown
from firelaunch.worker import Handlers, JobRun, Runner
from pydantic import BaseModel

LONG = 60.0


class Nothing(BaseModel):
    """A payload."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Claims and pauses last until they are ended, however slow this machine is."""
    monkeypatch.setattr(precedence, "CLAIM_SECONDS", LONG)
    monkeypatch.setattr(precedence, "_MOST_SAVED", LONG)
    monkeypatch.setattr(precedence, "_PAUSE_FOR_WORK", 1e9)
    yield
    precedence.release()


def use_the_processor() -> None:
    """Work until the clock of this thread's processor time has moved."""
    began = time.thread_time()
    while time.thread_time() - began < 0.001:
        pass


def in_background(events: list[str]) -> threading.Thread:
    """Start a thread that works in the background; it gives way once."""

    def work() -> None:
        with precedence.background():
            use_the_processor()
            events.append("arrived")
            precedence.give_way()
            events.append("went on")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    while not condition():
        time.sleep(0.001)


@pytest.mark.usefixtures("patient")
def test_background_work_pauses_until_the_claim_is_released() -> None:
    events: list[str] = []
    precedence.claim()
    thread = in_background(events)
    until(lambda: "arrived" in events)
    thread.join(0.05)
    events.append("released")
    precedence.release()
    thread.join()
    assert events == ["arrived", "released", "went on"]


def test_a_claim_that_is_never_released_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "_MOST_SAVED", LONG)
    monkeypatch.setattr(precedence, "_PAUSE_FOR_WORK", 1e9)
    events: list[str] = []
    precedence.claim()
    in_background(events).join(30)
    precedence.release()
    assert events == ["arrived", "went on"]


def test_background_work_goes_on_in_the_end_though_others_never_stop_claiming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "CLAIM_SECONDS", LONG)
    events: list[str] = []
    precedence.claim()
    in_background(events).join(30)
    precedence.release()
    assert events == ["arrived", "went on"]


@pytest.mark.usefixtures("patient")
def test_a_thread_that_answers_somebody_never_pauses_for_others() -> None:
    events: list[str] = []

    def answer() -> None:
        precedence.claim()
        use_the_processor()
        precedence.give_way()
        events.append("answered")
        precedence.release()

    precedence.claim()
    thread = threading.Thread(target=answer)
    thread.start()
    thread.join(30)
    assert events == ["answered"]


@pytest.mark.usefixtures("patient")
def test_only_a_thread_that_has_claimed_can_renew_its_claim() -> None:
    events: list[str] = []
    precedence.renew()  # by a job, whose turn nobody waits for
    in_background(events).join(30)
    assert events == ["arrived", "went on"]


def test_the_interpreter_switches_threads_faster_while_there_is_background_work_and_then_as_before() -> None:
    usual = sys.getswitchinterval()
    with precedence.background():
        with precedence.background():
            assert sys.getswitchinterval() < usual
        assert sys.getswitchinterval() < usual
    assert sys.getswitchinterval() == usual


@pytest.mark.usefixtures("patient")
def test_a_job_pauses_before_it_stores_its_end_and_its_thread_before_the_next_job(tmp_path: Path) -> None:
    handlers, kind = Handlers(), Kind("note", Nothing)

    @handlers.on(kind)
    def handle(_: JobRun, __: Nothing) -> None:
        use_the_processor()
        precedence._claims[0] = time.monotonic() + LONG

    with embedded_site(tmp_path, settings=JOB_SETTINGS, started=False) as site:
        jobs, scope = site.services.jobs, Scope("demo", "ada")
        job = jobs.enqueue(scope, kind, Nothing())
        thread = threading.Thread(target=Runner(site.services, handlers, Shutdown()).run, args=(job.id,))
        thread.start()
        until(lambda: 0 in precedence._claims)
        thread.join(0.05)
        assert not jobs.get(scope, job.id).finished
        precedence._claims[0] = time.monotonic()
        with precedence._changed:
            precedence._changed.notify_all()
        until(lambda: jobs.get(scope, job.id).finished)
        thread.join()
        precedence._claims.clear()


@pytest.mark.usefixtures("patient")
def test_a_job_pauses_at_its_checks_while_a_request_is_answered_and_its_own_delivery_is_no_request(
    tmp_path: Path,
) -> None:
    handlers, events = Handlers(), list[str]()
    kind = Kind("note", Nothing)

    @handlers.on(kind)
    def handle(run: JobRun, _: Nothing) -> None:
        use_the_processor()
        events.append("arrived")
        run.check()
        events.append("went on")

    with embedded_site(tmp_path, settings=JOB_SETTINGS, started=False) as site:
        runner = Runner(site.services, handlers, Shutdown())
        jobs = [site.services.jobs.enqueue(Scope("demo", "ada"), kind, Nothing()) for _ in range(2)]

        def deliver() -> None:
            precedence.claim()  # as the server does for each request, also for one that brings a job
            runner.run(jobs[0].id)
            precedence.release()

        delivery = threading.Thread(target=deliver)
        delivery.start()
        delivery.join(30)
        assert events == ["arrived", "went on"]

        events.clear()
        precedence.claim()
        other = threading.Thread(target=runner.run, args=(jobs[1].id,))
        other.start()
        until(lambda: "arrived" in events)
        other.join(0.05)
        events.append("released")
        precedence.release()
        other.join()
    assert events == ["arrived", "released", "went on"]
