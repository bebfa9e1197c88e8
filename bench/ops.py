"""Measure what admins' views of an app's costs read, once the app has had very many requests: documents, and time.

A month of requests is stored as settlements store them: a record of each request and of its call, and the sums of each
hour. The views are asked for over the API, right after midnight and late in the day.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from firelaunch.metering.sum_repair import folded_fields
from firelaunch.metering.sums import Tree, add_call, add_request, hour_of, hour_write, user_writes
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Set, Write
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import User, sign_in, write_app
from firelaunch.worker.tasks.rollup import ROLLUP, Rollup

from bench.report import Report, progress, size
from bench.turn import CountingStore

REQUESTS = size(100_000, 300)
DAYS = 29
USERS = size(1_000, 20)
NOW = datetime(2026, 3, 29, 23, 30, tzinfo=UTC)
"""Late in the day, when a view reads much; it reads as much after midnight, before the nightly job."""

APP = Scope("demo")
VIEWS = {
    "a month by day": "/v1/ops/sums?from=2026-03-01&step=day",
    "a month by hour": "/v1/ops/sums?from=2026-03-01&step=hour",
    "a quarter by day": "/v1/ops/sums?from=2025-12-29&step=day",
    "the last day": "/v1/ops/sums",
    "two days": "/v1/ops/sums?from=2026-03-28",
    "usage of a quarter": "/v1/ops/usage?days=92",
    "users of a month": "/v1/ops/users?period=2026-03&limit=100",
    "slowest": "/v1/ops/requests?from=2026-03-01&order=slowest&limit=100",
    "dearest": "/v1/ops/requests?from=2026-03-01&order=dearest&limit=100",
    "failed": "/v1/ops/requests?from=2026-03-01&order=failed&limit=100",
    "latest": "/v1/ops/requests?from=2026-03-01&order=latest&limit=100",
}
_BESIDE = ("/v1/ops/budget", "/v1/ops/ratings?limit=1")
PAGE = {
    "the page, today": (
        "/v1/ops/sums?from=2026-03-29&before=2026-03-28",
        *(f"/v1/ops/users?period={day}&limit=10" for day in ("2026-03-29", "2026-03-28")),
        *_BESIDE,
    ),
    "the page, yesterday": (
        "/v1/ops/sums?from=2026-03-28&to=2026-03-29&before=2026-03-27",
        *(f"/v1/ops/users?period={day}&limit=10" for day in ("2026-03-28", "2026-03-27")),
        *_BESIDE,
    ),
    "the page, 30 days": (
        "/v1/ops/sums?from=2026-02-28&before=2026-01-29&step=day",
        "/v1/ops/users?period=2026-03&limit=10",
        *_BESIDE,
    ),
    "the page, 90 days": (
        "/v1/ops/sums?from=2025-12-30&step=day",
        "/v1/ops/users?period=2026-03&limit=5",
        *_BESIDE,
    ),
}
"""The requests that the overview of the page `/ops` makes, as its ``figures.js`` does."""


class OpsStore(CountingStore):
    """The nightly job's pass over users is no view, and counts nothing."""

    def ids(self, collection: str) -> Iterator[str]:
        return self.store.ids(collection)


def main() -> None:
    """Measure, print, and leave the figures in build/bench."""
    report = Report("ops")
    with tempfile.TemporaryDirectory() as folder:
        store = OpsStore(SQLiteStore(Path(folder) / "data.sqlite3"))
        spent = seed(store.store)
        now = [NOW]
        settings = Settings.load(write_app(Path(folder)), {"FIRELAUNCH_DATA": folder})
        app = App("bench")
        init_app(app, build(settings, lambda: now[0], store=store), lambda _: iter(()))  # type: ignore[arg-type]
        # Each day before yesterday had its night. Yesterday is still as its settlements left it.
        now[0] = NOW - timedelta(days=1, hours=23)
        for back in range(DAYS):
            fold(app, f"{now[0] - timedelta(days=back):%Y-%m-%d}")
        now[0] = NOW - timedelta(hours=23, minutes=10)
        views(app, store, report, "00:20", None)
        now[0] = NOW - timedelta(hours=23)
        night(app, report)
        now[0] = NOW
        views(app, store, report, "23:30", spent)
        store.close()
    report.write()


def fold(app: App, day: str) -> None:
    """Do for a day what its nights did."""
    services = app.extensions["firelaunch"].services
    folded = folded_fields(services.store, APP, day, services.clock(), services.metering.reservation_seconds)
    services.store.commit([Set(APP.rollup(day), {**folded, "updated_at": services.clock()})])


def night(app: App, report: Report) -> None:
    """Run the nightly job, which computes the sums of three days again from the records."""
    services = app.extensions["firelaunch"].services
    job = services.jobs.enqueue(APP, ROLLUP, Rollup())
    began = time.perf_counter()
    app.runner.run(job.id)
    done = services.jobs.find(job.id)
    if done is None or done.state != "succeeded" or '"repaired_hours":0' not in (done.result or "").replace(" ", ""):
        raise AssertionError(f"the sums differ from the records: {done}")
    report.row("the nightly job", "time", time.perf_counter() - began, "s")


