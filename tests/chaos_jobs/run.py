"""Puts jobs off, kills workers with ``kill -9`` while there are any, and counts what became of the jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fakes.cloud_tasks import CloudTasksServer, RetryPolicy
from fakes.jobs import ACCOUNT, QUEUE
from firelaunch.jobs import Jobs
from firelaunch.jobs.base import Job, NoPayload
from firelaunch.jobs.cloud_tasks import CloudTasksBackend
from firelaunch.jobs.schedules import FAN_OUT, FanOut, Schedules, tick_key
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query, Set
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import Emulator
from support import PYTHON, ROOT, clean_environ, free_port

from .worker import STEPS, WORK, Work, each_minute, effect_path

__all__ = ["Load", "Report", "on_cloud_tasks", "on_threads"]

_PROCESSES = 3
_PAUSE = 0.1
_USERS = [Scope("demo", f"user-{n}") for n in range(7)]
_LEASE_SECONDS = 2
_SETTINGS = (
    SETTINGS
    + f"""
[jobs]
lease_seconds = {_LEASE_SECONDS}
backoff_seconds = 0.05
backoff_max_seconds = 0.5
max_attempts = 100
workers = 4

[schedules]
each_minute = {{ cron = "* * * * *", each = "user" }}
"""
)

Say = Callable[[str], object]


@dataclass(slots=True)
class Report:
    """What became of the jobs of one backend.

    ``kills`` of workers by SIGKILL, ``stalls`` by SIGSTOP for longer than a lease, until SIGCONT.
    ``lost`` did not succeed in the end, or left out an effect; ``applied_twice`` have an effect more than once;
    ``retaken`` is how often a job was taken up anew. Each of the ``ticks`` of a schedule was called three times at
    once; ``missed`` and ``doubled`` are the users' jobs of a tick that did not come to their end, or more than once.
    """

    jobs: int
    kills: int = 0
    stalls: int = 0
    lost: int = 0
    applied_twice: int = 0
    retaken: int = 0
    ticks: int = 0
    missed: int = 0
    doubled: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, missed, applied twice or doubled."""
        return not (self.lost or self.applied_twice or self.missed or self.doubled)


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do under so many ``kills``: ``jobs``, and ``ticks`` of a schedule for each of ``users``."""

    jobs: int
    kills: int
    ticks: int
    users: int


def on_threads(folder: Path, load: Load, say: Say = lambda _: None) -> Report:
    """The embedded backend: processes with threads on one SQLite file."""
    path = write_app(folder, _SETTINGS)
    services = build(Settings.load(path, {}))
    environ = clean_environ(CHAOS=json.dumps({"settings": str(path)}), PYTHONPATH=str(ROOT / "tests"))
    with _processes(environ, folder) as pids:
        return _run(services, load, pids, say)


def on_cloud_tasks(folder: Path, emulator: Emulator, project: str, load: Load, say: Say = lambda _: None) -> Report:
    """Cloud Tasks, played by a local server, which calls gunicorn's workers; the jobs are on the Firestore emulator."""
    path, port = write_app(folder, _SETTINGS), free_port()
    url = f"http://127.0.0.1:{port}"
    policy = RetryPolicy(min_backoff=0.1, max_backoff=2.0, max_attempts=-1)
    with (
        CertificateServer() as certificates,
        CloudTasksServer(QUEUE, certificates=certificates, policy=policy, twice=0.05, concurrency=12) as server,
    ):
        known = {"settings": str(path), "project": project, "url": url, "cloud_tasks": server.host,
                 "certificates": certificates.url}  # fmt: skip
        environ = clean_environ(
            CHAOS=json.dumps(known),
            PYTHONPATH=str(ROOT / "tests"),
            PORT=str(port),
            HOST="127.0.0.1",
            FIRESTORE_EMULATOR_HOST=emulator.host,
        )
        services = build(
            Settings.load(path, {}),
            store=emulator.store(project),
            backend=CloudTasksBackend("demo", QUEUE, url, ACCOUNT, channel=server.channel),
        )
        with _gunicorn(environ, folder) as pids:
            report = _run(services, load, pids, say)
        report.lost += len(server.dropped)
        return report


@contextmanager
def _processes(environ: dict[str, str], folder: Path) -> Iterator[Callable[[], list[int]]]:
    command = [PYTHON, "-m", "chaos_jobs.worker"]
    running: list[subprocess.Popen[bytes]] = []
    log = (folder / "workers.log").open("ab")

    def pids() -> list[int]:
        running[:] = [process for process in running if process.poll() is None]
        while len(running) < _PROCESSES:
            running.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))
        return [process.pid for process in running]

    try:
        yield pids
    finally:
        for process in running:
            process.kill()
            process.wait()
        log.close()


@contextmanager
def _gunicorn(environ: dict[str, str], folder: Path) -> Iterator[Callable[[], list[int]]]:
    command = [PYTHON, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "--threads", "8"]
    command += ["-w", str(_PROCESSES), "chaos_jobs.worker:cloud_app()"]
    with (folder / "workers.log").open("ab") as log:
        master = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def pids() -> list[int]:
        if master.poll() is not None:
            raise RuntimeError((folder / "workers.log").read_text()[-3000:])
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    try:
        yield pids
    finally:
        master.terminate()
        try:
            master.wait(timeout=20)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()


