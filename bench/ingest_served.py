"""A served app that takes in small files: files a second, and what its chats and searches feel of that.

The app is the raw template in embedded mode under gunicorn, with the model and the index that it has without a key. One
client sends the files, another chats and searches at a steady pace, first while nothing else happens. All run on the
same cores, as on a laptop, so ratios of one run say more than times.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.parse import parse
from firelaunch.scope import Scope

from bench.report import Report, size

TEMPLATE = next((Path(__file__).parent.parent / "template").glob("*/firelaunch.toml")).parent
FILES = size(600, 8)
ROUNDS = size(5, 2)
WORDS = 220
PACE = 0.05
"""Seconds between two requests of the client that chats and searches."""

IDLE = size(150, 6)
COMMITS_A_SECOND = 33
CHUNKS, DIMENSIONS, SEARCHES = size((20_000, 384, 150), (400, 16, 5))
STARTS = size(10, 1)


def measure(report: Report) -> None:
    """Add the rows and ratios."""
    forks(report)
    with tempfile.TemporaryDirectory() as scratch:
        folder = app_folder(Path(scratch) / "app")
        with served(folder) as port:
            beside_ingestion(report, port)
        with served(folder) as port:
            client = Client(port, "ada")
            report.row("served app, after a start", "cold_first_search_s", client.search("word7 word11"), "s")
        beside_commits(report, Path(scratch) / "index")


def forks(report: Report) -> None:
    """Measure a parser's process against starting Python for each file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "note.md"
        path.write_bytes(note(0))

        def parsed() -> None:
            with path.open("rb") as file:
                list(parse(file, path.name))

        def started() -> None:
            code = "import firelaunch.rag.parse.child, firelaunch.rag.parse.markdown, markdown_it"
            subprocess.run([sys.executable, "-I", "-B", "-c", code], check=True)

        parsed()
        fork, start = (statistics.median(timed(work) for _ in range(STARTS)) for work in (parsed, started))
    report.row("a small file", "parsed in a fork", fork * 1e3, "ms")
    report.row("a small file", "start of Python with the parser's libraries", start * 1e3, "ms")
    report.ratio("fork_vs_start", fork / start)


