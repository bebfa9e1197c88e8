"""One to eight gunicorn processes on one SQLite file and on one Firestore emulator: exactness, contention, throughput.

The model is a stub that takes no time, so processes meet as often as they can. Clients open a connection for each
request, so that each may come to any process. What must hold whatever the number of processes is checked, and a figure
that is off ends the benchmark: each answer has its record, the users' days, the hour's sums and the app's ceiling have
what the calls cost, no budget is exceeded, each job ran once, and a document is found or gone in every process.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from firelaunch.errors import AlreadyExists, Contention, PreconditionFailed, StoreError
from firelaunch.metering.reservations import Day
from firelaunch.metering.sum_reports import hours_of_day, hours_query
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build, build_store
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.audit import OPERATOR
from firelaunch.store.base import DocumentStore, Transaction, Write
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.emulator import Emulator

from bench.ingest_served import quantile
from bench.relay import ROOT, free_port
from bench.report import Report, progress, size
from bench.turn import StubModel

APP = Scope("demo")
PROCESSES = size((1, 2, 4, 8), (2,))
CLIENTS, SECONDS, USERS = size((16, 8.0, 64), (4, 0.5, 4))
GREEDY = size(8, 2)
"""Clients of the one user whose budget ends."""

JOBS = size(40, 2)
REFUSALS = 3
"""A greedy client stops after so many refusals."""

THREADS = 16
SMALL_USD = size("0.02", "0.004")
RATES = ("requests", "turns", "search", "uploads", "changes", "account")


def settings_of(folder: Path, environ: dict[str, str]) -> Settings:
    """Return the settings of the app in a folder."""
    return Settings.load(folder / "firelaunch.toml", {**environ, "OPENAI_API_KEY": "none"})


def write(folder: Path) -> None:
    """Write the app."""
    rates = "\n".join(f"{name} = 1000000" for name in RATES)
    settings = SETTINGS.replace("requests_per_minute = 1000\n", "requests_per_minute = 1000000\n")
    settings = settings.replace('daily_usd = "0.50"', 'daily_usd = "1000"')
    small = f'[plans.small]\nrequests_per_minute = 1000000\ndaily_usd = "{SMALL_USD}"\ncheaper_model_at_percent = 100\n'
    budget = '[budget]\ndaily_usd = "10000"\n'
    write_app(folder, f'{settings}\n{small}\n{budget}\n[rates]\n{rates}\n\n[index]\nembedder = "none"\n')


class WatchedStore:
    """A store that notes, in a file of its process, each commit that others made fail."""

    def __init__(self, store: DocumentStore, folder: Path) -> None:
        self._store, self._path = store, folder / f"conflicts-{os.getpid()}"

    def commit(self, writes: Sequence[Write]) -> datetime:
        with self._noted():
            return self._store.commit(writes)

    def transaction(self, work: Callable[[Transaction], Any]) -> Any:
        with self._noted():
            return self._store.transaction(work)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except (AlreadyExists, PreconditionFailed, Contention, StoreError) as error:
            with self._path.open("a") as file:
                file.write(f"{type(error).__name__}\n")
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def create_app() -> App:
    """Make the app of one process, for gunicorn."""
    folder = Path(os.environ["BENCH_APP"])
    settings, app = settings_of(folder, dict(os.environ)), App("bench")
    store = WatchedStore(build_store(settings), folder)
    init_app(app, build(settings, store=store, provider=StubModel()), lambda turn: turn.llm.stream(turn.history))
    return app


@dataclass
class Seen:
    """The answers that clients got."""

    answered: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)
    """Micro-dollars, as each answer says them."""

    refused: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, uid: str, status: int, body: Any, seconds: float) -> bool:
        """Note one answer, and return whether it was a good one."""
        with self.lock:
            if status < 300:
                self.answered[uid] += 1
                self.cost[uid] += body["usage"]["cost_micro_usd"]
                self.took.append(seconds)
                return True
            self.refused[body["error"]["code"]] += 1
            return False


def main() -> None:
    """Measure and report."""
    report = Report("processes")
    rates: dict[tuple[str, int], float] = {}
    with Emulator.start() as emulator, progress("processes", 2 * len(PROCESSES)) as step:
        for backend in ("one SQLite file", "one emulator"):
            for count in PROCESSES:
                host = emulator.host if backend == "one emulator" else None
                rates[backend, count] = measured(report, f"{backend}, {count} processes", count, host)
                step()
    for (backend, count), rate in rates.items():
        if count > PROCESSES[0]:
            report.ratio(
                f"turns a second, {backend}, {count} to {PROCESSES[0]}",
                rate / rates[backend, PROCESSES[0]],
                more_is_better=True,
            )
    report.write()


def measured(report: Report, case: str, count: int, emulator: str | None) -> float:
    """Load a number of processes, check what they stored, and return their turns a second."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder)
        environ = {"FIRELAUNCH_DATA": str(folder / ".firelaunch")}
        if emulator is not None:
            project = f"demo-processes-{count}"
            environ |= {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": emulator}
            environ |= {"GOOGLE_CLOUD_PROJECT": project}
        with environment(environ):
            services = build(settings_of(folder, environ), provider=StubModel())
            seen, greedy = Seen(), Seen()
            with served(folder, environ, count) as port:
                crowd = Crowd(services, port)
                began = time.monotonic()
                crowd.together(CLIENTS, lambda number: crowd.turns(number, began + SECONDS, seen))
                seconds = time.monotonic() - began
                crowd.together(GREEDY, lambda number: crowd.spend(number, greedy))
                crowd.document(count)
                crowd.jobs()
            check(services, seen, greedy)
            services.store.close()
        conflicts = Counter[str]()
        for path in folder.glob("conflicts-*"):
            conflicts.update(path.read_text().split())
    turns = sum(seen.answered.values())
    report.row(case, "turns a second", turns / seconds, "turns/s")
    report.row(case, "p95 of a turn", 1_000 * quantile(seen.took, 0.95), "ms")
    report.row(case, "turns that failed", sum(seen.refused.values()), "turns")
    every = turns + sum(greedy.answered.values()) + sum(greedy.refused.values())
    for name in ("PreconditionFailed", "AlreadyExists", "Contention", "StoreError"):
        report.row(case, f"{name}, of 1,000 turns", 1_000 * conflicts[name] / every, "commits")
    return turns / seconds


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for as long as this lasts: Google's client reads the emulator's address from them."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def served(folder: Path, environ: dict[str, str], count: int) -> Iterator[int]:
    """Run gunicorn with so many processes. It ends as on Cloud Run, so that each process reports what it spent."""
    port = free_port()
    around = {k: v for k, v in os.environ.items() if not k.startswith(("FIRELAUNCH_", "OPENAI_", "PYTHONDONT"))}
    around |= environ | {"PYTHONPATH": str(ROOT), "PORT": str(port), "HOST": "127.0.0.1", "BENCH_APP": str(folder)}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "-w", str(count)]
    with (folder / "log").open("wb") as log:
        arguments = ["--threads", str(THREADS), "bench.processes:create_app()"]
        master = subprocess.Popen([*command, *arguments], cwd=folder, env=around, stdout=log, stderr=log)
    try:
        up = time.monotonic() + 120
        while (folder / "log").read_bytes().count(b"ready on") < count:
            if master.poll() is not None or time.monotonic() > up:
                raise OSError((folder / "log").read_text()[-3000:])
            time.sleep(0.05)
        yield port
    finally:
        master.terminate()
        master.wait(60)


