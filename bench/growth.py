"""Measure reads, writes, round trips and CPU of each operation while one thing of an app grows, from small to large.

Each curve lets one thing grow, such as a user's chats, and asks for the operations that meet it. It runs on the
embedded store and, with smaller sizes, on the Firestore emulator, where reads are counted by Firestore's rules of
billing. A curve is "flat", "logarithmic", or it "grows"; what grows is listed at the end with the power of the size by
which it does.
"""

from __future__ import annotations

import logging
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count, islice, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from firelaunch.chats.store import new_chat
from firelaunch.metering.sums import user_writes
from firelaunch.paging import page_cursor
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.firestore import FirestoreIndex
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.retrieve import Retriever
from firelaunch.records.collection import Collection
from firelaunch.records.cursors import cursor_of
from firelaunch.records.record import Record
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Document, Filter, Order, Query, Set, Transaction, Write
from firelaunch.store.firestore import FirestoreStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in, write_app
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.firestore_reads import FirestoreReads

from bench.ops import requests
from bench.report import Report, progress, size
from bench.turn import CountingStore, StubModel

T = TypeVar("T")

APP = Scope("demo")
REPEATS = size(9, 1)
PAGE = 50
EXPORTED = 1_000
LONG_CHAT = 5
DIMENSIONS = 64
RATES = ("requests", "turns", "search", "uploads", "files", "account", "groups", "changes", "ops")
READ_USD, WRITE_USD = 0.06 / 100_000, 0.18 / 100_000
"""Of one document (https://cloud.google.com/firestore/pricing, the most of its regions in the lower tier)."""

FLAT = 1.25
"""The most by which a flat curve's last figure may exceed that of the first full page. It is the noise of a CPU."""

EACH_TENFOLD = 0.5
"""The most that each tenfold size may add to a logarithmic curve, as a share of that first figure."""


class Meal(Record):
    """A record of an app's own."""

    name: str
    kind: str
    kcal: int


MEALS = Collection("meals", Meal, queries=[("kind", "-kcal")])


class RandomModel:
    """Makes vectors at random, at once."""

    id, batch_texts, batch_tokens = "random", 1_000, 10_000_000

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)

    def request(self, texts: Sequence[str], **_: Any) -> Embedded:
        """The vectors of texts."""
        vectors = self._rng.standard_normal((len(texts), DIMENSIONS)).astype(np.float32)
        return Embedded(vectors, tokens=len(texts))


class GrowthStore(CountingStore):
    """Counts what groups, jobs and exports do to a store, too."""

    def __init__(self, store: SQLiteStore | FirestoreStore) -> None:
        super().__init__(store)

    def query(self, query: Query) -> list[Document]:
        found = self.store.query(query)
        self._reads("read", found or [None])  # Firestore bills a query that finds nothing
        return found

    def ids(self, collection: str) -> Iterator[str]:
        for number, name in enumerate(self.store.ids(collection)):
            self._reads("read" if number % 300 == 0 else "", [None])
            yield name

    def tree(self, path: str) -> Iterator[str]:
        for number, name in enumerate(self.store.tree(path)):
            self._reads("read" if number % 300 == 0 else "", [None])
            yield name

    def collections(self, document: str) -> Iterator[str]:
        self._reads("read", [])
        return self.store.collections(document)

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        self.trips += ["begin", "commit"]
        return self.store.transaction(lambda transaction: work(_Counted(transaction, self)))

    def scrub(self) -> None:
        self.store.scrub()


class _Counted:
    """A transaction whose reads and writes are counted."""

    def __init__(self, transaction: Transaction, counts: GrowthStore) -> None:
        self._transaction, self._counts = transaction, counts

    def get(self, path: str) -> Document | None:
        self._counts._reads("read", [None])
        return self._transaction.get(path)

    def query(self, query: Query) -> list[Document]:
        found = self._transaction.query(query)
        self._counts._reads("read", found or [None])
        return found

    def write(self, *writes: Write) -> None:
        self._counts.written_documents += len(writes)
        self._transaction.write(*writes)

    def on_commit(self, listener: Callable[[datetime], None]) -> None:
        self._transaction.on_commit(listener)


