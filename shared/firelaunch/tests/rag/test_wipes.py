"""Wipes at every step of what they interrupt: whatever is at work, nothing is found or left of what was wiped."""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.jobs import JOB_SETTINGS
from firelaunch.documents.catalog import DocumentSource
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import Conflict, FirelaunchError, NotFound
from firelaunch.llm.types import Chunk
from firelaunch.rag import pipeline
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.rag.files import LocalFiles
from firelaunch.rag.index.base import Index
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.pipeline import Engine
from firelaunch.rag.retrieve import RetrievalLimits, Retriever
from firelaunch.rag.versions import Version
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import DocumentStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import User, sign_in, write_app
from firelaunch.worker.tasks.erase import erasure_of

ADA, LIBRARY = Scope("demo", "ada"), Scope("demo")


class Steps:
    """Counts what one thread does to database, index and files, and has something happen at one of the steps."""

    def __init__(self) -> None:
        self.count, self.at, self.action = 0, 0, lambda: None
        self._owner: threading.Thread | None = None
        self._acting: threading.Thread | None = None
        self._errors: list[Exception] = []

    def run(self, work: Callable[[], Any], at: int, action: Callable[[], Any]) -> bool:
        """Do the work, with ``action`` before its step ``at``; False if there is no such step."""
        self.count, self.at, self.action, self._owner = 0, at, action, threading.current_thread()
        self._acting = None
        try:
            work()
        finally:
            self._owner = None
        if self._acting is not None:
            self._acting.join(60)
            assert not self._acting.is_alive()
        assert self._errors == []
        return self.count >= at

    def step(self) -> None:
        """A step comes."""
        if threading.current_thread() is self._owner:
            self.count += 1
            if self.count == self.at and self.action is kill:
                raise Killed
            if self.count == self.at:
                self._acting = threading.Thread(target=self._act)
                self._acting.start()
                # Where the worker holds a lock that the other one needs, it goes on first.
                self._acting.join(0.3)

    def cut(self, work: Callable[[], Any], at: int) -> bool:
        """Do the work until its step ``at``, where its process is killed; False if there is no such step."""
        self.count, self.at, self.action, self._owner = 0, at, kill, threading.current_thread()
        self._acting = None
        try:
            work()
        except Killed:
            return True
        finally:
            self._owner = None
        return False

    def _act(self) -> None:
        try:
            self.action()
        except Exception as error:
            self._errors.append(error)


class Killed(BaseException):
    """As if the process ended right there."""


def kill() -> None:
    raise Killed


