"""Schedules: a tick enqueues once, for every user in their own scope; what was missed or skipped is said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.jobs import ACCOUNT, JOB_SETTINGS, Site, cloud_site, embedded_site
from firelaunch.errors import JobsUnavailable, NotFound, SettingsError, StoreError
from firelaunch.jobs import Delivery
from firelaunch.jobs.embedded import EmbeddedBackend
from firelaunch.jobs.schedules import Schedules, Tick
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.server.scheduler import Scheduler
from firelaunch.store.base import Create, Increment, Set, Write
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import sign_in
from firelaunch.worker import JobRun
from firelaunch.worker.job_definitions import job
from pydantic import BaseModel

APP = Scope("demo")
MONDAY = datetime(2026, 3, 2, 7, tzinfo=UTC)
WEEK = timedelta(days=7)
SETTINGS = (
    JOB_SETTINGS
    + """
[schedules]
weekly = { cron = "0 7 * * 1", each = "user" }
nightly = { cron = "30 2 * * *" }
"""
)


class Options(BaseModel):
    days: int = 7


class Strict(BaseModel):
    days: int


@job("weekly")
def weekly(run: JobRun, options: Options) -> None:
    run.commit(Set(f"{run.scope.root}/things/weekly", {"n": Increment(options.days)}, merge=True))


@job("nightly")
def nightly(run: JobRun) -> None:
    run.commit(Set(f"{run.scope.root}/things/nightly", {"n": Increment(1)}, merge=True))


@pytest.fixture
def clock() -> list[datetime]:
    """The time now, to be set."""
    return [MONDAY + timedelta(minutes=1)]


@pytest.fixture
def site(tmp_path: Path, clock: list[datetime]) -> Iterator[Site]:
    with made(tmp_path, lambda: clock[0]) as found:
        yield found


@contextmanager
def made(folder: Path, clock: Callable[[], datetime], **options: Any) -> Iterator[Site]:
    options = {"declared": Declared(jobs=(weekly, nightly)), "settings": SETTINGS, "started": False, **options}
    with embedded_site(folder, clock=clock, **options) as found:
        yield found


def schedules(site: Site) -> Schedules:
    assert site.app.background is not None
    return site.app.background.schedules


def add_users(site: Site, *uids: str) -> None:
    """Users who have a chat, and no document of their own, as on a laptop."""
    site.services.store.commit([Create(APP.of(uid).chat("c1"), {}) for uid in uids])


def work(site: Site) -> None:
    """Run jobs until none is due."""
    while due := site.services.jobs.due(100):
        for job_id in due:
            site.runner.run(job_id)


def counted(site: Site, path: str) -> int:
    document = site.services.store.get(path)
    return 0 if document is None else int(document.data["n"])


def summaries(site: Site, *uids: str) -> list[int]:
    return [counted(site, f"{APP.of(uid).root}/things/weekly") for uid in uids]


def kind_of(site: Site, job_id: str) -> str:
    job = site.services.jobs.find(job_id)
    assert job is not None
    return job.kind


def kinds(site: Site) -> list[str]:
    paths = site.services.store.tree(APP.jobs())
    return sorted(str(found.data["kind"]) for path in paths if (found := site.services.store.get(path)))


def test_each_user_gets_a_job_in_their_own_scope_once_a_tick_however_often_it_is_called(
    site: Site, clock: list[datetime]
) -> None:
    add_users(site, "ada", "bob")
    assert schedules(site).tick("weekly", MONDAY) == Tick("enqueued", MONDAY)
    for at in (MONDAY, MONDAY + timedelta(minutes=1), None):
        assert schedules(site).tick("weekly", at) == Tick("repeated", MONDAY)
    work(site)
    assert schedules(site).tick("weekly", MONDAY) == Tick("repeated", MONDAY)
    work(site)
    assert summaries(site, "ada", "bob") == [7, 7]
    assert kinds(site) == ["fan_out", "weekly", "weekly"]
    assert [item["kind"] for item in site.services.jobs.mine(APP.of("ada"), 10, None).items] == ["weekly"]
    clock[0] += WEEK
    assert schedules(site).tick("weekly", MONDAY + WEEK) == Tick("enqueued", MONDAY + WEEK)
    work(site)
    assert summaries(site, "ada", "bob") == [14, 14]


def test_a_schedule_of_the_app_enqueues_one_job_of_the_app(site: Site) -> None:
    add_users(site, "ada")
    schedules(site).tick("nightly")
    work(site)
    assert kinds(site) == ["nightly"]
    assert counted(site, "apps/demo/things/nightly") == 1


def test_threads_that_call_a_tick_at_once_enqueue_it_once(site: Site) -> None:
    add_users(site, "ada")
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(schedules(site).tick("weekly").outcome)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["enqueued"] + ["repeated"] * 7
    work(site)
    assert summaries(site, "ada") == [7]


def test_ticks_that_nobody_called_are_said_and_only_the_last_of_them_runs(
    site: Site, clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    add_users(site, "ada")
    schedules(site).tick("weekly")
    work(site)
    clock[0] += 4 * WEEK
    with caplog.at_level(logging.WARNING):
        assert schedules(site).tick("weekly") == Tick("enqueued", MONDAY + 4 * WEEK, missed=3)
    assert "weekly: 3 ticks were missed" in caplog.text
    work(site)
    assert summaries(site, "ada") == [14]
    admin, ada = sign_in(site.app, "root", role="admin"), sign_in(site.app, "ada")
    assert ada.get("/v1/ops/schedules").status_code == 403
    (shown,) = [item for item in admin.get("/v1/ops/schedules").get_json()["items"] if item["name"] == "weekly"]
    assert shown["missed"] == 3
    assert shown["missed_ticks"] == ["2026-03-09T07:00:00Z", "2026-03-16T07:00:00Z", "2026-03-23T07:00:00Z"]
    assert (shown["last_tick"], shown["next_tick"]) == ("2026-03-30T07:00:00Z", "2026-04-06T07:00:00Z")
    assert (shown["enqueued"], shown["skipped"]) == (2, 0)
    assert admin.get(f"/v1/ops/jobs/{shown['job']}").get_json()["result"]["users"] == 1


def test_a_tick_is_skipped_and_counted_while_the_job_of_the_last_one_still_runs(
    site: Site, clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    add_users(site, "ada")
    schedules(site).tick("weekly")
    clock[0] += WEEK
    with caplog.at_level(logging.WARNING):
        assert schedules(site).tick("weekly") == Tick("skipped", MONDAY + WEEK)
    assert "is skipped" in caplog.text
    assert schedules(site).tick("weekly") == Tick("repeated", MONDAY + WEEK)
    work(site)
    assert summaries(site, "ada") == [7]
    clock[0] += WEEK
    assert schedules(site).tick("weekly") == Tick("enqueued", MONDAY + 2 * WEEK)
    work(site)
    assert summaries(site, "ada") == [14]
    admin = sign_in(site.app, "root", role="admin")
    shown = admin.get("/v1/ops/schedules").get_json()["items"][0]
    assert (shown["skipped"], shown["skipped_ticks"]) == (1, ["2026-03-09T07:00:00Z"])
    assert shown["missed"] == 0


def test_users_are_read_in_pages_and_a_fan_out_that_breaks_off_goes_on_and_misses_and_doubles_nobody(
    tmp_path: Path, clock: list[datetime]
) -> None:
    uids = [f"user-{number:03}" for number in range(220)]
    store = BreakingStore(SQLiteStore(tmp_path / "data.sqlite3"))
    settings = SETTINGS.replace("max_attempts = 3", "max_attempts = 100")
    with made(tmp_path, lambda: clock[0], store=store, settings=settings) as site:
        for first in range(0, 220, 110):
            add_users(site, *uids[first : first + 110])
        schedules(site).tick("weekly")
        (fan_out,) = site.services.jobs.due(10)
        # An attempt takes the job, then commits a page. The first page does not land, then lands unheard; the third
        # attempt enqueues one job after the other, and breaks off in between.
        store.break_at({2: False, 5: True, 30: False, 34: True})
        while (job := site.services.jobs.find(fan_out)) is not None and not job.finished:
            with suppress(StoreError):
                site.runner.run(fan_out)
            clock[0] += timedelta(minutes=15)
        assert job is not None
        assert (job.state, store.breaks, job.attempts > 3) == ("succeeded", {}, True)
        work(site)
        assert set(summaries(site, *uids)) == {7}
        assert kinds(site).count("weekly") == 220


class BreakingStore:
    """A database whose commits of given numbers fail: some have landed, and only their answer is lost."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._commits = 0
        self.breaks: dict[int, bool] = {}

    def break_at(self, breaks: dict[int, bool]) -> None:
        """Let the commits of these numbers, from now on, fail; True for those that land."""
        self._commits, self.breaks = 0, breaks

    def commit(self, writes: Sequence[Write]) -> datetime:
        """Commit, or fail."""
        self._commits += 1
        lands = self.breaks.pop(self._commits, None)
        at = self._store.commit(writes) if lands is not False else None
        if at is None or lands:
            raise StoreError(reason="the line is broken")
        return at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class ErasingStore:
    """A database in which a user is erased while the users are read."""

    def __init__(self, store: SQLiteStore, user: Scope) -> None:
        self._store = store
        self._user = user

    def ids(self, collection: str) -> Iterator[str]:
        """Yield the ids."""
        ids = list(self._store.ids(collection))
        if collection == APP.users():
            self._store.commit([Set(self._user.erasure(), {"delete_at": datetime.now(UTC) + WEEK})])
        return iter(ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_user_who_is_erased_while_users_are_gone_through_gets_no_job(tmp_path: Path, clock: list[datetime]) -> None:
    store = ErasingStore(SQLiteStore(tmp_path / "data.sqlite3"), APP.of("bob"))
    with made(tmp_path, lambda: clock[0], store=store) as site:
        add_users(site, "ada", "bob", "cleo")
        schedules(site).tick("weekly")
        work(site)
        assert summaries(site, "ada", "bob", "cleo") == [7, 0, 7]
        assert site.services.jobs.mine(APP.of("bob"), 10, None).items == []


def test_a_fan_out_whose_schedule_is_gone_from_the_settings_ends_dead_and_says_why(
    tmp_path: Path, clock: list[datetime]
) -> None:
    with made(tmp_path, lambda: clock[0]) as site:
        add_users(site, "ada")
        schedules(site).tick("weekly")
    with made(tmp_path, lambda: clock[0], settings=JOB_SETTINGS) as site:
        work(site)
        (dead,) = site.services.jobs.dead(10, None).items
        assert dead["error"]["message"] == "The app has no schedule 'weekly' any more."
        assert sign_in(site.app, "root", role="admin").get("/v1/ops/schedules").get_json() == {"items": []}


class Line(EmbeddedBackend):
    """A backend that notes deliveries, and makes none while it is broken."""

    def __init__(self) -> None:
        super().__init__(1)
        self.broken = False
        self.names: list[str | None] = []

    def deliver(self, delivery: Delivery) -> None:
        """Note a delivery, or fail."""
        if self.broken:
            raise JobsUnavailable
        self.names.append(delivery.name)


def test_a_delivery_that_the_first_call_did_not_make_is_made_by_the_next(site: Site) -> None:
    line = site.services.jobs.backend = Line()
    line.broken = True
    assert schedules(site).tick("weekly").outcome == "enqueued"
    line.broken = False
    assert schedules(site).tick("weekly").outcome == "repeated"
    (job_id,) = site.services.jobs.due(10)
    assert line.names == [f"{job_id}-0"]
    work(site)
    assert schedules(site).tick("weekly").outcome == "repeated"
    assert line.names == [f"{job_id}-0"]


# On a laptop


def scheduler(site: Site) -> Scheduler:
    return Scheduler(schedules(site), site.services.settings.schedules, site.app.shutdown)


def test_a_laptops_scheduler_calls_each_tick_once_from_its_first_look_on(site: Site, clock: list[datetime]) -> None:
    add_users(site, "ada")
    own = scheduler(site)
    for _ in range(3):
        own.look()
    assert kinds(site) == []  # a schedule that is new waits for its next tick
    clock[0] = MONDAY + WEEK - timedelta(seconds=1)
    own.look()
    assert kinds(site) == ["nightly"]
    work(site)
    clock[0] = MONDAY + WEEK + timedelta(seconds=2)
    for _ in range(3):
        own.look()
    work(site)
    assert summaries(site, "ada") == [7]


def test_a_laptop_that_was_asleep_catches_up_on_the_last_tick_and_says_the_others(
    tmp_path: Path, clock: list[datetime]
) -> None:
    with made(tmp_path, lambda: clock[0]) as site:
        add_users(site, "ada")
        scheduler(site).look()
    clock[0] += 5 * WEEK
    with made(tmp_path, lambda: clock[0]) as site:
        scheduler(site).look()
        work(site)
        scheduler(site).look()
        work(site)
        assert summaries(site, "ada") == [7]
        shown = sign_in(site.app, "root", role="admin").get("/v1/ops/schedules").get_json()["items"]
        assert {item["name"]: item["missed"] for item in shown} == {"weekly": 4, "nightly": 34}
        assert len(shown[1]["missed_ticks"]) == 20


def test_a_schedule_that_changes_counts_from_then_on_and_misses_nothing(tmp_path: Path, clock: list[datetime]) -> None:
    with made(tmp_path, lambda: clock[0]) as site:
        scheduler(site).look()
    hourly = SETTINGS.replace("0 7 * * 1", "0 * * * *")
    clock[0] += timedelta(days=3)
    with made(tmp_path, lambda: clock[0], settings=hourly) as site:
        add_users(site, "ada")
        scheduler(site).look()
        work(site)
        assert summaries(site, "ada") == [0]
        clock[0] += timedelta(hours=1)
        scheduler(site).look()
        work(site)
        assert summaries(site, "ada") == [7]
        shown = sign_in(site.app, "root", role="admin").get("/v1/ops/schedules").get_json()["items"][0]
        assert shown["missed"] == 0


def test_a_served_laptop_runs_its_schedules_by_itself(tmp_path: Path) -> None:
    stopped, started = datetime(2026, 3, 2, 6, 59, 58, tzinfo=UTC), list[datetime]()

    def clock() -> datetime:
        """Two seconds before seven, from the scheduler's start on, however long the app takes to be made."""
        return stopped + (datetime.now(UTC) - started[0]) if started else stopped

    with made(tmp_path, clock, started=False) as site:
        add_users(site, "ada")
        started.append(datetime.now(UTC))
        own = Scheduler(schedules(site), site.services.settings.schedules, site.app.shutdown, look_seconds=0.02)
        own.start()
        give_up = datetime.now(UTC) + timedelta(seconds=30)
        while not site.services.jobs.due(1) and datetime.now(UTC) < give_up:
            threading.Event().wait(0.02)
        work(site)
        site.app.shutdown.begin()
        assert summaries(site, "ada") == [7]


# At start


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ((weekly,), "schedules.nightly: there is no such job in App.*weekly"),
        ((), "schedules.weekly: there is no such job in App.*none"),
    ],
)
def test_a_schedule_without_its_job_is_refused_at_start(tmp_path: Path, jobs: tuple[Any, ...], words: str) -> None:
    with pytest.raises(SettingsError, match=words), made(tmp_path, lambda: MONDAY, declared=Declared(jobs=jobs)):
        pass