class World:
    """One app on one store."""

    def __init__(self, folder: Path, project: str, client: Any) -> None:
        store = SQLiteStore(folder / "data.sqlite3") if client is None else FirestoreStore(project, client=client)
        self.store, self.vectors, self.numbers = GrowthStore(store), 0, count()
        self.group = self.chat = ""
        self.reads = None if client is None else FirestoreReads(client, lambda *_: self.vectors)
        self.index = EmbeddedIndex(folder / "index") if client is None else FirestoreIndex(project, client=client)
        rates = "\n".join(f"{name} = 1000000" for name in RATES)
        plan = "requests_per_minute = 1000000\ngroups = 9\ngroup_members = 10000\ndocuments = 10000\n"
        settings = SETTINGS.replace("requests_per_minute = 1000\n", f"{plan}uploads_per_minute = 1000000\n")
        settings = settings.replace('daily_usd = "0.50"', 'daily_usd = "100000"')
        groups = '[groups]\nchats_paid_by = "writer"\nchats_on_erase = "delete"\n'
        toml = write_app(folder, f'{settings}\n[rates]\n{rates}\n\n{groups}\n[index]\nembedder = "none"\n')
        environ = {"FIRELAUNCH_DATA": str(folder / ".firelaunch"), "OPENAI_API_KEY": "none"}
        self.app = App("bench", collections=[MEALS])
        services = build(Settings.load(toml, environ), store=self.store, provider=StubModel())
        init_app(self.app, services, lambda turn: turn.llm.stream(turn.history))
        self.services = services

    def user(self, uid: str, role: str = "member") -> User:
        """Sign in."""
        return sign_in(self.app, uid, role)

    def fill(self, writes: Iterator[Write]) -> None:
        """Store documents in bulk, past the counters."""
        while page := list(islice(writes, 400)):
            self.store.store.commit(page)


@dataclass(frozen=True)
class Once:
    """An operation that goes through many things, such as an export. Its figures are those of one of them.

    Args:
        work: what to measure, a single time.
        each: how many things there are.
    """

    work: Callable[[], Any]
    each: int


Operation = Callable[[], Any] | Once


@dataclass
class Curve:
    """Something that grows.

    Args:
        sizes: how many there are; the emulator gets those up to ``most``.
        fill: stores the numbers of a range.
        operations: what to measure at a size, by name.
    """

    name: str
    sizes: Sequence[int]
    most: int
    fill: Callable[[World, range], None]
    operations: Callable[[World, int], dict[str, Operation]]


@dataclass
class Figures:
    """The figures of one operation on one backend, size by size."""

    unit_of: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, metric: str, value: float, unit: str) -> None:
        self.unit_of[metric] = unit
        self.values.setdefault(metric, []).append(value)


def main() -> None:
    """Measure and report."""
    report = Report("growth")
    logging.disable(logging.INFO)
    curves = all_curves()
    growing: list[str] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        Emulator.start() as emulator,
        progress("growth", 2 * len(curves)) as step,
    ):
        for curve, backend in product(curves, ("embedded", "emulator")):
            sizes = [each for each in curve.sizes if backend == "embedded" or each <= curve.most]
            folder = Path(scratch) / f"{curve.name}-{backend}".replace(" ", "-")
            for name, figures in measured(curve, sizes, folder, emulator if backend == "emulator" else None).items():
                growing += reported(report, f"{curve.name}: {name}, {backend}", sizes, figures)
            step()
    report.write()
    print("  grows with its size: " + ("; ".join(growing) or "nothing"))


def measured(curve: Curve, sizes: Sequence[int], folder: Path, emulator: Emulator | None) -> dict[str, Figures]:
    """Grow one thing on the emulator, or on the embedded store where it is None, and measure at each size."""
    found: dict[str, Figures] = {}
    project = f"demo-{folder.name}".lower()
    client = None if emulator is None else emulator.client(project)
    world, have = World(folder, project, client), 0
    for most in sizes:
        curve.fill(world, range(have, most))
        have = most
        for name, operation in curve.operations(world, most).items():
            cost(world, operation, found.setdefault(name, Figures()))
    world.store.close()
    if emulator is not None:
        emulator.clear(project)
    return found