class Stepping:
    """Something whose calls are steps, before and after."""

    def __init__(self, own: Any, steps: Steps) -> None:
        self.__dict__.update(own=own, steps=steps)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.own, name)
        if not callable(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            self.steps.step()
            result = found(*args, **more)
            self.steps.step()
            return result

        return call


class Vectors:
    """An embedding model that runs here."""

    id, most, query = "test", 1000, None

    def embed(self, texts: Any, **_: Any) -> Embedded:
        rows = [np.random.default_rng(sum(text.encode())).standard_normal(8) for text in texts]
        return Embedded(np.asarray(rows, np.float32), 1)


@dataclass
class World:
    """An app whose workers can be stopped at each step, and a second process beside them."""

    steps: Steps
    app: App
    services: Services
    other: Services
    files: LocalFiles
    folder: Path
    version: Version
    wanted: Version
    engines: dict[str, Engine]
    number: int = 0
    made: list[Any] = field(default_factory=list)

    def put(self, scope: Scope, name: str, content: bytes, services: Services | None = None) -> str:
        documents = (services or self.other).documents
        return str(documents.add(scope, DocumentSource("file", name), io.BytesIO(content))[0]["id"])

    def work(self) -> None:
        """Run the jobs that are due, once each."""
        assert self.app.runner is not None
        for job in self.services.jobs.due(10):
            with suppress(FirelaunchError):
                self.app.runner.run(job)

    def finish(self) -> None:
        """Run jobs until none is left."""
        for _ in range(20):
            due = [each for each in self.other.store.query(_all_jobs()) if each.data["state"] in {"queued", "running"}]
            if not due:
                return
            for job in due:
                self.app.runner.run(job.id)  # type: ignore[union-attr]

    def held(self, scope: Scope, document: str) -> list[Any]:
        return [e for v in (self.version, self.wanted) for e in self.engines[v.id].index.read(scope, v.id, document)]

    def found(self, scope: Scope, query: str = "walruses penguins otters") -> set[str]:
        state = self.other.documents.versions.state()
        found = self.other.documents.search(scope, query, state=state, spend=lambda *_: None)
        return {passage.hit.entry.document for passage in found.passages}

    def kept(self) -> list[Path]:
        return [path for path in (self.folder / "files").rglob("*") if path.is_file()]


def _all_jobs() -> Any:
    from firelaunch.store.base import Query

    return Query("apps/demo/jobs")


def prose(*subjects: str) -> bytes:
    return "\n\n".join(f"# {s}\n\n" + f"All that there is to know about {s} is here. " * 14 for s in subjects).encode()


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    kind = request.node.callspec.params["index"]
    if kind == "firestore":
        emulator, project = (request.getfixturevalue(f"firestore_{name}") for name in ("emulator", "project"))
        made: DocumentStore = emulator.store(project)
    else:
        made = SQLiteStore(tmp_path / ("texts.sqlite3" if kind == "vertex" else "records.sqlite3"))
    yield made
    made.close()


@pytest.fixture
def world(index: Index, store: DocumentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pipeline, "WINDOW", 2)
    steps, files = Steps(), LocalFiles(tmp_path / "files")
    settings = Settings.load(write_app(tmp_path, JOB_SETTINGS), {})
    first = build(settings, store=store).documents.versions.configured
    second = replace(first, id="v2", chunk_tokens=64, chunk_overlap=10)
    slow, fast = {}, {}
    for version in (first, second):
        for engines, each in ((slow, Stepping(index, steps)), (fast, index)):
            own = ScopedIndex(each, "demo")
            embedder: Embedder = Vectors()  # type: ignore[assignment]
            retriever = Retriever(own, lambda version=version: version.id, embedder, RetrievalLimits(min_cosine=-1.0))  # type: ignore[misc]
            engines[version.id] = Engine(version, own, embedder, retriever, lambda _: 0)

    def services(store: Any, files: Any, engines: dict[str, Engine]) -> Services:
        made = build(settings, store=store, files=files)
        made.jobs.backend = Quiet()
        return replace(made, documents=replace(made.documents, engine=lambda version: engines[version.id]))

    slowed = services(Stepping(store, steps), Stepping(files, steps), slow)
    app = App("test")
    init_app(app, slowed, lambda turn: [Chunk(f"So: {turn.text}")])
    return World(steps, app, slowed, services(store, files, fast), files, tmp_path, first, second, fast)


class Quiet:
    """Brings no job: the test runs them."""

    def deliver(self, _delivery: Any) -> None: ...
    def start(self, *_: Any) -> None: ...
    def stop(self) -> None: ...


def each_step(stride: int = 7, last: int = 400) -> Iterator[int]:
    """Steps to stop at: one of each seven, others at the next run; all of them if ``EVERY_STEP`` is set.

    Args:
        last: the last step; where it is not known, the test ends at the first one that is not there.
    """
    stride = 1 if os.environ.get("EVERY_STEP") else stride
    yield from range(random.randint(1, stride), last + 1, stride)  # noqa: S311 - no secret


def each_step_of_an_ingestion(world: World, scope: Scope, *subjects: str) -> Iterator[int]:
    """Steps to stop an ingestion at; one that nothing stops is run before, to count them."""
    for number in range(2):  # the first also reads what the process then keeps
        document = world.put(scope, f"{number}.md", prose(*subjects))
        world.steps.run(world.work, 0, kill)
        assert world.other.documents.record(scope, document).data["status"] == "ready"
        world.other.documents.delete(scope, document)
    yield from each_step(last=world.steps.count)


def test_a_document_deleted_at_any_step_of_its_ingestion_is_neither_found_nor_left(world: World) -> None:
    for at in each_step_of_an_ingestion(world, ADA, "walruses", "penguins", "otters"):
        scope = (ADA, LIBRARY)[at % 2]
        document = world.put(scope, f"{at}.md", prose("walruses", "penguins", "otters"))
        assert world.steps.run(world.work, at, lambda: world.other.documents.delete(scope, document))  # noqa: B023
        assert world.found(ADA) == set(), at
        assert world.held(scope, document) == [], at
        assert world.other.store.get(scope.document(document)) is None, at
        assert world.kept() == [], at


def test_a_document_replaced_at_any_step_of_its_ingestion_ends_as_the_last_content_alone(world: World) -> None:
    for at in each_step_of_an_ingestion(world, ADA, "walruses", "penguins"):
        document = world.put(ADA, f"{at}.md", prose("walruses", "penguins"))
        assert world.steps.run(world.work, at, lambda: world.put(ADA, f"{at}.md", prose("otters", "badgers")))  # noqa: B023
        world.finish()
        record = world.other.documents.record(ADA, document)
        entries = world.held(ADA, document)
        assert record.data["status"] == "ready", (at, dict(record.data))
        assert {entry.place["generation"] for entry in entries} == {record.data["generation"]}, at
        assert {entry.place["headings"][0] for entry in entries} == {"otters", "badgers"}, at
        assert sorted(path.name for path in world.kept()) == sorted(
            [record.data["hash"], f"{record.data['hash']}.text"]
        ), at
        world.other.documents.delete(ADA, document)


def test_a_document_whose_job_is_cancelled_at_any_step_is_not_found(world: World) -> None:
    for at in each_step_of_an_ingestion(world, ADA, "walruses", "penguins"):
        document = world.put(ADA, f"{at}.md", prose("walruses", "penguins"))
        job = world.other.documents.record(ADA, document).data["job"]

        def cancel(job: str = job) -> None:
            with suppress(Conflict):
                world.other.jobs.cancel(ADA, job)

        assert world.steps.run(world.work, at, cancel)
        status = world.other.documents.get(ADA, document)["status"]
        assert status in {"failed", "ready"}, at
        assert world.found(ADA) == ({document} if status == "ready" else set()), at
        if world.other.jobs.get(ADA, job).state == "cancelled" and status == "failed":
            assert world.held(ADA, document) == [], at
        world.other.documents.delete(ADA, document)
        assert world.held(ADA, document) == [], at
        assert world.kept() == [], at


@pytest.mark.parametrize("wipe", ["deleted", "replaced"])
def test_a_document_wiped_at_any_step_of_a_re_embedding_has_no_trace_in_either_version(world: World, wipe: str) -> None:
    for at in each_step():
        document = world.put(ADA, f"{at}.md", prose("walruses", "penguins"))
        world.finish()
        reembedding = Reembedding(world.services.store, world.services.documents, world.services.metering)
        reembedding.target = world.wanted
        reembedding.begin()

        def act(at: int = at, document: str = document) -> None:
            if wipe == "deleted":
                world.other.documents.delete(ADA, document)
            else:
                world.put(ADA, f"{at}.md", prose("otters", "badgers"))

        there = world.steps.run(lambda: list(reembedding.build()), at, act)  # noqa: B023
        world.finish()
        list(reembedding.build())
        if wipe == "deleted" and there:
            assert world.held(ADA, document) == [], at
            assert world.found(ADA) == set()
        elif there:
            entries = world.held(ADA, document)
            generation = world.other.documents.record(ADA, document).data["generation"]
            assert {e.place["headings"][0] for e in entries} == {"otters", "badgers"}, at
            assert {e.place["generation"] for e in entries} == {generation}
        with suppress(NotFound):
            world.other.documents.delete(ADA, document)
        reembedding.abandon()
        if not there:
            break
    assert at > 10


@pytest.mark.parametrize("repeat", ["deleted again", "put up again"])
def test_a_deletion_that_is_killed_at_any_step_shows_nothing_and_is_finished_by_a_repeat(
    world: World, repeat: str
) -> None:
    for at in each_step():
        document = world.put(ADA, f"{at}.md", prose("walruses", "penguins"))
        world.finish()
        assert world.found(ADA) == {document}, at
        cut = world.steps.cut(lambda: world.services.documents.delete(ADA, document), at)  # noqa: B023
        record = world.other.store.get(ADA.document(document))
        if not cut:
            break
        raised = record is None or record.data["status"] == "deleting"
        assert world.found(ADA) == (set() if raised else {document}), at
        if repeat == "put up again":
            world.put(ADA, f"{at}.md", prose("otters"))
            world.finish()
            assert {e.place["headings"][0] for e in world.held(ADA, document)} == {"otters"}, at
        with suppress(NotFound):
            world.other.documents.delete(ADA, document)
        assert world.held(ADA, document) == [], at
        assert world.kept() == [], at
    assert at > 8


def work_of(world: World, kind: str, at: int) -> Callable[[], Any]:
    """What a user has going on when they are erased."""
    ada: User = sign_in(world.app, "ada")
    if kind == "upload":
        return lambda: ada.upload(f"{at}.md", prose("walruses"))
    if kind == "upload, come back":
        ada.post("/v1/chats")
        return lambda: ada.upload(f"{at}.md", prose("walruses"))
    if kind == "turn":
        chat = ada.new_chat()
        return lambda: ada.send(chat, "hello")
    if kind == "first words":
        message = {"id": f"m{at}", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
        # Closed here, as servers do. If the garbage collector closed the stream, it would write to the database in the
        # middle of another call, whose lock it would then wait for.
        return lambda: ada.post("/v1/chat", {"id": f"c{at}", "messages": [message]}).close()
    if kind == "chat":
        return lambda: ada.post("/v1/chats")
    if kind == "device":
        return lambda: ada.post("/v1/devices", {"token": f"t{at}", "platform": "web"})
    if kind == "batch":
        ada.post("/v1/batches", {"inputs": [{"text": "one"}, {"text": "two"}], "budget_micro_usd": 1000})
    else:
        world.put(ADA, f"{at}.md", prose("walruses", "penguins"))
    return world.work


KINDS = ["upload", "upload, come back", "turn", "first words", "chat", "device", "batch", "ingestion"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", ["embedded", "firestore"], indirect=True)
def test_a_user_erased_at_any_step_of_what_goes_on_has_nothing_left(world: World, kind: str) -> None:
    erasure = erasure_of(world.other)
    for at in each_step(7 if kind == "ingestion" else 1):
        work = work_of(world, kind, at)
        there = world.steps.run(work, at, lambda: erasure.run("ada"))
        if not there:
            break
        world.finish()
        assert erasure.report("ada").found == {}, at
        assert world.kept() == [], at
    world.finish()
    erasure.run("ada")
    # Whoever begins afterwards is a user like any other.
    assert sign_in(world.app, "ada").post("/v1/chats").status_code == 201
    assert erasure.report("ada").found["chats"] == 1
    assert at > 3


@pytest.mark.parametrize("index", ["embedded", "vector_search"], indirect=True)
def test_what_a_writer_of_a_former_content_left_is_not_found(world: World) -> None:
    """As on an index without conditions, when a process wakes up long after its document was replaced or deleted."""
    document = world.put(ADA, "a.md", prose("walruses"))
    world.finish()
    late = [replace(each, id=f"{each.id}-late") for each in world.held(ADA, document)]
    world.put(ADA, "a.md", prose("otters"))
    world.finish()
    index = world.engines[world.version.id].index
    index.upsert(ADA, world.version.id, late)
    state = world.other.documents.versions.state()
    shown = world.other.documents.search(ADA, "walruses otters", state=state, spend=lambda *_: None).passages
    assert {passage.hit.entry.place["headings"][0] for passage in shown} == {"otters"}
    world.other.documents.delete(ADA, document)
    index.upsert(ADA, world.version.id, late)
    assert world.found(ADA) == set()
    world.put(ADA, "a.md", prose("otters"))
    world.finish()
    assert world.found(ADA) == {document}
    assert {each.place["headings"][0] for each in world.held(ADA, document)} == {"otters"}


@pytest.mark.parametrize("index", ["vector_search"], indirect=True)
def test_what_lands_after_the_wipe_on_an_index_without_conditions_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from firelaunch.rag.index.vector_search import VectorSearchIndex

    document = world.put(ADA, "a.md", prose("walruses"))
    write = VectorSearchIndex._write
    late: list[str] = []

    def stopped(self: Any, *args: Any, **more: Any) -> None:
        """The process is stopped after its check, and goes on when the document has gone."""
        if not late:
            late.append(document)
            world.other.documents.delete(ADA, document)
        write(self, *args, **more)

    monkeypatch.setattr(VectorSearchIndex, "_write", stopped)
    world.work()
    assert late
    assert world.found(ADA) == set()
    assert world.held(ADA, document) == []
