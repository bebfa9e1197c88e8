"""A served app with users who go on whatever happens, and what they were promised against what is there at the end."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from firelaunch.store.base import DocumentStore, Query
from firelaunch.testing.models import Action, Fault, ModelServer, Reply
from support import PYTHON, ROOT, clean_environ, copy_template, free_port

__all__ = ["Outcome", "Provider", "Skipped", "Users", "World", "app_in"]

REQUEST_SECONDS = 6
"""The settings' limit of a request; after it a killed request's reservation expires."""

_APP = "my-app"
_GIVE_UP = 90.0


Books = tuple[Sequence[tuple[str, Mapping[str, Any]]], Sequence[Mapping[str, Any]]]
"""The days by user, and the calls."""


class Skipped(Exception):
    """This machine cannot play the fault; the message says why."""


@dataclass(slots=True)
class Outcome:
    """The cost of a fault.

    Attributes:
        lost: messages, answers and documents that a client was told are stored, and that are not there once.
        late: documents that are there, and are not ready within a minute: their job waits for a time that is to come.
        wrong_books: micro-dollars by which users' days, the records of their calls and the provider's books differ.
        recovered_s: seconds from the end of the fault to the first answered message of a new user; None for never.
        restarts: how often gunicorn started a worker anew.
        answered, refused: requests during the fault, the refused ones by status; "none" is a connection that ended.
        longest_s: the longest that a user waited for an answer of any kind during the fault.
    """

    fault: str
    lost: int = 0
    late: int = 0
    wrong_books: int = 0
    recovered_s: float | None = None
    restarts: int = 0
    answered: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    longest_s: float = 0.0
    skipped: str = ""
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, the books are exact and the app came back by itself."""
        return bool(self.skipped) or not (self.lost or self.wrong_books or self.recovered_s is None)


class Provider(ModelServer):
    """A model provider that charges the same for each answer, and can be down.

    Attributes:
        down: what it answers instead while it is down.
        calls: the requests that it received.
    """

    def __init__(self) -> None:
        super().__init__(Reply(words=[" word"] * 12, usage=(30, 0, 12), pace=0.01))
        self.down: Fault | None = None
        self.calls = 0

    def _next(self, request: dict[str, Any], authorization: str) -> Action:
        action = super()._next(request, authorization)
        for kept in (self.requests, self.authorizations, self.paths, self.headers):
            kept.clear()
        self.calls += 1
        return self.down or action


def app_in(folder: Path, **settings: str) -> Path:
    """Copy the template into ``folder``, with plans that stop nobody, and return the app's folder."""
    app = copy_template(folder)
    most = 10**6
    toml = app / "firelaunch.toml"
    plan = f"requests_per_minute = {most}\nuploads_per_minute = {most}\ndocuments = {most}\n"
    text = toml.read_text().replace("requests_per_minute = 20\n", plan).replace('"0.50"', f'"{most}"')
    text = text.replace("[limits]\n", f"[limits]\nrequest_seconds = {REQUEST_SECONDS}\n")
    text += "\n[jobs]\nlease_seconds = 2\nbackoff_seconds = 0.1\nbackoff_max_seconds = 1\nmax_attempts = 100\n"
    for before, after in settings.items():
        text = text.replace(before, after)
    toml.write_text(text)
    return app