def cost(world: World, operation: Operation, figures: Figures) -> None:
    """Add what one operation costs: its counts after a first one that warms caches, and its CPU time."""
    store, seconds = world.store, []
    work, each, times = (
        (operation.work, operation.each, 1) if isinstance(operation, Once) else (operation, 1, 1 + REPEATS)
    )
    for _ in range(times):
        store.trips, store.read_documents, store.written_documents = [], 0, 0
        if world.reads is not None:
            world.reads.reset()
        began = time.process_time()
        work()
        seconds.append((time.process_time() - began) / each)
    billed = store.read_documents if world.reads is None else world.reads.billed
    figures.add("reads", billed / each, "documents")
    figures.add("writes", store.written_documents / each, "documents")
    figures.add("round trips", len([trip for trip in store.trips if trip]) / each, "round trips")
    figures.add("CPU", statistics.median(seconds[1:] or seconds) * 1e6, "us")


def reported(report: Report, case: str, sizes: Sequence[int], figures: Figures) -> list[str]:
    """Add an operation's curves to the report, and return the names of those that grow."""
    growing = []
    for metric, values in figures.values.items():
        shape = shape_of(sizes[: len(values)], values, 1.0 if metric != "CPU" else 300.0)
        report.curve(case, metric, figures.unit_of[metric], dict(zip(sizes, values, strict=False)), shape)
        if shape.startswith("grows"):
            growing.append(f"{case}, {metric} ({shape})")
    reads, writes = figures.values["reads"][-1], figures.values["writes"][-1]
    report.row(f"{case}, {sizes[-1]:,}", "1,000 times", 1_000 * (reads * READ_USD + writes * WRITE_USD), "USD")
    return growing


def shape_of(sizes: Sequence[int], values: Sequence[float], least: float) -> str:
    """Return how a curve runs, from the first size that fills a page: "flat", "logarithmic" or "grows by n^power".

    Args:
        least: what is added to each figure, so that a second one where there was one before is no growth.
    """
    full = next((number for number, each in enumerate(sizes) if each > PAGE), len(sizes) - 1)
    first, last, times = values[full] + least, values[-1] + least, sizes[-1] / sizes[full]
    if last <= FLAT * first or times <= 1:
        return "flat"
    if last <= first * (1 + EACH_TENFOLD * math.log10(times)):
        return "logarithmic"
    return f"grows by n^{math.log(last / first) / math.log(times):.2f}"


def all_curves() -> list[Curve]:
    """Return every curve."""
    return [
        Curve("chats", size((10, 100, 1_000, 10_000), (10, 60)), 10_000, chats, of_chats),
        Curve("users", size((10, 100, 1_000, 10_000), (10, 60)), 10_000, users, of_users),
        Curve("documents", size((10, 100, 1_000), (10, 60)), 1_000, documents, of_documents),
        Curve("chunks", size((1_000, 10_000, 100_000), (100, 200)), 10_000, chunks, of_chunks),
        Curve("call records", size((1_000, 10_000, 100_000, 1_000_000), (60, 120)), 10_000, records, of_records),
        Curve("own records", size((100, 1_000, 10_000, 100_000), (10, 60)), 10_000, meals, of_meals),
        Curve("members", size((10, 100, 1_000), (10, 60)), 1_000, members, of_members),
    ]


START = datetime(2026, 1, 1, tzinfo=UTC)


def at(number: int) -> datetime:
    """Return the time of one of many."""
    return START + timedelta(minutes=number)


def said(answer: Any) -> Any:
    """Return an answer's JSON; fail where it is an error."""
    if answer.status_code >= 300:
        raise AssertionError(f"{answer.request.path}: {answer.get_data(as_text=True)[:500]}")
    return answer.get_json(silent=True)


def last_page(ids_and_times: tuple[str, datetime], field: str) -> str:
    """Return the cursor after one item of a list."""
    name, moment = ids_and_times
    document = Document(f"x/{name}", {field: moment}, moment, moment)
    return str(page_cursor([document, document], 1, field))


# -- chats of one user ------------------------------------------------------------------------------------------------


