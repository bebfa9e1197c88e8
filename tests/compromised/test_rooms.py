"""The index, the jobs and the kept answers of others are out of reach for code that is bound to one user of one app."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.llm.types import Chunk
from firelaunch.rag.index.base import Entry, Index
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.firestore import FirestoreIndex
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.store.base import DocumentStore, Query, Set
from firelaunch.store.sqlite import SQLiteStore

from compromised.attempts import SECRET
from compromised.rooms import ADA, ASKED, BETA, BOB, CACHE, JOBS, KIND, VECTOR, VECTORS, Note
from compromised.test_compromised import MISTAKES, alphas_settings, outcome

OTHERS = (BETA, Scope("beta"), Scope("alpha-2", "ada"), Scope("alph", "ada"), BOB)
CACHED = "\n[cache]\nanswers = true\n"
NOW = datetime(2026, 1, 31, tzinfo=UTC)
JOB = {
    "kind": "note", "state": "dead", "payload": SECRET, "result": f'"{SECRET}"',
    "attempts": 1, "max_attempts": 1, "fence": 1, "seconds": 1.0,
    "created_at": NOW, "due_at": NOW, "history": [],
}  # fmt: skip
THEIRS = {
    "apps/beta/jobs/job1": {**JOB, "uid": "ada"},
    "apps/alpha/jobs/job1": {**JOB, "uid": "bob"},
    "apps/alpha/users/bob": {"plan": SECRET},
    "apps/beta/users/ada": {"plan": SECRET},
}


@pytest.fixture(scope="module", params=["embedded", "firestore"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The one index of all apps, in which others have entries and ada has none."""
    made: Any = EmbeddedIndex(tmp_path_factory.mktemp("index"))
    if request.param == "firestore":
        emulator, project = request.getfixturevalue("firestore_emulator"), f"demo-{secrets.token_hex(8)}"
        made = FirestoreIndex(project, client=emulator.client(project))
    for scope in OTHERS:
        made.upsert(scope, "v1", [Entry("c1", "d1", SECRET, VECTOR)])
    yield made
    made.close()


def entries(index: Index) -> list[Any]:
    return [(scope, hit.entry.id, hit.entry.text) for scope in OTHERS for hit in index.read(scope, "v1", "d1")]


@pytest.mark.parametrize("attempt", VECTORS.values(), ids=VECTORS)
def test_the_index_of_a_users_job_gives_and_changes_nothing_of_others(
    index: Index, attempt: Callable[[ScopedIndex], Any]
) -> None:
    before = entries(index)

    got = outcome(attempt, ScopedIndex(index, "alpha").within(ADA))  # type: ignore[arg-type]

    assert SECRET not in repr(got)
    assert not isinstance(got, MISTAKES)
    assert len(before) == len(OTHERS)
    assert entries(index) == before