class World:
    """One served app.

    Args:
        app: its folder.
        environ: more of its environment.
        before: a command that runs gunicorn: ``unshare``, ``env`` and the like.
    """

    def __init__(self, app: Path, provider: Provider, *, before: Sequence[str] = (), **environ: str) -> None:
        self.app, self.provider, self._before = app, provider, list(before)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = clean_environ(
            **{
                "PORT": str(self.port),
                "HOST": "127.0.0.1",
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": provider.base_url,
                "PYTHONPATH": str(ROOT / "tests"),
                **environ,
            }
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.store: DocumentStore | None = None
        """Where the data is, if it is not in the app's folder."""

    def start(self, wait: bool = True) -> None:
        """Start gunicorn, and wait until the app answers."""
        command = [PYTHON, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "chaos.app:create_app()"]
        # Beside the app's folder, which may be on a disk that is full.
        with (self.app.parent / f"{self.app.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._before, *command],
                cwd=self.app,
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Wait for /ready."""
        give_up = time.monotonic() + _GIVE_UP
        with httpx.Client(base_url=self.url, timeout=5, trust_env=False) as client:
            while time.monotonic() < give_up and (self.process is None or self.process.poll() is None):
                with suppress(httpx.TransportError):
                    if client.get("/ready").status_code == 200:
                        return
                time.sleep(0.05)
        raise AssertionError((self.app.parent / f"{self.app.name}.log").read_text()[-3000:])

    def stop(self) -> None:
        """End gunicorn, as Cloud Run does."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def master(self) -> int:
        """gunicorn's process."""
        assert self.process is not None
        return self.process.pid

    @property
    def worker(self) -> int:
        """Its worker; 0 where there is none at the moment."""
        with suppress(OSError):
            children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()
            return int(children[0]) if children else 0
        return 0

    def limit(self, kind: int, most: int) -> None:
        """Lower a limit of the worker."""
        _, hard = resource.prlimit(self.worker, kind)
        resource.prlimit(self.worker, kind, (most, hard))

    def unlimit(self, kind: int, before: tuple[int, int], pid: int) -> None:
        """Give the worker its limit back, if it still lives."""
        with suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)

    def books(self) -> tuple[dict[str, int], dict[str, int], int, int]:
        """Return what users' days and their calls' records say by user, the paid calls, and what is reserved."""
        days, calls = self._of_sqlite() if self.store is None else self._of_firestore(self.store)
        by_day: Counter[str] = Counter()
        reserved, now = 0, datetime.now(UTC).timestamp()
        for uid, day in days:
            by_day[uid] += day.get("cost_micro_usd", 0)
            reserved += sum(_time(held["expires_at"]) > now for held in day.get("reservations", {}).values())
        by_call: Counter[str] = Counter()
        for call in calls:
            by_call[call["uid"]] += call["cost_micro_usd"]
        paid = sum(call["cost_micro_usd"] > 0 for call in calls)
        return dict(by_day), dict(by_call), paid, reserved

    def _of_sqlite(self) -> Books:
        """Read the days and the calls with none of the product's own code."""
        with closing(sqlite3.connect(f"file:{self.app}/.firelaunch/data.sqlite3?mode=ro", uri=True)) as connection:
            days = connection.execute(
                "SELECT path, data FROM documents WHERE path GLOB ?", (f"apps/{_APP}/users/*/usage/*",)
            ).fetchall()
            calls = connection.execute(
                "SELECT data FROM documents WHERE collection = ?", (f"apps/{_APP}/calls",)
            ).fetchall()
        return [(path.split("/")[3], json.loads(text)) for path, text in days], [json.loads(text) for (text,) in calls]

    def _of_firestore(self, store: DocumentStore) -> Books:
        days = []
        for uid in store.ids(f"apps/{_APP}/users"):
            folder = f"apps/{_APP}/users/{uid}/usage"
            found = store.get_many([f"{folder}/{day}" for day in store.ids(folder)])
            days += [(uid, document.data) for document in found if document is not None]
        return days, [document.data for document in store.query(Query(f"apps/{_APP}/calls"))]


def _time(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    # SQLite's store marks a string that stands for a time.
    return datetime.fromisoformat(str(value).removeprefix("\x01t")).timestamp()


class Users:
    """Users of a served app, each in a thread of their own, who send messages and files until they are told to stop."""

    def __init__(self, world: World, count: int, prefix: str = "user") -> None:
        self._world, self._over = world, threading.Event()
        self._users = [_User(f"{prefix}{number}", number) for number in range(count)]
        self._threads = [threading.Thread(target=self._go_on, args=(user,)) for user in self._users]
        self._lock = threading.Lock()
        self._asked: list[tuple[float, float, str]] = []

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin_no_more(self) -> None:
        """Let each end what it is doing."""
        self._over.set()

    def stop(self) -> None:
        """Wait for what each is doing, and end."""
        self.begin_no_more()
        for thread in self._threads:
            thread.join()

    @property
    def promised(self) -> int:
        """Everything that a client was told is stored."""
        return sum(len(user.sent) + len(user.documents) for user in self._users)

    def _go_on(self, user: _User) -> None:
        with httpx.Client(base_url=self._world.url, timeout=45, trust_env=False) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    status = str(user.act(client))
                except httpx.TransportError:
                    status = "none"
                with self._lock:
                    self._asked.append((began, time.monotonic(), status))
                if not status.startswith("2"):
                    user.headers = {}
                    self._over.wait(0.2)

    def count(self, outcome: Outcome, start: float, end: float) -> None:
        """Count the requests that were on their way between two times."""
        for began, ended, status in self._asked:
            if began >= end or ended <= start:
                continue
            outcome.longest_s = max(outcome.longest_s, round(ended - began, 1))
            if status.startswith("2"):
                outcome.answered += 1
            else:
                outcome.refused[status] = outcome.refused.get(status, 0) + 1

    def look_for_all(self, outcome: Outcome) -> None:
        """Count what is lost, and what is wrong in the books, once nothing is on its way any more."""
        with httpx.Client(base_url=self._world.url, timeout=45, trust_env=False) as client:
            for user in self._users:
                for missing in user.missing(client):
                    outcome.lost += 1
                    outcome.examples.append(missing)
                outcome.late += user.late
        self._compare(outcome)
        outcome.examples = outcome.examples[:10]

    def _compare(self, outcome: Outcome) -> None:
        give_up = time.monotonic() + 2 * REQUEST_SECONDS + 20
        days, calls, count, reserved = self._world.books()
        while reserved and time.monotonic() < give_up:
            time.sleep(0.5)
            days, calls, count, reserved = self._world.books()
        if reserved:
            outcome.wrong_books += reserved
            outcome.examples.append(f"{reserved} reservations are still held")
        for uid in {*days, *calls}:
            difference = abs(days.get(uid, 0) - calls.get(uid, 0))
            if difference:
                outcome.examples.append(f"{uid}: {days.get(uid, 0)} by the day, {calls.get(uid, 0)} by the calls")
            outcome.wrong_books += difference
        for user in self._users:
            # Each answer that came whole was charged this much; calls that a fault cut short are billed, too.
            owed = sum(user.costs)
            outcome.wrong_books += max(0, owed - days.get(user.uid, 0))
        if count > self._world.provider.calls:
            outcome.wrong_books += count - self._world.provider.calls
            outcome.examples.append(f"{count} calls are recorded, {self._world.provider.calls} were made")


class _User:
    def __init__(self, uid: str, number: int) -> None:
        self.uid = uid
        self.headers: dict[str, str] = {}
        self._dice = random.Random(number)  # noqa: S311 - it keeps no secret
        self._chat = ""
        self._done = 0
        self.sent: list[tuple[str, str, str]] = []
        self.documents: list[str] = []
        self.costs: list[int] = []
        self.late = 0

    def act(self, client: httpx.Client) -> int:
        """Send one message or one file; its status."""
        if not self.headers:
            token = client.post("/dev/token", json={"uid": self.uid})
            if token.status_code != 200:
                return token.status_code
            self.headers = {"Authorization": f"Bearer {token.json()['token']}"}
        if not self._chat:
            chat = client.post("/v1/chats", json={}, headers=self.headers)
            if chat.status_code != 201:
                return chat.status_code
            self._chat = chat.json()["id"]
        self._done += 1
        if self._done % 8 == 0:
            return self._upload(client)
        return self._send(client, streamed=self._done % 2 == 0)

    def _send(self, client: httpx.Client, *, streamed: bool) -> int:
        text = f"{self.uid} says {self._done}"
        path = f"/v1/chats/{self._chat}/messages"
        headers = self.headers | ({"Accept": "text/event-stream"} if streamed else {})
        answer = client.post(path, json={"text": text}, headers=headers)
        if answer.status_code != 200:
            return answer.status_code
        if not streamed:
            self._promised(text, answer.json())
        elif "event: done" in answer.text:
            self._promised(text, json.loads(answer.text.rpartition("event: done\ndata: ")[2].partition("\n")[0]))
        else:
            return 299 if "event: error" not in answer.text else 599
        return 200

    def _promised(self, text: str, answer: dict[str, Any]) -> None:
        message = answer.get("message", answer)
        self.sent.append((self._chat, text, message["text"]))
        self.costs.append(int((message.get("usage") or {}).get("cost_micro_usd", 0)))

    def _upload(self, client: httpx.Client) -> int:
        files = {"file": (f"{self._done}.md", f"# {self.uid}\n\nsecret{self._done} word.\n".encode())}
        answer = client.post("/v1/uploads", files=files, headers=self.headers)
        if answer.status_code < 300:
            self.documents.append(answer.json()["id"])
        return answer.status_code

    def missing(self, client: httpx.Client) -> Iterator[str]:
        """Yield what is not there as it was promised."""
        self.headers = {}
        headers = {"Authorization": f"Bearer {client.post('/dev/token', json={'uid': self.uid}).json()['token']}"}
        for chat in {chat for chat, _, _ in self.sent}:
            texts = Counter(_texts(client, chat, headers))
            promised = [(text, answer) for sent_in, text, answer in self.sent if sent_in == chat]
            for text, _ in promised:
                if texts[text] != 1:
                    yield f"{text!r} is there {texts[text]} times"
            for answer, count in Counter(answer for _, answer in promised).items():
                if texts[answer] < count:
                    yield f"{self.uid} got {answer[:20]!r} {count} times, and the chat has it {texts[answer]} times"
        for document in self.documents:
            status = _status_in_the_end(client, document, headers)
            if status in {"", "failed"}:
                yield f"document {document} of {self.uid} is {status or 'not there'}"
            self.late += status != "ready"


def _texts(client: httpx.Client, chat: str, headers: dict[str, str]) -> list[str]:
    texts: list[str] = []
    cursor = ""
    while True:
        asked = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"/v1/chats/{chat}", params=asked, headers=headers).json()
        texts = [message["text"] for message in page["messages"]] + texts
        cursor = page.get("next_cursor") or ""
        if not cursor:
            return texts


def _status_in_the_end(client: httpx.Client, document: str, headers: dict[str, str]) -> str:
    give_up = time.monotonic() + 30
    while True:
        answer = client.get(f"/v1/documents/{document}", headers=headers)
        status = "" if answer.status_code == 404 else str(answer.json().get("status"))
        if status in {"", "failed", "ready"} or time.monotonic() > give_up:
            return status
        time.sleep(0.1)


def first_answer(world: World, uid: str, seconds: float = 60.0) -> float | None:
    """Return the seconds until a new user gets a whole answer, as somebody who tries again would see it."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        user = _User(uid, 0)
        with suppress(httpx.TransportError), httpx.Client(base_url=world.url, timeout=10, trust_env=False) as client:
            if user.act(client) == 200:
                return round(time.monotonic() - began, 1)
        time.sleep(0.1)
    return None


@contextmanager
def watched(world: World, fault: str, users: int, *, calm: float = 1.5, go_on: bool = True) -> Iterator[Outcome]:
    """Let users go on while the block plays a fault, then look at what they were promised.

    Without ``go_on`` they begin nothing more after the fault: so many would be a load of their own.
    """
    outcome = Outcome(fault)
    worker = world.worker
    with Users(world, users) as crowd:
        give_up = time.monotonic() + 30
        while crowd.promised < users and time.monotonic() < give_up:
            time.sleep(0.05)
        time.sleep(calm)
        start = time.monotonic()
        yield outcome
        end = time.monotonic()
        if not go_on:
            crowd.begin_no_more()
        outcome.recovered_s = first_answer(world, "newcomer")
        time.sleep(calm)
    crowd.count(outcome, start, end)
    outcome.restarts = int(world.worker != worker)
    if outcome.recovered_s is not None:
        crowd.look_for_all(outcome)
    if not crowd.promised:
        outcome.examples.append("no user was ever answered")
        outcome.lost += 1