class Crowd:
    """The clients."""

    def __init__(self, services: Services, port: int) -> None:
        self.services, self.port = services, port
        assert services.dev_identity is not None
        self.tokens = {uid: services.dev_identity.issue(uid) for uid in (*map(name_of, range(USERS)), "greedy")}
        services.checkout.grant(APP.of("greedy"), "small", OPERATOR)
        self.chats = {uid: services.chats.create(APP.of(uid), "A chat")["id"] for uid in self.tokens}

    def call(self, uid: str, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any]:
        """Send a request over a connection of its own; return its status and its JSON."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        kind = {"Authorization": f"Bearer {self.tokens[uid]}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, raw, {**kind, "Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()

    def good(self, uid: str, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        """Send a request that must succeed; return its JSON."""
        status, found = self.call(uid, method, path, body, headers)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {found}")
        return found

    def together(self, clients: int, work: Callable[[int], None]) -> None:
        """Run clients at once; the first error of one is raised."""
        errors: list[BaseException] = []

        def run(number: int) -> None:
            try:
                work(number)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def turns(self, number: int, until: float, seen: Seen) -> None:
        """Send messages of one user after another; several clients meet in one user's day now and then."""
        while time.monotonic() < until:
            uid, number = name_of(number % USERS), number + 7
            began = time.perf_counter()
            status, body = self.call(uid, "POST", f"/v1/chats/{self.chats[uid]}/messages", {"text": "Hello"})
            seen.add(uid, status, body, time.perf_counter() - began)

    def spend(self, _number: int, seen: Seen) -> None:
        """Spend one user's small budget at once with other clients, each in a chat of its own."""
        chat, refused = self.good("greedy", "POST", "/v1/chats", {})["id"], 0
        while refused < REFUSALS:
            status, body = self.call("greedy", "POST", f"/v1/chats/{chat}/messages", {"text": "Hello"})
            refused += not seen.add("greedy", status, body, 0.0)

    def document(self, count: int) -> None:
        """Put up a document, and see that every process finds it, and finds it no more once it is deleted."""
        uid, tries = name_of(0), 6 * count
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="note.md"\r\n\r\n'
        for text in (b"The marmot sleeps.", b"The marmot whistles."):
            body = head + b"# Animals\n\n" + text + b"\r\n--b--\r\n"
            document = self.good(uid, "POST", "/v1/uploads", body, kind)["id"]
            until = time.monotonic() + 60
            while (found := self.good(uid, "GET", f"/v1/documents/{document}"))["status"] != "ready":
                if found["status"] == "failed" or time.monotonic() > until:
                    raise AssertionError(f"the document is {found}")
                time.sleep(0.05)
            for _ in range(tries):
                texts = [each["text"] for each in self.searched(uid)]
                if len(texts) != 1 or text.decode() not in texts[0]:
                    raise AssertionError(f"a process finds {texts} where {text!r} was put up")
        self.good(uid, "DELETE", f"/v1/documents/{document}")
        for _ in range(tries):
            if found := self.searched(uid):
                raise AssertionError(f"a process finds {found}, which was deleted")

    def searched(self, uid: str) -> list[dict[str, Any]]:
        """Search for the document."""
        passages: list[dict[str, Any]] = self.good(uid, "POST", "/v1/search", {"query": "marmot"})["passages"]
        return passages

    def jobs(self) -> None:
        """Start jobs, and see that each ran once, whichever process took it."""
        users = [name_of(number) for number in range(min(USERS, JOBS))]
        started = {uid: self.good(uid, "POST", "/v1/me/exports")["id"] for uid in users}
        until = time.monotonic() + 120
        for uid, job in started.items():
            while (found := self.good(uid, "GET", f"/v1/jobs/{job}"))["state"] in {"queued", "running"}:
                if time.monotonic() > until:
                    raise AssertionError(f"a job is still {found}")
                time.sleep(0.05)
            if (found["state"], found["attempts"]) != ("succeeded", 1):
                raise AssertionError(f"a job ended so: {found}")