def chats(world: World, numbers: range) -> None:
    """Give Ada chats of two messages, and one that is longer than the history that a turn reads."""
    user = APP.of("ada")
    writes: list[Write] = []
    for number in numbers:
        path = user.chat(f"c{number:06}")
        writes.append(Create(path, {**new_chat("About soup", at(number)), "message_count": 2}))
        for part in range(60 if number == LONG_CHAT else 2):
            message = {
                "role": ("user", "assistant")[part % 2],
                "text": "Said before. " * 8,
                "created_at": at(number) + timedelta(seconds=part),
            }
            writes.append(Create(f"{path}/messages/m{part:02}", message))
    world.fill(iter(writes))


def of_chats(world: World, most: int) -> dict[str, Operation]:
    """Return what meets a user's chats."""
    ada = world.user("ada")
    cursor = last_page((f"c{10:06}", at(10)), "updated_at")

    def export() -> None:
        job = said(ada.post("/v1/me/exports"))["id"]
        run_jobs(world.app)
        ended = said(ada.get(f"/v1/jobs/{job}"))
        if ended["state"] != "succeeded":
            raise AssertionError(f"the export ended so: {ended}")

    # There is one export a day.
    for name in list(world.store.store.ids(APP.of("ada").exports())):
        world.store.store.delete_tree(APP.of("ada").export(name))
        world.store.store.delete_tree(APP.job(name))
    found: dict[str, Operation] = {
        "turn": lambda: said(ada.send(f"c{LONG_CHAT:06}", "What is the weather like?")),
        "list, first page": lambda: said(ada.get(f"/v1/chats?limit={PAGE}")),
        "list, last page": lambda: said(ada.get(f"/v1/chats?limit={PAGE}&cursor={cursor}")),
        "read a chat": lambda: said(ada.get("/v1/chats/c000004")),
        "new chat": lambda: said(ada.post("/v1/chats")),
        "usage": lambda: said(ada.get("/v1/usage")),
    }
    # On the emulator an export of more takes minutes.
    return found if world.reads and most > EXPORTED else found | {"export, each chat": Once(export, most)}


# -- users of the app -------------------------------------------------------------------------------------------------


def users(world: World, numbers: range) -> None:
    """Add users, each with a day's use, a membership and a job."""
    today = world.services.clock()
    day = f"{today:%Y-%m-%d}"
    writes: list[Write] = []
    for number in numbers:
        user = APP.of(f"user-{number:06}")
        used = {"requests": 3, "cost_micro_usd": number % 977}
        writes += user_writes(user, day, used)
        writes.append(Set(user.usage(day), used))
        writes.append(Set(user.member(), {"role": "member", "joined": at(number), "updated_at": at(number)}))
        job = {
            "kind": "export", "uid": user.uid, "state": "succeeded", "payload": "{}", "attempts": 1, "max_attempts": 5,
            "seconds": 60, "fence": 1, "created_at": at(number), "history": [],
        }  # fmt: skip
        writes.append(Set(APP.job(f"job{number:06}"), job))
    world.fill(iter(writes))


def of_users(world: World, _most: int) -> dict[str, Operation]:
    """Return what meets an app's users."""
    root, ada = world.user("root", "admin"), world.user("user-000003")
    chat = ada.new_chat()
    month = f"{world.services.clock():%Y-%m}"
    cursor = last_page(("user-000008", at(8)), "updated_at")
    return {
        "turn": lambda: said(ada.send(chat, "What is the weather like?")),
        "usage": lambda: said(ada.get("/v1/usage")),
        "own jobs": lambda: said(ada.get(f"/v1/jobs?limit={PAGE}")),
        "dead jobs": lambda: said(root.get(f"/v1/ops/jobs?limit={PAGE}")),
        "members, first page": lambda: said(root.get(f"/v1/ops/members?limit={PAGE}")),
        "members, last page": lambda: said(root.get(f"/v1/ops/members?limit={PAGE}&cursor={cursor}")),
        "dearest users": lambda: said(root.get(f"/v1/ops/users?period={month}&limit=10")),
        "costs, a day": lambda: said(root.get("/v1/ops/sums")),
        "usage of the app": lambda: said(root.get("/v1/ops/usage?days=30")),
    }


# -- documents of one user, and chunks --------------------------------------------------------------------------------