class Open:
    """The adapter in the place of its wall."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def within(self, _: Scope) -> Any:
        return self

    def drop(self, version: str) -> None:
        self._index.drop("alpha", version)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


def test_without_its_wall_the_index_gives_what_each_kind_of_attempt_asks_for(tmp_path: Path) -> None:
    through = dict.fromkeys(("nearest of", "matching", "read", "count", "upsert", "delete", "the app's whole"), 0)
    for number, (name, attempt) in enumerate(VECTORS.items()):
        if "another" not in name and "whole" not in name:
            continue
        raw = EmbeddedIndex(tmp_path / str(number))
        for scope in OTHERS:
            raw.upsert(scope, "v1", [Entry("c1", "d1", SECRET, VECTOR)])
        before = entries(raw)
        got = outcome(attempt, Open(raw))  # type: ignore[arg-type]
        for kind in through:
            through[kind] += kind in name and (SECRET in repr(got) or entries(raw) != before)
        raw.close()
    assert all(through.values()), through


class Nobody:
    """A backend that brings no jobs."""

    def deliver(self, *_: Any) -> None: ...
    def start(self, *_: Any) -> None: ...
    def stop(self) -> None: ...


class Echo:
    """A model that says what it was asked, and never the secret."""

    name = "openai"

    def complete(self, _: Any) -> Chunk:
        return Chunk("asked anew", finish="stop")


def services(store: DocumentStore, folder: Path) -> Services:
    echo: Any = Echo()
    return build(alphas_settings(folder, CACHED), store=store, provider=echo, backend=Nobody())


def remember(services: Services) -> None:
    """Answers that others were given."""
    for scope in (BETA, BOB):
        llm = services.gateway.answering(Unmetered(), "gpt-5.4-mini", 5.0, streamed=False, owner=scope)
        llm.gateway.provider.complete = lambda _: Chunk(SECRET, finish="stop")  # type: ignore[method-assign]
        assert "".join(chunk.text for chunk in llm.stream(ASKED, max_output_tokens=10)) == SECRET
    del services.gateway.provider.complete  # type: ignore[attr-defined]


class Unmetered:
    def cover(self, micro_usd: int) -> None: ...
    def release(self, micro_usd: int) -> None: ...
    def spend(self, *_: Any) -> None: ...
    def reuse(self, model: str) -> None: ...


@pytest.fixture(scope="module", params=["sqlite", "firestore"])
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentStore]:
    """The one database of all apps."""
    store: Any = SQLiteStore(tmp_path_factory.mktemp("rooms") / "data.sqlite3")
    if request.param == "firestore":
        store = request.getfixturevalue("firestore_emulator").store(f"demo-{secrets.token_hex(8)}")
    store.commit([Set(path, data) for path, data in THEIRS.items()])
    yield store
    store.close()


def world(store: DocumentStore) -> dict[str, Any]:
    places = ("apps/beta/jobs", "apps/alpha/jobs", "apps/alpha/users", "apps/beta/users", "apps/beta/users/ada/usage")
    _, found = store.read([], [Query(place) for place in places])
    return {d.path: dict(d.data) for documents in found for d in documents}


@pytest.mark.parametrize("attempt", [*JOBS.values(), *CACHE.values()], ids=[*JOBS, *CACHE])
def test_what_a_users_job_is_handed_gives_and_changes_nothing_of_others(
    raw: DocumentStore, tmp_path: Path, attempt: Callable[[Services], Any]
) -> None:
    whole = services(raw, tmp_path)
    remember(whole)

    got = outcome(attempt, whole.within(ADA))

    assert SECRET not in repr(got)
    assert not isinstance(got, MISTAKES)
    assert world(raw) == THEIRS


@pytest.mark.parametrize(
    "attempt",
    [
        attempt
        for name, attempt in (JOBS | CACHE).items()
        if "beta" in name or "another app" in name or "was set" in name
    ],
)
def test_what_a_whole_app_is_handed_gives_and_changes_nothing_of_another_app(
    raw: DocumentStore, tmp_path: Path, attempt: Callable[[Services], Any]
) -> None:
    before = {path: data for path, data in world(raw).items() if path.startswith("apps/beta")}

    outcome(attempt, services(raw, tmp_path))

    assert {path: data for path, data in world(raw).items() if path.startswith("apps/beta")} == before


def test_without_the_walls_of_a_job_the_attempts_of_each_kind_get_through(tmp_path: Path) -> None:
    """Bound to nobody, the same code reaches the app's other users: that is what the table tries."""
    tries = (
        "get another user",
        "list",
        "any job",
        "the dead",
        "drive on",
        "the jobs' store",
        "the question of",
        "bob's",
    )
    through = dict.fromkeys(tries, 0)
    for number, (name, attempt) in enumerate((JOBS | CACHE).items()):
        raw = SQLiteStore(tmp_path / f"{number}.sqlite3")
        raw.commit([Set(path, data) for path, data in THEIRS.items()])
        whole = services(raw, tmp_path / "app")
        remember(whole)
        got = outcome(attempt, whole)
        for kind in through:
            through[kind] += kind in name and (SECRET in repr(got) or world(raw) != THEIRS)
        raw.close()
    assert all(through.values()), through


def test_a_jobs_own_user_is_served_by_its_jobs_and_models(tmp_path: Path) -> None:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    whole = services(raw, tmp_path)
    whole.gateway.provider.complete = lambda _: Chunk('{"text": "x"}', finish="stop")  # type: ignore[method-assign]
    bound = whole.within(ADA)

    job = bound.jobs.enqueue(ADA, KIND, Note(text="mine"))
    found = bound.llm.extract(Note, "text", scope=ADA)

    assert [item["id"] for item in bound.jobs.mine(ADA, 10, None).items] == [job.id]
    assert found.data == Note(text="x")
    record = whole.store.get(ADA.request(found.request_id))
    assert record is not None
    assert (record.data["uid"], record.data["outcome"]) == ("ada", "answered")
    raw.close()
