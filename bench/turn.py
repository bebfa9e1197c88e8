"""What one JSON turn costs with a model that takes no time: CPU, round trips, documents; with short and long chats.

CPU is that of the whole WSGI call in one process, beside a plain Flask route that takes and gives JSON of the same
size. ``bench/turn_served.py`` has turns over HTTP, and other servers' in the same run.
"""

from __future__ import annotations

import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from firelaunch.llm.types import Chunk, ModelCall, TokenCounts
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import SERVER_TIME, Create, Document, Query, Transaction, Update, Write
from firelaunch.store.sqlite import SQLiteStore
from flask import Flask, request

from bench import turn_served
from bench.report import Report, progress, size

TEMPLATE = Path(__file__).parent.parent / "template" / "{{cookiecutter.app_slug}}"
HISTORIES = (10, 100, 1_000, 10_000)
TURNS = size(300, 20)
BATCH = 20
ANSWER = "The answer of a model that takes no time. " * 5


class StubModel:
    """Answers at once."""

    name = "stub"

    def complete(self, _call: ModelCall) -> Chunk:
        """The answer."""
        return Chunk(ANSWER, TokenCounts(input=500, output=60), "stop")

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """The answer."""
        yield self.complete(call)


class CountingStore:
    """A store that counts its round trips, and the documents they read and write."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.trips: list[str] = []
        self.read_documents = 0
        self.written_documents = 0

    def _reads(self, trip: str, found: Sequence[Document | None]) -> None:
        self.trips.append(trip)
        # Firestore bills a read for a document that is not there, too.
        self.read_documents += len(found)

    def get(self, path: str) -> Document | None:
        found = self.store.get(path)
        self._reads("read", [found])
        return found

    def get_many(self, paths: Sequence[str]) -> list[Document | None]:
        found = self.store.get_many(paths)
        self._reads("read", found)
        return found

    def query(self, query: Query) -> list[Document]:
        found = self.store.query(query)
        self._reads("read", found)
        return found

    def count(self, query: Query) -> int:
        self._reads("read", [None])
        return self.store.count(query)

    def read(
        self, paths: Sequence[str], queries: Sequence[Query]
    ) -> tuple[list[Document | None], list[list[Document]]]:
        documents, results = self.store.read(paths, queries)
        self._reads("read", [*documents, *(d for result in results for d in result)])
        return documents, results

    def commit(self, writes: Sequence[Write]) -> datetime:
        self.trips.append("commit")
        self.written_documents += len(writes)
        return self.store.commit(writes)

    def transaction(self, _work: Callable[[Transaction], Any]) -> Any:
        raise AssertionError("a turn needs no transaction: its commits carry preconditions")

    def delete_tree(self, path: str) -> int:
        return self.store.delete_tree(path)

    def close(self) -> None:
        self.store.close()


def main() -> None:
    """Measure and report."""
    report = Report("turn")
    cases = len(HISTORIES) + 1 + turn_served.steps()
    with tempfile.TemporaryDirectory() as scratch, progress("turn", cases) as step:
        route = route_cpu()
        step()
        report.row("plain Flask route", "CPU a request", route * 1e6, "us")
        seen = {}
        for messages in HISTORIES:
            seen[messages] = turns(Path(scratch) / str(messages), messages)
            step()
        turn_served.measure(report, step)
    for messages, figures in seen.items():
        case = f"chat of {messages} messages"
        report.row(case, "CPU a turn", figures["cpu"] * 1e6, "us")
        report.row(case, "documents read", figures["read"], "documents")
        report.row(case, "documents written", figures["written"], "documents")
    middle, few, many = seen[100], seen[10], seen[10_000]
    report.row("every turn", "round trips before the model", middle["before"], "round trips")
    report.row("every turn", "round trips after the model", middle["after"], "round trips")
    report.ratio("cpu_vs_flask_route", middle["cpu"] / route)
    report.ratio("cpu_10000_vs_10", many["cpu"] / few["cpu"])
    report.ratio("reads_10000_vs_10", many["read"] / few["read"])
    report.ratio("round_trips_before", middle["before"])
    report.ratio("round_trips_after", middle["after"])
    report.write()


def turns(folder: Path, messages: int) -> dict[str, float]:
    """Figures of one turn in a chat that has ``messages`` of them."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
    toml = folder / "firelaunch.toml"
    plans = "requests_per_minute = 20\n", "requests_per_minute = 1000000\n"
    toml.write_text(toml.read_text().replace(*plans).replace('daily_usd = "0.50"', 'daily_usd = "1000000"'))
    store = CountingStore(SQLiteStore(folder / "data.sqlite3"))
    services = build(Settings.load(toml, {"OPENAI_API_KEY": "none"}), store=store, provider=StubModel())
    app = App("bench")
    boundary: list[int] = []

    def workflow(turn: Any) -> Iterator[Chunk]:
        boundary.append(len(store.trips))
        prompt = turn.prompt("chat", app_name=turn.app.name)
        yield from turn.llm.stream([{"role": "system", "content": prompt}, *turn.history])

    init_app(app, services, workflow)
    assert services.dev_identity is not None
    token = services.dev_identity.issue("ada")
    chat = services.chats.create(services.store.scope.of("ada"), "A chat")["id"]
    fill(store.store, f"apps/my-app/users/ada/chats/{chat}", messages)

    def send() -> None:
        post(app, f"/v1/chats/{chat}/messages", {"text": "What is the weather like?"}, token)

    send()
    store.trips.clear()
    store.read_documents = store.written_documents = 0
    boundary.clear()
    send()
    figures = {
        "before": float(boundary[0]),
        "after": float(len(store.trips) - boundary[0]),
        "read": float(store.read_documents),
        "written": float(store.written_documents),
        "cpu": cpu(send),
    }
    store.close()
    return figures


def fill(store: SQLiteStore, chat: str, messages: int) -> None:
    """Give a chat its history."""
    for start in range(0, messages, 250):
        writes: list[Write] = [
            Create(
                f"{chat}/messages/m{number:06}",
                {"role": ("user", "assistant")[number % 2], "text": "Said before. " * 8, "created_at": SERVER_TIME},
            )
            for number in range(start, min(start + 250, messages))
        ]
        store.commit(writes)
    store.commit([Update(chat, {"message_count": messages})])


def route_cpu() -> float:
    """CPU seconds of a plain Flask route."""
    app = Flask("bare")

    @app.post("/v1/chats/<chat>/messages")
    def send(chat: str) -> dict[str, Any]:
        body = request.get_json()
        return {"chat": chat, "text": ANSWER, "asked": body["text"]}

    return cpu(lambda: post(app, "/v1/chats/x/messages", {"text": "What is the weather like?"}, "none"))


def cpu(work: Callable[[], None]) -> float:
    """Median over batches of the process's CPU seconds for one call of ``work``."""
    for _ in range(BATCH):
        work()
    found = []
    for _ in range(TURNS // BATCH):
        began = time.process_time()
        for _ in range(BATCH):
            work()
        found.append((time.process_time() - began) / BATCH)
    return statistics.median(found)


def post(app: Flask, path: str, body: Any, token: str) -> None:
    """One WSGI call, without a test client's own cost."""
    raw = json.dumps(body).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(raw)),
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_HOST": "localhost",
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    said: list[str] = []
    answer = app.wsgi_app(environ, lambda status, *_: said.append(status))
    body_out = b"".join(answer)
    assert said[0].startswith("200"), body_out
