"""What holds for jobs however they are brought: by the app's own threads, or by Cloud Tasks over gRPC and HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, cloud_site, embedded_site
from firelaunch.errors import Conflict, InvalidId, NotFound, ScopeViolation, TooLarge
from firelaunch.jobs import Kind
from firelaunch.scope import Scope
from firelaunch.store.base import Create, Increment, Set, Update
from firelaunch.worker import JobDone, JobFailed, JobRun
from pydantic import BaseModel

ADA = Scope("demo", "ada")
BOB = Scope("demo", "bob")


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note)


@pytest.fixture(params=["embedded", "cloud_tasks"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made: AbstractContextManager[Site]
    if request.param == "embedded":
        made = embedded_site(tmp_path)
    else:
        made = cloud_site(tmp_path, request.getfixturevalue("emulator_store"), twice=0.3)
    with made as found:
        yield found


def counter(scope: Scope, name: str = "counter") -> str:
    return f"{scope.root}/things/{name}"


def count_of(site: Site, scope: Scope = ADA) -> int:
    found = site.services.store.get(counter(scope))
    return 0 if found is None else int(found.data["n"])


def add_one(scope: Scope) -> Set:
    return Set(counter(scope), {"n": Increment(1)}, merge=True)


def failing(site: Site, times: int, error: Callable[[], Exception] = lambda: OSError("secret detail")) -> list[int]:
    """Registers a handler that fails so many times, then adds one to the counter; gives the attempts seen."""
    seen: list[int] = []

    @site.handlers.on(NOTE)
    def handle(run: JobRun, payload: Note) -> JobDone:
        seen.append(run.attempt)
        if len(seen) <= times:
            raise error()
        return JobDone({"said": payload.text}, [add_one(run.scope)])

    return seen


def events_of(job: Any) -> list[str]:
    return [entry["event"] for entry in job.history]


def test_a_job_is_done_and_leaves_its_result_its_effect_and_its_history(site: Site) -> None:
    failing(site, 0)
    job = site.services.jobs.enqueue(ADA, NOTE, Note(text="hello"))
    assert job.state == "queued"
    ended = site.finished(job)
    assert (ended.state, ended.attempts, ended.result, ended.error) == ("succeeded", 1, '{"said":"hello"}', None)
    assert events_of(ended) == ["queued", "started", "succeeded"]
    assert count_of(site) == 1


def test_a_hundred_jobs_are_each_done_once(site: Site) -> None:
    failing(site, 0)
    jobs = [site.services.jobs.enqueue(ADA, NOTE, Note(text=str(n))) for n in range(100)]
    assert {site.finished(job).state for job in jobs} == {"succeeded"}
    assert count_of(site) == 100


def test_a_delayed_job_is_not_begun_before_its_time(site: Site) -> None:
    begun: list[datetime] = []

    @site.handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> None:
        begun.append(datetime.now(UTC))

    job = site.services.jobs.enqueue(ADA, NOTE, Note(), delay=0.5)
    site.finished(job)
    assert job.due_at is not None
    assert begun[0] > job.due_at - timedelta(seconds=0.05)


def test_a_key_stands_for_one_job_of_a_scope_however_often_it_is_put_off(site: Site) -> None:
    failing(site, 0)
    jobs = site.services.jobs
    first = jobs.enqueue(ADA, NOTE, Note(text="1"), key="monday")
    assert jobs.enqueue(ADA, NOTE, Note(text="2"), key="monday").id == first.id
    site.finished(first)
    assert jobs.enqueue(ADA, NOTE, Note(text="3"), key="monday").state == "succeeded"
    others = [jobs.enqueue(BOB, NOTE, Note(), key="monday"), jobs.enqueue(ADA, NOTE, Note(), key="tuesday")]
    assert len({first.id, *(site.finished(job).id for job in others)}) == 3
    assert (count_of(site), count_of(site, BOB)) == (2, 1)


def test_threads_that_put_off_the_same_key_at_once_make_one_job(site: Site) -> None:
    failing(site, 0)
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(site.services.jobs.enqueue(ADA, NOTE, Note(), key="k").id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    site.finished(site.job(ADA, ids[0]))
    assert count_of(site) == 1


def test_a_job_that_fails_is_tried_again_and_its_errors_are_kept_without_what_they_said(site: Site) -> None:
    seen = failing(site, 2)
    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert seen == [1, 2, 3]
    assert (ended.state, ended.attempts) == ("succeeded", 3)
    assert events_of(ended) == ["queued", "started", "failed", "started", "failed", "started", "succeeded"]
    assert {entry["error"]["type"] for entry in ended.history if entry["event"] == "failed"} == {"OSError"}
    assert "secret detail" not in str(site.services.store.get(ADA.job(ended.id)))
    assert count_of(site) == 1


def test_a_job_that_fails_each_time_is_dead_and_can_be_driven_on(site: Site) -> None:
    seen = failing(site, 4)
    dead = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (dead.state, dead.attempts) == ("dead", 3)
    assert dead.error is not None
    assert (dead.error["code"], dead.error["type"]) == ("internal", "OSError")
    assert [item["id"] for item in site.services.jobs.dead(10, None).items] == [dead.id]
    again = site.services.jobs.redrive(dead.id)
    assert (again.state, again.attempts) == ("queued", 0)
    ended = site.finished(again)
    assert (ended.state, ended.attempts, ended.error) == ("succeeded", 2, None)
    assert "redriven" in events_of(ended)
    assert seen == [1, 2, 3, 1, 2]
    assert site.services.jobs.dead(10, None).items == []
    with pytest.raises(Conflict):
        site.services.jobs.redrive(dead.id)


def test_a_job_that_its_handler_gives_up_is_dead_at_once_and_says_why(site: Site) -> None:
    seen = failing(site, 1, lambda: JobFailed("The file is empty."))
    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, seen) == ("dead", [1])
    assert ended.error == {"code": "job_failed", "message": "The file is empty.", "type": "JobFailed"}


@pytest.mark.parametrize("error", [InvalidId, TooLarge, lambda: ScopeViolation(reason="a path of bob's")])
def test_a_job_that_is_wrong_in_itself_is_tried_once(site: Site, error: Callable[[], Exception]) -> None:
    seen = failing(site, 1, error)
    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, seen) == ("dead", [1])
    assert "bob" not in str(ended.error)


def test_a_job_of_a_kind_that_no_handler_knows_is_tried_and_then_dead(site: Site) -> None:
    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, ended.attempts) == ("dead", 3)


def test_a_payload_that_its_kind_no_longer_takes_is_dead_at_once(site: Site) -> None:
    class Stricter(BaseModel):
        number: int

    site.handlers.on(Kind("note", Stricter))(lambda _, __: None)
    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note(text="hello")))
    assert (ended.state, ended.attempts) == ("dead", 1)


def test_a_job_that_waits_is_cancelled_at_once(site: Site) -> None:
    seen = failing(site, 0)
    jobs = site.services.jobs
    job = jobs.enqueue(ADA, NOTE, Note(), delay=3600)
    with pytest.raises(NotFound):
        jobs.cancel(BOB, job.id)
    assert jobs.cancel(ADA, job.id).state == "cancelled"
    assert site.runner.run(job.id, "note") == "gone"
    assert seen == []
    with pytest.raises(Conflict):
        jobs.cancel(ADA, job.id)


def test_a_job_that_runs_ends_when_its_handler_looks_after_it_was_cancelled(site: Site) -> None:
    begun, asked = threading.Event(), threading.Event()

    @site.handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> JobDone:
        begun.set()
        asked.wait(30)
        run.commit(add_one(run.scope))
        run.check()
        return JobDone({"whole": True})

    job = site.services.jobs.enqueue(ADA, NOTE, Note())
    assert begun.wait(30)
    assert site.services.jobs.cancel(ADA, job.id).cancel_requested
    asked.set()
    ended = site.finished(job)
    assert (ended.state, ended.result) == ("cancelled", None)
    assert count_of(site) == 1


def test_a_try_that_breaks_off_goes_on_from_its_last_checkpoint(site: Site) -> None:
    @site.handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> JobDone:
        for step in range(run.checkpoint or 0, 6):
            run.commit(add_one(run.scope), checkpoint=step + 1)
            if step in {1, 3}:
                raise OSError
        return JobDone({"steps": run.checkpoint})

    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, ended.attempts, ended.result) == ("succeeded", 3, '{"steps":6}')
    assert count_of(site) == 6


def test_an_effect_that_cannot_land_fails_the_try_and_leaves_nothing(site: Site) -> None:
    site.services.store.commit([Create(counter(ADA, "there"), {})])

    @site.handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> JobDone:
        return JobDone(writes=[add_one(run.scope), Create(counter(run.scope, "there"), {})])

    ended = site.finished(site.services.jobs.enqueue(ADA, NOTE, Note()))
    assert (ended.state, ended.attempts) == ("dead", 3)
    assert ended.error is not None
    assert ended.error["code"] == "already_exists"
    assert count_of(site) == 0


def test_a_handler_reaches_its_own_scope_and_nothing_else(site: Site) -> None:
    site.services.store.commit([Create(counter(BOB), {"n": 5})])
    refused: list[str] = []

    @site.handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> None:
        store, others = run.services.store, counter(BOB)
        attempts: dict[str, Callable[[], object]] = {
            "get": lambda: store.get(others),
            "commit": lambda: store.commit([Set(others, {})]),
            "fenced": lambda: run.commit(Set(others, {})),
            "app": lambda: store.get("apps/demo"),
            "jobs": lambda: store.get(run.scope.job(run.id)),
            "job record": lambda: run.commit(Update(run.scope.job(run.id), {"uid": "bob"})),
            "chats": lambda: run.services.chats.list(BOB, 1, None),
            "enqueue": lambda: run.services.jobs.enqueue(BOB, NOTE, Note()),
            "wider": lambda: store.within(Scope("demo")),
            "other app": lambda: run.services.within(Scope("other", "ada")),
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except ScopeViolation:
                refused.append(name)
        assert run.services.dev_identity is None
        assert refused == list(attempts)

    assert site.finished(site.services.jobs.enqueue(ADA, NOTE, Note())).state == "succeeded"
    assert count_of(site, BOB) == 5


def test_writes_that_are_others_when_they_are_looked_at_again_do_not_leave_the_scope(site: Site) -> None:
    """What was checked is what is written, also with the job's end."""
    site.services.store.commit([Create(counter(BOB), {"n": 5})])

    class Shifty(list[Set]):
        looks = 0

        def __iter__(self) -> Iterator[Set]:
            self.looks += 1
            return iter([Set(counter(ADA if self.looks == 1 else BOB), {"n": 7})])

    site.handlers.on(NOTE)(lambda _, __: JobDone(writes=Shifty()))

    assert site.finished(site.services.jobs.enqueue(ADA, NOTE, Note())).state == "succeeded"
    assert (count_of(site), count_of(site, BOB)) == (7, 5)


