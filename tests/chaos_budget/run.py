"""Guests send messages until they are refused, workers are killed meanwhile, and the books are compared."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from firelaunch.metering.ceiling import Ceiling
from firelaunch.metering.reservations import Day
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store import sqlite
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.models import Action, Fault, Reply
from fuzz_metering.books import Attempt, Books
from support import PYTHON, ROOT, clean_environ, free_port

__all__ = ["Load", "Report", "run"]

_APP = Scope("demo")
_SETTINGS = (
    SETTINGS.replace("thinking_tokens = 0", "thinking_tokens = 0\nprompt_tokens = 0\nrequest_seconds = 20")
    + """
[plans.guest]
requests_per_minute = 100000
daily_usd = "1000"
cheaper_model_at_percent = 100

[budget]
daily_usd = "1000"
monthly_usd = "1000"
"""
)
_REFUSALS = 3
"""A client stops after so many refusals."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Load:
    """So many ``users`` by so many ``clients`` at once against a ceiling, on ``processes`` of which some are killed."""

    users: int
    clients: int
    processes: int
    kills: int
    ceiling_usd: str


@dataclass(slots=True)
class Report:
    """The outcome of a run. Money in micro-dollars, or percents of the ceiling.

    ``overrun`` is what was charged beyond the ceiling by the model server's books, or used beyond it by the pool's.
    ``unused`` is what the server had not charged yet when the first request was refused. ``difference`` is between what
    the pool says was spent and what the users' days were billed, once every slice is back. ``given_up`` is what was
    drawn by requests that a kill kept from settling, and ``lost`` what the server charged for them.
    """

    users: int
    processes: int
    ceiling_micro_usd: int
    kills: int = 0
    turns: int = 0
    refused: int = 0
    failed: int = 0
    charged_micro_usd: int = 0
    overrun_micro_usd: int = 0
    unused_percent: float = 100.0
    difference_micro_usd: int = 0
    given_up_micro_usd: int = 0
    lost_micro_usd: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the ceiling held and the books agree."""
        exact = not (self.overrun_micro_usd or self.difference_micro_usd or self.examples)
        return exact and self.unused_percent <= 5 and self.lost_micro_usd <= self.given_up_micro_usd


def run(folder: Path, load: Load, say: Say = lambda _: None, seed: int = 0) -> Report:
    """Run it in ``folder``. ``say`` is told how far it is."""
    began = time.monotonic()
    path = write_app(folder, _SETTINGS + f'guests_daily_usd = "{load.ceiling_usd}"\n')
    services = build(Settings.load(path, {"OPENAI_API_KEY": "k"}))
    ceiling = services.settings.budget.guests_daily_usd or 0
    report = Report(load.users, load.processes, ceiling)
    with Books() as books:
        known = {"settings": str(path), "models": books.base_url}
        port = free_port()
        environ = clean_environ(
            CHAOS=json.dumps(known), PYTHONPATH=str(ROOT / "tests"), PORT=str(port), HOST="127.0.0.1"
        )
        with _gunicorn(environ, folder, load.processes) as pids:
            crowd = _Crowd(services, books, f"http://127.0.0.1:{port}", load, report, seed)
            crowd.wait_for_all(pids)
            _send_all(crowd, pids, say)
        report.charged_micro_usd = crowd.charged()
    _compare(services, crowd, report)
    services.store.close()
    report.seconds = round(time.monotonic() - began, 1)
    return report


class _Crowd:
    """The guests, and what the model server charged for their messages."""

    def __init__(self, services: Services, books: Books, url: str, load: Load, report: Report, seed: int) -> None:
        self._services, self._books, self._url, self._load, self._report = services, books, url, load, report
        self._seed = seed
        self._lock = threading.Lock()
        self._attempts: list[Attempt] = []
        self._chats: dict[str, tuple[str, str]] = {}
        self.first_refusal: int | None = None

    def charged(self) -> int:
        return sum(attempt.charged for attempt in list(self._attempts))

    def wait_for_all(self, pids: Callable[[], list[int]]) -> None:
        give_up = time.monotonic() + 120
        with httpx.Client(base_url=self._url, trust_env=False) as client:
            while time.monotonic() < give_up:
                with suppress(httpx.TransportError):
                    if len(pids()) == self._load.processes and client.get("/ready").status_code == 200:
                        return
                time.sleep(0.1)
        raise RuntimeError("the processes did not come up")

    def client(self, number: int) -> None:
        """One client: it sends messages of random guests until it was refused some times."""
        dice = random.Random(f"{self._seed}-{number}")  # noqa: S311 - it keeps no secret
        refused = sent = 0
        while refused < _REFUSALS:
            sent += 1
            uid = f"guest-{dice.randrange(self._load.users)}"
            key = f"c{number}x{sent}"
            attempt = self._books.expect(key, _script(dice))
            with self._lock:
                self._attempts.append(attempt)
            text = f"{key} hello" + (" twice" if dice.random() < 0.1 else "")
            # A connection of its own for each message, so that all processes get some.
            with suppress(httpx.TransportError), httpx.Client(base_url=self._url, trust_env=False, timeout=60) as http:
                token, chat = self._signed_in(uid)
                path, headers = f"/v1/chats/{chat}/messages", {"Authorization": f"Bearer {token}"}
                answer = http.post(path, json={"text": text}, headers=headers)
                refused += self._count(answer)

    def _signed_in(self, uid: str) -> tuple[str, str]:
        found = self._chats.get(uid)
        if found is None:
            assert self._services.dev_identity is not None
            chat = self._services.chats.create(_APP.of(uid), "A chat")["id"]
            found = self._chats[uid] = self._services.dev_identity.issue_to_guest(uid), chat
        return found

    def _count(self, answer: httpx.Response) -> bool:
        with self._lock:
            self._report.turns += 1
            if answer.status_code == 200:
                return False
            code = answer.json()["error"]["code"]
            if code != "app_budget_exceeded":
                self._report.failed += 1
                return False
            self._report.refused += 1
            if self.first_refusal is None:
                self.first_refusal = self.charged()
            return True


def _script(dice: random.Random) -> list[Action]:
    """How the model's server answers one message: mostly as usual, at times badly or without saying what it costs."""
    usual = Reply(usage=(30, 0, dice.randrange(60, 100)), pace=0.001)
    return dice.choices([[usual], [Fault(500), usual], [Reply(usage=None)]], [90, 5, 5])[0]