def beside_ingestion(report: Report, port: int) -> None:
    """Files a second, and turns and searches meanwhile."""
    sender, other = Client(port, "ada"), Client(port, "ben")
    sender.upload("first.md", note(FILES))
    sender.wait_until_ready()
    other.upload("own.md", note(FILES + 1))
    other.wait_until_ready()
    asks: dict[str, Callable[[], float]] = {"turn": other.turn, "search": lambda: other.search("word7 word11")}
    for ask in asks.values():
        ask()
    idle: dict[str, list[float]] = {name: [] for name in asks}
    during: dict[str, list[float]] = {name: [] for name in asks}
    seconds = 0.0
    # Both are measured by turns: what else the machine does is then the same for both.
    for part in range(ROUNDS):
        for _ in range(IDLE // ROUNDS):
            for name, ask in asks.items():
                idle[name].append(paced(ask))
        files = range(part * FILES // ROUNDS, (part + 1) * FILES // ROUNDS)
        seconds += take_in(sender, files, asks, during)
    report.row(f"{FILES} small files", "files_per_second", FILES / seconds, "1/s")
    for name in asks:
        report.row(f"a {name}", "p50, idle", quantile(idle[name], 0.5) * 1e3, "ms")
        report.row(f"a {name}", "p50, during ingestion", quantile(during[name], 0.5) * 1e3, "ms")
        report.row(f"a {name}", "p95, idle", quantile(idle[name], 0.95) * 1e3, "ms")
        report.row(f"a {name}", "p95, during ingestion", quantile(during[name], 0.95) * 1e3, "ms")
    report.ratio("files_per_second", FILES / seconds, more_is_better=True)
    report.ratio("turn_p95_ratio_during_ingestion", quantile(during["turn"], 0.95) / quantile(idle["turn"], 0.95))


def take_in(
    sender: Client, files: range, asks: dict[str, Callable[[], float]], during: dict[str, list[float]]
) -> float:
    """Send files, and ask until they are ready; seconds that it takes."""
    # In a process of its own, as another user's client is: nothing here waits for its interpreter.
    sending = get_context("fork").Process(target=send, args=(sender, files))
    began = time.perf_counter()
    sending.start()
    while sending.is_alive():
        for name, ask in asks.items():
            during[name].append(paced(ask))
    sending.join()
    if sending.exitcode:
        raise OSError("the files could not be sent")
    return time.perf_counter() - began


def send(sender: Client, files: range) -> None:
    """Send files and wait until they are ready."""
    for number in files:
        sender.upload(f"{number}.md", note(number))
    sender.wait_until_ready()


def beside_commits(report: Report, folder: Path) -> None:
    """Searches of an embedded index with vectors, alone and beside a writer; and the first one of a process."""
    import numpy as np

    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((CHUNKS, DIMENSIONS), dtype=np.float32)
    scope, index = Scope("bench", "ada"), EmbeddedIndex(folder)

    def entries(first: int, count: int, name: str = "e") -> list[Entry]:
        numbers = range(first, first + count)
        return [Entry(f"{name}{n}", f"{name}{n // 4}", sentence(n), vectors[n % CHUNKS]) for n in numbers]

    for first in range(0, CHUNKS, 1_000):
        index.upsert(scope, "v1", entries(first, min(1_000, CHUNKS - first)))
    index.close()
    index = EmbeddedIndex(folder)

    def search() -> None:
        index.nearest(scope, "v1", vectors[7], 10)
        index.matching(scope, "v1", "word7 word11 word13", 10)

    first = timed(search)
    alone = [timed(search) for _ in range(SEARCHES)]
    over = threading.Event()
    commits = [0]

    def write() -> None:
        began = time.perf_counter()
        while not over.is_set():
            # Every other commit replaces what is there.
            index.upsert(scope, "v1", entries(4 * (commits[0] // 2), 4, "new"))
            commits[0] += 1
            over.wait(max(0.0, began + commits[0] / COMMITS_A_SECOND - time.perf_counter()))

    writer = threading.Thread(target=write)
    writer.start()
    began = time.perf_counter()
    beside = [paced(search, 0.02) for _ in range(SEARCHES)]
    rate = commits[0] / (time.perf_counter() - began)
    over.set()
    writer.join()
    index.close()
    case = f"{CHUNKS:,} chunks of {DIMENSIONS} dimensions"
    report.row(case, "first search of a process", first * 1e3, "ms")
    report.row(case, "search_p50, alone", quantile(alone, 0.5) * 1e3, "ms")
    report.row(case, f"search_p50 beside {COMMITS_A_SECOND} commits a second", quantile(beside, 0.5) * 1e3, "ms")
    report.row(case, "commits a second", rate, "1/s")
    report.ratio("search_p50_beside_commits_vs_alone", quantile(beside, 0.5) / quantile(alone, 0.5))


class Client:
    """A signed-in user with a connection of their own."""

    def __init__(self, port: int, uid: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._headers: dict[str, str] = {}
        self.token: str = self.call("POST", "/dev/token", {"uid": uid})["token"]
        self._headers = {"Authorization": f"Bearer {self.token}"}
        self._chat = self.call("POST", "/v1/chats", {})["id"]

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request; its answer's JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, {**self._headers, "Content-Type": kind})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content)

    def upload(self, name: str, content: bytes) -> None:
        """Send a file."""
        head = f'--bench\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        body = head + content + b"\r\n--bench--\r\n"
        self.call("POST", "/v1/uploads", body, "multipart/form-data; boundary=bench")

    def wait_until_ready(self) -> None:
        """Wait until each document is ready. They are done in order, but for a few at the end."""
        while True:
            page = self.call("GET", "/v1/documents?limit=20")
            states = {document["status"] for document in page["items"]}
            if states == {"ready"}:
                return
            if "failed" in states:
                raise OSError(f"a document failed: {page}")
            time.sleep(0.1)

    def turn(self) -> float:
        """Seconds of one message and its answer."""
        body = {"text": "What is the weather like?"}
        return timed(lambda: self.call("POST", f"/v1/chats/{self._chat}/messages", body))

    def search(self, query: str) -> float:
        """Seconds of one search."""
        return timed(lambda: self.call("POST", "/v1/search", {"query": query}))


def app_folder(target: Path) -> Path:
    """The raw template, whose plan stops nobody."""
    shutil.copytree(TEMPLATE, target, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
    toml, most = target / "firelaunch.toml", 10**6
    plan = f"requests_per_minute = {most}\nuploads_per_minute = {most}\ndocuments = {most}\n"
    text = toml.read_text().replace("requests_per_minute = 20\n", plan)
    toml.write_text(text.replace('daily_usd = "0.50"', f'daily_usd = "{most}"'))
    return target


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The app under gunicorn, as ``make serve`` runs it; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]
    environ = {"PATH": "/usr/bin:/bin", "PORT": str(port), "HOST": "127.0.0.1"}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        while True:
            if server.poll() is not None:
                raise OSError((folder / "server.log").read_text())
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    break
            except ConnectionError:
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def note(number: int) -> bytes:
    """A small file."""
    return f"# Note {number}\n\n{sentence(number, WORDS)}\n".encode()


def sentence(number: int, words: int = 40) -> str:
    """Return the words for a number."""
    dice = random.Random(number)  # noqa: S311 - the same text each time
    return " ".join(f"word{dice.randrange(3_000)}" for _ in range(words)) + "."


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paced(work: Callable[[], Any], pace: float = PACE) -> float:
    """Seconds that it takes, or that it says; then a pause."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    time.sleep(pace)
    return seconds


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