def test_a_job_of_the_app_itself_has_the_apps_scope(site: Site) -> None:
    scopes: list[Scope] = []
    site.handlers.on(NOTE)(lambda run, _: scopes.append(run.scope))
    job = site.services.jobs.enqueue(Scope("demo"), NOTE, Note())
    assert site.finished(job).state == "succeeded"
    assert scopes == [Scope("demo")]
    with pytest.raises(NotFound):
        site.job(ADA, job.id)


def test_a_job_whose_delivery_was_lost_is_brought_by_a_sweep(site: Site) -> None:
    failing(site, 0)
    jobs = site.services.jobs
    prepared = jobs.prepare(ADA, NOTE, Note(), delay=-1000)
    long_ago = datetime.now(UTC) - timedelta(seconds=1000)
    site.services.store.commit([Create(prepared.write.path, {**prepared.write.data, "due_at": long_ago})])
    jobs.sweep()
    assert site.finished(site.job(ADA, prepared.job_id)).state == "succeeded"
    assert jobs.sweep() == 0


def test_a_payload_that_is_too_large_is_refused_before_anything_is_stored(site: Site) -> None:
    with pytest.raises(TooLarge):
        site.services.jobs.enqueue(ADA, NOTE, Note(text="x" * 400_000))
    assert site.services.jobs.mine(ADA, 10, None).items == []