def name_of(number: int) -> str:
    """Return the id of a user."""
    return f"user-{number:03}"


def check(services: Services, seen: Seen, greedy: Seen) -> None:
    """Compare what users saw with what was stored."""
    store, ceiling = services.store, services.metering.ceiling
    assert ceiling is not None
    day = services.metering.today()
    uids = [*map(name_of, range(USERS)), "greedy"]
    documents = store.get_many([APP.of(uid).usage(day) for uid in uids])
    days = {uid: Day.of(document) for uid, document in zip(uids, documents, strict=True) if document is not None}
    cost = {uid: day_of.number("cost_micro_usd") for uid, day_of in days.items()}
    answered = {uid: seen.answered[uid] + greedy.answered[uid] for uid in uids}
    for uid, of_day in days.items():
        same(f"requests of {uid}", of_day.number("requests"), answered[uid])
    same("users with a day", {uid for uid in uids if answered[uid]}, set(days))
    most = services.settings.plans["small"].daily_usd
    if cost["greedy"] > most:
        raise AssertionError(f"{cost['greedy']} micro-dollars were spent of a budget of {most}")
    same("what users were told", {uid: seen.cost[uid] + greedy.cost[uid] for uid in cost}, cost)
    sums = [document.data for document in store.query(hours_query(APP, hours_of_day(day)))]
    calls = [figures for each in sums for figures in each.get("calls", {}).values()]
    same("the sums of the hours", sum(each.get("cost_micro_usd", 0) for each in calls), sum(cost.values()))
    same("the calls of the hours", sum(each.get("calls", 0) for each in calls), sum(answered.values()))
    pool = ceiling.pool(day)
    same("slices that did not come back", list(pool.leases), [])
    same("the app's ceiling", pool.spent("day", day), sum(cost.values()))


def same(what: str, found: Any, expected: Any) -> None:
    """Refuse a figure that is off."""
    if found != expected:
        raise AssertionError(f"{what}: {found} instead of {expected}")