def test_a_job_whose_payload_has_no_defaults_cannot_be_scheduled(tmp_path: Path) -> None:
    @job("weekly")
    def strict(run: JobRun, options: Strict) -> None: ...

    with (
        pytest.raises(SettingsError, match=r"schedules\.weekly: A job 'weekly' takes Strict: 'days' has no default"),
        made(tmp_path, lambda: MONDAY, declared=Declared(jobs=(strict, nightly))),
    ):
        pass


def test_a_schedule_that_is_not_there_is_none(site: Site) -> None:
    with pytest.raises(NotFound):
        schedules(site).tick("monthly")


# In the cloud


def call(site: Site, name: str, at: str | None, token: str | None = None) -> httpx.Response:
    assert site.certificates is not None
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": "https://accounts.google.com", "aud": site.url, "email": ACCOUNT, "email_verified": True}
    token = token or site.certificates.sign({**claims, "sub": "1", "iat": now, "exp": now + 600})
    headers = {"Authorization": f"Bearer {token}", **({} if at is None else {"X-CloudScheduler-ScheduleTime": at})}
    return httpx.post(f"{site.url}/internal/schedules/{name}", headers=headers, trust_env=False, timeout=60)


def test_cloud_scheduler_calls_a_tick_by_its_own_time_and_members_alone_get_jobs(
    tmp_path: Path, emulator_store: Any, clock: list[datetime]
) -> None:
    cloud = {"FIRELAUNCH_MODE": "cloud", "OPENAI_API_KEY": "none", "GOOGLE_CLOUD_PROJECT": "demo-project"}
    declared = Declared(jobs=(weekly, nightly))
    with cloud_site(tmp_path, emulator_store, lambda: clock[0], SETTINGS, declared=declared, **cloud) as site:
        add_users(site, "left")
        site.services.store.commit([Create(APP.of(f"member-{n:03}").member(), {"role": "member"}) for n in range(130)])
        assert call(site, "weekly", "2026-03-02T07:00:00Z", token="bad").status_code == 401
        answers = [call(site, "weekly", at).json() for at in ("2026-03-02T07:00:00Z", "2026-03-02T08:00:00+01:00")]
        assert [answer["outcome"] for answer in answers] == ["enqueued", "repeated"]
        assert call(site, "weekly", "rubbish").json()["outcome"] == "repeated"
        assert call(site, "monthly", None).status_code == 404
        give_up = datetime.now(UTC) + timedelta(seconds=60)
        members = [f"member-{n:03}" for n in range(130)]
        while set(summaries(site, *members)) != {7} and datetime.now(UTC) < give_up:
            threading.Event().wait(0.1)
        assert set(summaries(site, *members)) == {7}
        assert summaries(site, "left") == [0]
        assert kinds(site).count("weekly") == 130