def documents(world: World, numbers: range) -> None:
    """Give Ada documents that are ready."""
    world.fill(document(f"d{number:06}", at(number)) for number in numbers)


def document(name: str, made: datetime) -> Create:
    """Return the record of a document of Ada's."""
    record = {
        "name": f"{name}.md", "source": "text", "url": None, "bytes": 900, "hash": sha256(name.encode()).hexdigest(),
        "status": "ready", "progress": 1.0, "error": None, "job": "none", "generation": "g", "shown": None,
        "stale": [], "indexed": {}, "chunks": 3, "characters": 900, "warnings": [], "parts": [], "cost_micro_usd": 0,
        "created_at": made, "updated_at": made,
    }  # fmt: skip
    return Create(APP.of("ada").document(name), record)


def of_documents(world: World, most: int) -> dict[str, Operation]:
    """Return what meets a user's documents."""
    ada, gone = world.user("ada"), [f"d9{most:06}{number:02}" for number in range(1 + REPEATS)]
    cursor = last_page(("d000008", at(8)), "created_at")
    world.fill(document(name, at(9)) for name in gone)

    def upload() -> None:
        name = f"new {next(world.numbers)}.md"
        said(ada.upload(name, f"# Soup\n\nThere is soup, {name}.".encode()))

    return {
        "list, first page": lambda: said(ada.get(f"/v1/documents?limit={PAGE}")),
        "list, last page": lambda: said(ada.get(f"/v1/documents?limit={PAGE}&cursor={cursor}")),
        "upload": upload,
        "read one": lambda: said(ada.get("/v1/documents/d000003")),
        "delete": lambda: said(ada.delete(f"/v1/documents/{gone.pop()}")),
    }


def chunks(world: World, numbers: range) -> None:
    """Put chunks into the index that belongs to the backend."""
    rng = np.random.default_rng(numbers.start)
    odds = 1 / np.arange(1, 40_001)
    odds /= odds.sum()
    for begin in range(numbers.start, numbers.stop, 500):
        rows = range(begin, min(begin + 500, numbers.stop))
        words = rng.choice(40_000, (len(rows), 60), p=odds)
        vectors = rng.standard_normal((len(rows), DIMENSIONS)).astype(np.float32)
        entries = [
            Entry(f"{number:032x}", f"d{number // 50}", " ".join(f"w{word}" for word in text), vector)
            for number, text, vector in zip(rows, words, vectors, strict=True)
        ]
        world.index.upsert(APP.of("ada"), "v1", entries)


def of_chunks(world: World, most: int) -> dict[str, Operation]:
    """Return what a question of eight words meets."""
    world.vectors = most
    index = ScopedIndex(world.index, APP.app_id)
    by_words = Retriever(index, lambda: "v1", None)
    hybrid = Retriever(index, lambda: "v1", Embedder(RandomModel()))

    def ask(retriever: Retriever, low: int) -> None:
        number = next(world.numbers)
        retriever.search(APP.of("ada"), " ".join(f"w{low + (number * 7 + each) % 400}" for each in range(8)))

    return {
        "search by words, common": lambda: ask(by_words, 0),
        "search by words, rare": lambda: ask(by_words, 5_000),
        "search by words and vectors": lambda: ask(hybrid, 5_000),
    }


# -- call records of the app ------------------------------------------------------------------------------------------


def records(world: World, numbers: range) -> None:
    """Store records of requests and of their calls, of a thousand users."""
    found = islice(requests(numbers.stop), numbers.start, None)
    world.fill(
        write
        for number, (request, call, _) in zip(numbers, found, strict=True)
        for write in (Create(APP.request(f"r{number}"), request), Create(APP.call(f"r{number}-1"), call))
    )


def of_records(world: World, _most: int) -> dict[str, Operation]:
    """Return what meets the app's records of calls."""
    root, ada = world.user("root", "admin"), world.user("user-1")
    chat = ada.new_chat()

    def of_all(order: str, limit: int = PAGE) -> Operation:
        return lambda: said(root.get(f"/v1/ops/requests?from=2026-03-01&to=2026-03-29&order={order}&limit={limit}"))

    return {
        "turn": lambda: said(ada.send(chat, "What is the weather like?")),
        "usage": lambda: said(ada.get("/v1/usage")),
        "costs, a month": lambda: said(root.get("/v1/ops/sums?from=2026-03-01&to=2026-03-29&step=day")),
        "a user's calls": lambda: said(root.get(f"/v1/ops/users/user-1/calls?limit={PAGE}")),
        "a request's calls": lambda: said(root.get("/v1/ops/requests/r5/calls")),
        **{f"requests, {order}": of_all(order) for order in ("latest", "slowest", "dearest")},
        "requests, failed": of_all("failed", 10),
    }