def views(app: App, store: CountingStore, report: Report, when: str, spent: int | None) -> None:
    """Ask for each view, and count what it reads.

    Args:
        spent: what a month has cost, where that is known.
    """
    admin: User = sign_in(app, "root", role="admin")
    most = 0
    for name, paths in ({name: (path,) for name, path in VIEWS.items()} | PAGE).items():
        store.read_documents = 0
        began = time.perf_counter()
        answers = [admin.get(path) for path in paths]
        seconds = time.perf_counter() - began
        path, answer = paths[0], answers[0]
        if {each.status_code for each in answers} != {200}:
            raise AssertionError(f"{paths}: {[each.get_data(as_text=True) for each in answers]}")
        if name.startswith(("a month", "a quarter")):
            found = answer.get_json()
            if found["missing"] or found["totals"]["cost_micro_usd"] != (spent or found["totals"]["cost_micro_usd"]):
                raise AssertionError(f"{path}: {found['totals']} instead of {spent}, {found['missing']} missing")
        most = max(most, store.read_documents)
        report.row(f"{name}, {when}", "reads", store.read_documents, "documents")
        report.row(f"{name}, {when}", "time", 1000 * seconds, "ms")
    key = f"reads_per_view_{100_000}"
    report.ratio(key, max(most, report.ratios.get(key, 0)))


def seed(store: SQLiteStore) -> int:
    """Store a month of requests, and return what they cost."""
    trees: dict[str, Tree] = {}
    users: dict[tuple[str, str], dict[str, int]] = {}
    spent = 0
    writes: list[Write] = []
    with progress("seeding", REQUESTS // 100) as step:
        for number, (request, call, fact) in enumerate(requests(REQUESTS)):
            add_call(trees.setdefault(call["hour"], {}), call)
            add_request(trees.setdefault(fact["hour"], {}), fact)
            own = users.setdefault((call["uid"], call["hour"][:10]), {"requests": 0, "cost_micro_usd": 0})
            own["requests"] += 1
            own["cost_micro_usd"] += call["cost_micro_usd"]
            spent += call["cost_micro_usd"]
            writes += [Create(APP.request(f"r{number}"), request), Create(APP.call(f"r{number}-1"), call)]
            if number % 100 == 99:
                store.commit(writes)
                writes = []
                step()
    writes += [hour_write(APP, hour, tree) for hour, tree in trees.items()]
    writes += [write for (uid, day), own in users.items() for write in user_writes(APP.of(uid), day, own)]
    pending = iter(writes)
    while page := list(islice(pending, 400)):
        store.commit(page)
    return spent


def requests(most: int) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Yield records of requests, of their calls, and what the sums have of them."""
    chance = random.Random(7)  # noqa: S311 - it keeps no secret
    for number in range(most):
        at = NOW - timedelta(days=DAYS - 0.9, seconds=-(DAYS - 1) * 86_400 * number / most)
        uid = f"user-{int(chance.paretovariate(1.2)) % USERS}"
        failed = chance.random() < 0.02
        micro, total = chance.randrange(20, 4_000), int(chance.lognormvariate(7.5, 0.7))
        model, prompt = chance.choice(("gpt-5.4-mini", "gpt-5.4-nano", "gpt-5-mini")), f"chat@{chance.randrange(1, 4)}"
        error = "model_unavailable" if failed else None
        hour, day = hour_of(at, f"{at:%Y-%m-%d}"), f"{at:%Y-%m-%d}"
        call = {
            "uid": uid, "request": f"r{number}", "step": 1, "purpose": "turn", "plan": "free", "model": model,
            "prompt": prompt, "input_tokens": 900, "cached_input_tokens": 100, "output_tokens": 120,
            "estimated": False, "cache_write_tokens": 0, "reasoning_tokens": 0, "searches": 0,
            "cost_micro_usd": micro, "finish": None if failed else "stop", "error": error, "started_at": at,
            "first_token_at": at, "finished_at": at, "hour": hour,
        }  # fmt: skip
        fact = {
            "hour": hour, "kind": "turn", "plan": "free", "end": f"error:{error}" if failed else "answered",
            "counted": True, "total_ms": total, "first_token_ms": total // 3, "model_ms": total - 20,
            "admission_ms": 12, "store_ms": 9, "tools_ms": 0,
        }  # fmt: skip
        request = {
            "uid": uid, "chat_id": "c", "state": "settled", "outcome": "failed" if failed else "answered",
            "error": error, "day": day, "plan": "free", "calls": 1, "total_ms": total, "settled_at": at,
            "usage": {"model": model, "cost_micro_usd": micro}, "created_at": at, "sums": {"a1": fact},
            "days": [day],
        }  # fmt: skip
        yield request, call, fact
