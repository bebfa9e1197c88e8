"""``@job``: what it takes, what it refuses at start, and what enqueues it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.errors import BadRequest, ScopeViolation, SettingsError
from firelaunch.jobs import Job
from firelaunch.jobs.base import NoPayload
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.base import Increment, Set
from firelaunch.worker import JobDone, JobRun
from firelaunch.worker.job_definitions import job
from pydantic import BaseModel

ADA = Scope("demo", "ada")


class Greeting(BaseModel):
    name: str = "you"


class Strict(BaseModel):
    number: int


@job("greet", max_attempts=2, seconds=30)
def greet(run: JobRun, greeting: Greeting) -> JobDone:
    return JobDone({"said": f"Hello {greeting.name}"}, [count(run.scope, "greeted")])


@job("clean_up")
def clean_up(run: JobRun) -> None:
    run.commit(count(run.scope, "cleaned"))


@job("strict")
def strict(run: JobRun, options: Strict) -> JobDone:
    return JobDone({"number": options.number})


@job("chain")
def chain(run: JobRun, greeting: Greeting) -> None:
    """Enqueue others, and fail the first time after that."""
    for _ in range(2):
        run.enqueue(greet, greeting)
    run.enqueue(greet, Greeting(name="other"))
    run.enqueue(greet, greeting, key="mine")
    if run.attempt == 1:
        raise OSError


def count(scope: Scope, name: str) -> Set:
    return Set(f"{scope.root}/things/{name}", {"n": Increment(1)}, merge=True)


def counted(site: Site, name: str, scope: Scope = ADA) -> int:
    document = site.services.store.get(f"{scope.root}/things/{name}")
    return 0 if document is None else int(document.data["n"])


@contextmanager
def running(folder: Path, *jobs: Any, started: bool = True, settings: str = JOB_SETTINGS) -> Iterator[Site]:
    with embedded_site(folder, declared=Declared(jobs=jobs), started=started, settings=settings) as site:
        yield site


def finished(site: Site, job: Job) -> Job:
    return site.finished(job)


def test_a_job_takes_its_payloads_model_its_limits_and_its_name_from_the_function(tmp_path: Path) -> None:
    assert (greet.kind.name, greet.kind.payload, greet.kind.max_attempts, greet.kind.seconds) == (
        "greet",
        Greeting,
        2,
        30,
    )
    assert clean_up.kind.payload is NoPayload
    with running(tmp_path, greet, clean_up) as site:
        ada = site.services.within(ADA)
        ended = finished(site, ada.enqueue(greet, Greeting(name="Ada")))
        assert (ended.state, ended.uid, ended.result) == ("succeeded", "ada", '{"said":"Hello Ada"}')
        assert finished(site, ada.enqueue(greet)).result == '{"said":"Hello you"}'
        assert finished(site, ada.enqueue(clean_up)).state == "succeeded"
        assert (counted(site, "greeted"), counted(site, "cleaned")) == (2, 1)
        assert finished(site, site.services.enqueue(clean_up)).uid is None
        assert counted(site, "cleaned", Scope("demo")) == 1


def test_a_job_can_be_called_as_the_function_that_it_is(tmp_path: Path) -> None:
    with running(tmp_path, started=False) as site:
        run = JobRun("j1", ADA, site.services.within(ADA), 1, None, None, 0.0)  # type: ignore[arg-type]
        done = greet(run, Greeting(name="Ada"))
        assert done is not None
        assert done.result == {"said": "Hello Ada"}


def test_a_payload_without_defaults_or_of_another_model_is_refused_when_it_is_enqueued(tmp_path: Path) -> None:
    with running(tmp_path, strict, greet, started=False) as site:
        ada = site.services.within(ADA)
        with pytest.raises(BadRequest, match="'number' has no default"):
            ada.enqueue(strict)
        with pytest.raises(BadRequest):
            ada.enqueue(greet, Strict(number=1))  # type: ignore[type-var]
        assert (
            ada.enqueue(strict, Strict(number=1), key="one").id == ada.enqueue(strict, Strict(number=2), key="one").id
        )


def test_a_run_that_is_tried_again_enqueues_each_other_job_once(tmp_path: Path) -> None:
    with running(tmp_path, chain, greet) as site:
        ended = finished(site, site.services.within(ADA).enqueue(chain, Greeting(name="Ada")))
        assert (ended.state, ended.attempts) == ("succeeded", 2)
        others = [item for item in site.services.jobs.mine(ADA, 50, None).items if item["kind"] == "greet"]
        assert len(others) == 3
        for item in others:
            site.finished(site.job(ADA, item["id"]))
        assert counted(site, "greeted") == 3


def test_an_apps_job_may_enqueue_for_its_users_and_a_users_job_for_nobody_else(tmp_path: Path) -> None:
    with running(tmp_path, greet, started=False) as site:
        app, ada = site.services.within(Scope("demo")), site.services.within(ADA)
        assert app.jobs.enqueue(ADA, greet.kind, Greeting()).uid == "ada"
        with pytest.raises(ScopeViolation):
            ada.jobs.enqueue(Scope("demo", "bob"), greet.kind, Greeting())
        with pytest.raises(ScopeViolation):
            ada.jobs.enqueue(Scope("demo"), greet.kind, Greeting())


def test_a_name_that_is_taken_is_refused_at_start(tmp_path: Path) -> None:
    @job("rollup")
    def rollup(run: JobRun) -> None: ...

    @job("greet")
    def again(run: JobRun) -> None: ...

    @job("fan_out")
    def fan_out(run: JobRun) -> None: ...

    for jobs in ((rollup,), (greet, again), (fan_out,)):
        with (
            pytest.raises(SettingsError, match=f"there is a job '{jobs[-1].kind.name}' already"),
            running(tmp_path, *jobs, started=False),
        ):
            pass
    with (
        pytest.raises(SettingsError, match="takes functions under @job"),
        running(tmp_path, test_a_name_that_is_taken_is_refused_at_start),
    ):
        pass


def test_a_function_that_cannot_be_a_job_is_refused_where_it_is_defined() -> None:
    def nothing() -> None: ...
    def untyped(run: JobRun, payload) -> None: ...  # type: ignore[no-untyped-def]
    def wrong(run: JobRun, payload: dict[str, str]) -> None: ...
    def three(run: JobRun, payload: Greeting, more: str) -> None: ...
    def fine(run: JobRun) -> None: ...

    for function, words in (
        (nothing, "takes the run"),
        (three, "takes the run"),
        (untyped, "annotate"),
        (wrong, "annotate"),
    ):
        with pytest.raises(SettingsError, match=words):
            job("bad")(function)  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match="letters"):
        job("Not a name")(fine)
    with pytest.raises(SettingsError, match="seconds"):
        job("slow", seconds=100_000)(fine)


def test_a_job_that_always_fails_ends_dead_and_can_be_redriven(tmp_path: Path) -> None:
    broken = [True]

    @job("fragile")
    def fragile(run: JobRun) -> None:
        if broken[0]:
            raise OSError("secret detail")

    with running(tmp_path, fragile) as site:
        dead = finished(site, site.services.within(ADA).enqueue(fragile))
        assert (dead.state, dead.attempts) == ("dead", 3)
        assert [item["id"] for item in site.services.jobs.dead(10, None).items] == [dead.id]
        broken[0] = False
        assert finished(site, site.services.jobs.redrive(dead.id)).state == "succeeded"


@job("features")
def features(run: JobRun) -> JobDone:
    return JobDone(sorted(run.features))


def test_a_job_knows_the_features_of_its_own_users_plan(tmp_path: Path) -> None:
    pro = '[plans.pro]\nrequests_per_minute = 10\ndaily_usd = "1"\nfeatures = ["reports"]\n'
    with running(tmp_path, features, settings=JOB_SETTINGS + pro) as site:
        site.services.checkout.grant(ADA, "pro", "root")
        results = {
            scope.uid: finished(site, site.services.within(scope).enqueue(features)).result
            for scope in (ADA, Scope("demo", "bob"), Scope("demo"))
        }
    assert results == {"ada": '["reports"]', "bob": "[]", None: "[]"}