def _send_all(crowd: _Crowd, pids: Callable[[], list[int]], say: Say) -> None:
    over = threading.Event()
    killer = threading.Thread(target=_kill, args=(crowd, pids, over, say))
    killer.start()
    try:
        with ThreadPoolExecutor(crowd._load.clients) as pool:
            list(pool.map(crowd.client, range(crowd._load.clients)))
    finally:
        over.set()
        killer.join()


def _kill(crowd: _Crowd, pids: Callable[[], list[int]], over: threading.Event, say: Say) -> None:
    """Kill a worker each time that another part of the ceiling was charged, so that the kills come all the way."""
    report, kills = crowd._report, crowd._load.kills
    while not over.wait(0.05):
        charged = crowd.charged()
        say(f"{100 * charged // report.ceiling_micro_usd:>3}% charged, {report.turns} turns, {report.kills} killed")
        if report.kills < kills and charged * (kills + 1) >= report.ceiling_micro_usd * (report.kills + 1):
            with suppress(ProcessLookupError):
                os.kill(random.choice(pids()), signal.SIGKILL)  # noqa: S311 - a test's dice
                report.kills += 1


@contextmanager
def _gunicorn(environ: dict[str, str], folder: Path, processes: int) -> Iterator[Callable[[], list[int]]]:
    command = [PYTHON, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "--threads", "8"]
    command += ["-w", str(processes), "chaos_budget.worker:create_app()"]
    with (folder / "workers.log").open("ab") as log:
        master = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def pids() -> list[int]:
        if master.poll() is not None:
            raise RuntimeError((folder / "workers.log").read_text()[-3000:])
        return [int(pid) for pid in Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()]

    try:
        yield pids
    finally:
        master.terminate()
        try:
            master.wait(timeout=60)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()


def _compare(services: Services, crowd: _Crowd, report: Report) -> None:
    """Compare the pool with the users' days and with the model server's books, once all slices are back."""
    day, ceiling = services.metering.today(), services.metering.ceiling
    assert ceiling is not None
    for pool in (ceiling.pool(day), _all_back(ceiling, day)):
        most = max(report.charged_micro_usd, pool.used("guests", day)) - report.ceiling_micro_usd
        report.overrun_micro_usd = max(report.overrun_micro_usd, most)
    spent, report.given_up_micro_usd = pool.spent("guests", day), pool.given_up("guests", day)
    users = services.store.ids(_APP.users())
    days = services.store.get_many([_APP.of(uid).usage(day) for uid in users])
    billed = sum(Day.of(each).number("cost_micro_usd") for each in days)
    report.difference_micro_usd = spent - billed
    report.lost_micro_usd = max(0, report.charged_micro_usd - billed)
    if pool.leases:
        report.examples.append(f"{len(pool.leases)} slices did not come back")
    if pool.spent("day", day) != spent:
        report.examples.append(f"of {spent} that guests spent the app's day has {pool.spent('day', day)}")
    if crowd.first_refusal is not None:
        unused = report.ceiling_micro_usd - crowd.first_refusal
        report.unused_percent = round(100 * unused / report.ceiling_micro_usd, 2)


def _all_back(ceiling: Ceiling, day: str) -> Any:
    """Return the pool as it is when the last request of each process must be over: an hour later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) + timedelta(hours=1)

    before, clock = sqlite.datetime, ceiling.clock
    sqlite.datetime = Later  # type: ignore[misc]
    ceiling.clock = lambda: Later.now(UTC)
    try:
        ceiling.reclaim(day)
    finally:
        sqlite.datetime = before  # type: ignore[misc]
        ceiling.clock = clock
    return ceiling.pool(day)