def _run(services: Services, load: Load, pids: Callable[[], list[int]], say: Say) -> Report:
    report, began, over = Report(load.jobs), time.monotonic(), threading.Event()
    killer = threading.Thread(target=_kill, args=(report, load.kills, pids, over))
    killer.start()
    try:
        queue = services.jobs
        ids = [_put_off(queue, n) for n in range(load.jobs)]
        scheduled = _tick(services, load, report, say)
        _wait(services, [*ids, *scheduled], report, say)
    finally:
        over.set()
        killer.join()
    _count(services, ids, report)
    _count_scheduled(services, scheduled, report)
    stored = services.store.count(Query(services.store.scope.jobs()))
    report.lost += max(0, len(ids) + len(scheduled) + report.ticks - stored)
    report.doubled += max(0, stored - len(ids) - len(scheduled) - report.ticks)
    report.seconds = round(time.monotonic() - began, 1)
    services.store.close()
    return report


def _tick(services: Services, load: Load, report: Report, say: Say) -> list[tuple[Scope, str]]:
    """Call ticks of a schedule, each from three threads, and return the ids of the jobs that users are to get."""
    everyone = [*_USERS, *(Scope("demo", f"scheduled-{n:03}") for n in range(load.users))]
    for user in everyone:
        services.store.commit([Set(user.chat("c1"), {})])
    schedules = Schedules(services.store, services.jobs, services.settings.schedules, {"each_minute": each_minute.kind})
    first = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=load.ticks)
    expected: list[tuple[Scope, str]] = []
    for number in range(load.ticks):
        at = first + timedelta(minutes=number)
        with ThreadPoolExecutor(3) as callers:
            outcomes = [tick.outcome for tick in callers.map(lambda at: schedules.tick("each_minute", at), [at] * 3)]
        report.ticks += outcomes.count("enqueued")
        key = tick_key("each_minute", at)
        fan_out = services.jobs.prepare(services.store.scope, FAN_OUT, FanOut(schedule="each_minute", tick=at), key=key)
        _wait(services, [(services.store.scope, fan_out.job_id)], report, say)
        expected += [(u, services.jobs.prepare(u, each_minute.kind, NoPayload(), key=key).job_id) for u in everyone]
    return expected


def _count_scheduled(services: Services, ids: list[tuple[Scope, str]], report: Report) -> None:
    for scope, job_id in ids:
        effect = services.store.get(effect_path(scope.root, job_id))
        ends = 0 if effect is None else int(effect.data["ends"])
        report.missed += ends < 1
        report.doubled += ends > 1
        if ends != 1 and len(report.examples) < 10:
            report.examples.append(f"{job_id} of {scope.uid}: {ends} ends")


def _put_off(queue: Jobs, number: int) -> tuple[Scope, str]:
    scope = _USERS[number % len(_USERS)]
    return scope, queue.enqueue(scope, WORK, Work(steps=STEPS, pause=_PAUSE), key=f"job-{number}").id


def _kill(report: Report, kills: int, pids: Callable[[], list[int]], over: threading.Event) -> None:
    """Kills a worker at random times until there were ``kills``; now and then one only stands still, and goes on."""
    still, until = 0, 0.0  # the worker that stands still, and is spared after it went on, to do what harm it can
    while not over.wait(random.uniform(0.2, 1.2)):  # noqa: S311 - a test's dice
        stands = time.monotonic() < until
        if still and not stands:
            _signal(still, signal.SIGCONT)
        living = [pid for pid in pids() if pid != still]
        if not living or report.kills >= kills:
            continue
        chosen = random.choice(living)  # noqa: S311 - a test's dice
        if not stands and report.stalls * 5 < report.kills:
            report.stalls += _signal(chosen, signal.SIGSTOP)
            still, until = chosen, time.monotonic() + 2 * _LEASE_SECONDS
        else:
            report.kills += _signal(chosen, signal.SIGKILL)
    if still:
        _signal(still, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _wait(services: Services, ids: list[tuple[Scope, str]], report: Report, say: Say) -> None:
    left = {job_id: scope for scope, job_id in ids}
    stalled_at = time.monotonic() + 120
    while left and time.monotonic() < stalled_at:
        batch = list(left)[:200]
        found = services.store.get_many([left[job_id].job(job_id) for job_id in batch])
        ended = [d.id for d in found if d is not None and Job.of(d).finished]
        for job_id in ended:
            del left[job_id]
        if ended:
            stalled_at = time.monotonic() + 120
        say(f"{len(ids) - len(left):>5} of {len(ids)} jobs done, {report.kills} workers killed")
        time.sleep(0.2)


def _count(services: Services, ids: list[tuple[Scope, str]], report: Report) -> None:
    for scope, job_id in ids:
        job, effect = services.store.get_many([scope.job(job_id), effect_path(scope.root, job_id)])
        done: dict[str, Any] = {} if effect is None else dict(effect.data)
        state = None if job is None else job.data["state"]
        steps, ends = done.get("steps", 0), done.get("ends", 0)
        if state != "succeeded" or steps < STEPS or ends < 1:
            report.lost += 1
        if steps > STEPS or ends > 1:
            report.applied_twice += 1
        if (state, steps, ends) != ("succeeded", STEPS, 1) and len(report.examples) < 10:
            report.examples.append(f"{job_id}: {state}, {steps} steps, {ends} ends")
        report.retaken += 0 if job is None else job.data["attempts"] - 1


def progress(line: str) -> None:
    """One line that is written over, where somebody looks."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}")
        sys.stderr.flush()