# -- records of the app's own -----------------------------------------------------------------------------------------


def meals(world: World, numbers: range) -> None:
    """Give Ada meals, every second one a lunch."""
    place = f"{APP.of('ada').root}/meals"
    world.fill(
        Create(
            f"{place}/m{number:06}",
            {"name": "Soup", "kind": ("lunch", "dinner")[number % 2], "kcal": number, "created_at": at(number)},
        )
        for number in numbers
    )


def of_meals(world: World, _most: int) -> dict[str, Operation]:
    """Return what meets a collection of the app's own."""
    own = world.services.data.within(APP.of("ada"))(MEALS)
    lunches = Query(
        f"{APP.of('ada').root}/meals",
        where=(Filter("kind", "==", "lunch"),),
        order=(Order("kcal", descending=True),),
    )
    latest = Query(f"{APP.of('ada').root}/meals", order=(Order("created_at", descending=True),))
    ends = {query: cursor_of(query, [value, "m000008"]) for query, value in ((lunches, 8), (latest, at(8)))}
    return {
        "lunches, first page": lambda: own.list({"kind": "lunch"}, "-kcal", PAGE),
        "lunches, last page": lambda: own.list({"kind": "lunch"}, "-kcal", PAGE, ends[lunches]),
        "latest, first page": lambda: own.list({}, "-created_at", PAGE),
        "latest, last page": lambda: own.list({}, "-created_at", PAGE, ends[latest]),
        "add": lambda: own.add(Meal(name="Stew", kind="dinner", kcal=1)),
        "read": lambda: own.get("m000004"),
    }


# -- members of a group -----------------------------------------------------------------------------------------------


def members(world: World, numbers: range) -> None:
    """Let members join Ada's group. They are stored at once, as joining one by one takes long."""
    if not world.group:
        world.group = said(world.user("ada").post("/v1/groups", {"name": "Many"}))["id"]
    place = APP.of_group(world.group)
    writes: list[Write] = []
    for number in numbers:
        uid, own = f"user-{number:06}", {"role": "editor", "joined_at": at(number)}
        writes.append(Set(place.group_member(uid), {"uid": uid, "name": uid, **own}))
        writes.append(Set(APP.of(uid).membership(world.group), own))
    world.fill(iter([*writes, Set(place.root, {"members": numbers.stop + 1}, merge=True)]))


def of_members(world: World, most: int) -> dict[str, Operation]:
    """Return what meets a group."""
    ada, member, group = world.user("ada"), world.user("user-000004"), world.group
    chat = world.chat = world.chat or said(member.post("/v1/chats", {"group": group}))["id"]
    place = APP.of_group(group)
    query = Query(place.group_members(), order=(Order("joined_at"),))
    cursor = cursor_of(query, [at(most - 8), f"user-{most - 8:06}"])

    def join() -> None:
        code = said(ada.post(f"/v1/groups/{group}/invites", {"role": "editor"}))["invite"]
        new = world.user(f"new-{next(world.numbers)}")
        said(new.post(f"/v1/groups/{group}/join", {"invite": code}))

    return {
        "members, first page": lambda: said(ada.get(f"/v1/groups/{group}/members?limit={PAGE}")),
        "members, last page": lambda: said(ada.get(f"/v1/groups/{group}/members?limit=7&cursor={cursor}")),
        "invite and join": join,
        "remove": lambda: said(ada.delete(f"/v1/groups/{group}/members/gone-{next(world.numbers)}")),
        "turn in the group's chat": lambda: said(
            member.post(f"/v1/chats/{chat}/messages", {"text": "Hello", "group": group})
        ),
        "chats of the group": lambda: said(member.get(f"/v1/chats?group={group}")),
    }
