"""Puts documents up, kills who indexes them, then changes the chunker, kills who re-embeds, and counts every chunk.

Meanwhile other documents are deleted, or their jobs cancelled, in each phase of the work: while they are uploaded,
parsed, embedded, indexed and re-embedded. Of none of them may a passage be found.
"""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from firelaunch.documents.catalog import DocumentSource, is_complete
from firelaunch.errors import Conflict, NotFound, PreconditionFailed
from firelaunch.rag.chunk import chunks
from firelaunch.rag.stored_text import read_blocks
from firelaunch.rag.versions import Version
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import Document, Query
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.emulator import Emulator
from support import PYTHON, ROOT, clean_environ

__all__ = ["PHASES", "Report", "run"]

PHASES = ("upload", "parsing", "embedding", "indexing")
"""The phases of a document's first job; re-embedding is a part of its own."""

_PHASE_SECONDS = 5.0
_ACTS = ("delete", "cancel")

_SCOPES = [Scope("demo", "ada"), Scope("demo", "ben"), Scope("demo")]
_WORKERS = 2
_SHARDS = 2
_FIRST = (
    SETTINGS
    + """documents = 10000

[index]
embedder = "openai"
chunk_tokens = 120
chunk_overlap = 20

[jobs]
lease_seconds = 2
backoff_seconds = 0.05
backoff_max_seconds = 0.5
max_attempts = 100
workers = 2
"""
)
_SECOND = _FIRST.replace("chunk_tokens = 120", "chunk_tokens = 70")
_STUCK_SECONDS = 120.0
_DOOMED = 900_000
"""Numbers of documents that are deleted or cancelled in a phase. They are long, so that each phase takes a while."""


Say = Callable[[str], object]


@dataclass(slots=True)
class Report:
    """What became of the chunks. ``killed``: processes by SIGKILL, ``killed_reembedding`` of them in the second part.

    ``lost`` chunks are not in an index version that should have them; ``doubled`` are there more than once, or do not
    belong there: of content that was replaced, of documents that were deleted.
    ``deleted`` documents went in the middle of the work, and of ``cancelled`` ones the job ended there; ``acts`` has
    the numbers of both by phase. ``found_after_delete`` passages of them were found by a search right after the
    deletion, or at the end.
    """

    documents: int
    chunks: int = 0
    killed: int = 0
    killed_reembedding: int = 0
    lost: int = 0
    doubled: int = 0
    deleted: int = 0
    cancelled: int = 0
    found_after_delete: int = 0
    seconds: float = 0.0
    acts: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether each chunk is there once, and none of what was deleted."""
        return not self.lost and not self.doubled and not self.found_after_delete


class _SlowServer(OpenAIEmbeddingServer):
    """Takes its time, so that there is a middle to be killed in."""

    def __enter__(self) -> Self:
        # Clients that are killed leave their connections broken; a traceback for each would hide the figures.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        return super().__enter__()

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`OpenAIEmbeddingServer`."""
        time.sleep(random.uniform(0, 0.1))  # noqa: S311 - a test's dice
        self.requests.clear()
        return super().answer(path, body)


class _Herd:
    """Processes that are started anew when they die, unless they ended well."""

    def __init__(self, commands: Mapping[str, list[str]], environs: Mapping[str, dict[str, str]], log: Path) -> None:
        self._commands, self._environs, self._log = commands, environs, log
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.done: set[str] = set()

    def tend(self) -> None:
        """Start what does not run."""
        for name, command in self._commands.items():
            process = self._running.get(name)
            if process is not None and process.poll() == 0:
                self.done.add(name)
            if name not in self.done and (process is None or process.poll() is not None):
                with self._log.open("ab") as log:
                    self._running[name] = subprocess.Popen(
                        command, env=self._environs[name], stdout=log, stderr=log, stdin=subprocess.DEVNULL
                    )

    def kill_one(self) -> bool:
        """Kill one with ``kill -9``, whatever it is at."""
        living = [process for process in self._running.values() if process.poll() is None]
        if not living:
            return False
        with suppress(ProcessLookupError):
            os.kill(random.choice(living).pid, signal.SIGKILL)  # noqa: S311 - a test's dice
            return True
        return False

    def end(self) -> None:
        """Kill all of them."""
        for process in self._running.values():
            process.kill()
            process.wait()


def run(
    folder: Path,
    documents: int,
    kills: int,
    say: Say = lambda _: None,
    *,
    doomed: int,
    emulator: tuple[Emulator, str] | None = None,
) -> Report:
    """Half of the kills come while documents are indexed, half while they are re-embedded.

    Args:
        doomed: the documents to delete or cancel in a phase of their first job, each phase in turn.
        emulator: the Firestore emulator to store and index on, and a project there; None for embedded mode.
    """
    report, began = Report(documents), time.monotonic()
    first, second = _FIRST, _SECOND
    mode: dict[str, str] = {}
    if emulator is not None:
        mode = {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": emulator[0].host}
        cloud = f'\n[cloud]\nproject = "{emulator[1]}"\n'
        first, second = first + cloud, second + cloud
    with _SlowServer() as server, _environment(mode):
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.base_url, **mode}
        path = write_app(folder, first)
        services = build(Settings.load(path, environ))
        names = [f"CHAOS-{n}" for n in range(_WORKERS)]
        own = clean_environ(CHAOS=str(path), PYTHONPATH=str(ROOT / "tests"), **environ)
        workers = _Herd(
            {name: [PYTHON, "-m", "chaos_rag.worker"] for name in names},
            dict.fromkeys(names, own),
            folder / "workers.log",
        )
        try:
            _indexed(services, documents, kills // 2, doomed, workers, report, say)
            write_app(folder, second)
            services.store.close()
            services = build(Settings.load(path, environ))
            _reembedded(services, folder, own, kills - kills // 2, workers, report, say)
        finally:
            workers.end()
        _count(services, report, doomed)
        services.store.close()
    report.seconds = round(time.monotonic() - began, 1)
    return report


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Google's client looks for the emulator's host in this process's environment alone."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _text(number: int, edition: int = 0) -> bytes:
    dice = random.Random(number * 1000 + edition)  # noqa: S311 - the same text each time
    words = [f"word{n}" for n in range(300)]
    sections = range(dice.randrange(60, 90) if number >= _DOOMED else dice.randrange(2, 12))
    parts = [f"# Part {n} of {number}\n\n" + " ".join(dice.choices(words, k=150)) + "." for n in sections]
    # A paragraph that comes again is a chunk of its own each time.
    return "\n\n".join([*parts, parts[0], parts[0]]).encode()


def _put(services: Services, number: int, edition: int = 0) -> None:
    scope = _SCOPES[number % len(_SCOPES)]
    with suppress(Conflict):
        services.documents.add(scope, DocumentSource("file", f"{number}.md"), io.BytesIO(_text(number, edition)))


def _indexed(
    services: Services, documents: int, kills: int, doomed: int, workers: _Herd, report: Report, say: Say
) -> None:
    """Beside the documents that stay, others go in each phase of their work."""
    goal = report.killed + kills

    def doom() -> None:
        for number in range(doomed):
            # In each phase one after the other, and the other way round the next time.
            phase, act = PHASES[number % len(PHASES)], _ACTS[(number + number // len(PHASES)) % len(_ACTS)]
            _doom(services, _DOOMED + number, phase, act, report)

    dooming = threading.Thread(target=doom)
    dooming.start()
    for number in range(documents):
        _put(services, number)

    def over() -> bool:
        return not dooming.is_alive() and report.killed >= goal and _all_settled(services)

    _until(over, workers, workers, goal, report, say, services)
    dooming.join()


def _place(number: int) -> tuple[Scope, str]:
    return _SCOPES[number % len(_SCOPES)], DocumentSource("file", f"{number}.md").id


def _doom(services: Services, number: int, phase: str, act: str, report: Report) -> None:
    """Put a document up, and delete it or cancel its job when the work on it has come to a phase."""
    scope, document = _place(number)
    putting = threading.Thread(target=_put, args=(services, number))
    putting.start()
    if phase == "upload":
        time.sleep(random.uniform(0, 0.02))  # noqa: S311 - a test's dice
    else:
        putting.join()
        give_up = time.monotonic() + _PHASE_SECONDS
        while not _has_come(services, scope, document, phase) and time.monotonic() < give_up:
            time.sleep(0.005)
    (_delete if act == "delete" else _cancel)(services, number, report, phase)
    putting.join()
    if phase == "upload" and act == "delete":  # it may have come after the deletion
        _delete(services, number, report, phase)


def _has_come(services: Services, scope: Scope, document: str, phase: str) -> bool:
    """Whether the work on a document has come to a phase, or is beyond it."""
    record = services.store.get(scope.document(document))
    status = "" if record is None else str(record.data["status"])
    if phase != "indexing":
        return status == phase or status in {"ready", "failed"}
    version = services.documents.versions.ensure_state().current
    entries = services.documents.engine(version).index.read(scope, version.id, document)
    return bool(entries) or status in {"ready", "failed"}


def _delete(services: Services, number: int, report: Report, phase: str) -> None:
    """Delete a document, whatever is at it, and search for what it said."""
    scope, document = _place(number)
    with suppress(NotFound):
        services.documents.delete(scope, document)
        report.deleted += 1
        report.acts[f"delete in {phase}"] = report.acts.get(f"delete in {phase}", 0) + 1
        _look(services, scope, {document}, number, report)


def _cancel(services: Services, number: int, report: Report, phase: str) -> None:
    """Cancel the job of a document, unless it has ended."""
    scope, document = _place(number)
    record = services.store.get(scope.document(document))
    with suppress(NotFound, Conflict, PreconditionFailed):
        if record is not None:
            services.jobs.cancel(scope, record.data["job"])
            report.cancelled += 1
            report.acts[f"cancel in {phase}"] = report.acts.get(f"cancel in {phase}", 0) + 1


def _look(services: Services, scope: Scope, deleted: set[str], number: int, report: Report) -> None:
    state = services.documents.versions.state()
    seeker = scope if scope.uid is not None else Scope(scope.app_id, "ada")
    found = services.documents.search(seeker, f"Part 1 of {number}", state=state, spend=lambda *_: None)
    shown = [passage for passage in found.passages if passage.hit.entry.document in deleted]
    report.found_after_delete += len(shown)
    if shown and len(report.examples) < 10:
        report.examples.append(f"{len(shown)} passages of a deleted or cancelled document were found: {number}.md")


def _reembedded(
    services: Services, folder: Path, environ: dict[str, str], kills: int, workers: _Herd, report: Report, say: Say
) -> None:
    names = [str(n) for n in range(_SHARDS)]
    shards = {n: {**environ, "CLOUD_RUN_TASK_INDEX": n, "CLOUD_RUN_TASK_COUNT": str(_SHARDS)} for n in names}
    command = [PYTHON, "-m", "firelaunch_cli", "reembed", str(folder), "--yes"]
    herd = _Herd(dict.fromkeys(names, command), shards, folder / "reembed.log")
    before, goal = report.killed, report.killed + kills
    changes = iter(range(max(2, report.documents // 5)))
    target = services.documents.versions.configured

    def change() -> None:
        """Meanwhile documents come, change and go."""
        number = next(changes, None)
        if number is None:
            return
        _put(services, report.documents + number)
        _put(services, number, edition=1)
        if number % 3 == 0:
            time.sleep(random.uniform(0, 0.3))  # noqa: S311 - a test's dice
            _cancel(services, number, report, "re-embedding")
        _delete(services, number + report.documents // 2, report, "re-embedding")

    def over() -> bool:
        change()
        state = services.documents.versions.ensure_state()
        return state.current == target and _all_settled(services) and next(changes, None) is None

    try:
        _until(over, herd, workers, goal, report, say, services)
    finally:
        herd.end()
    report.killed_reembedding = report.killed - before


def _until(
    over: Callable[[], bool], herd: _Herd, workers: _Herd, goal: int, report: Report, say: Say, services: Services
) -> None:
    """Kill now and then until there were enough, then wait for the work to end."""
    give_up, seen = 0.0, (-1, -1)
    next_kill = time.monotonic() + 1.5
    while not over():
        workers.tend()
        herd.tend()
        if report.killed < goal and time.monotonic() > next_kill:
            report.killed += (herd if random.random() < 0.7 else workers).kill_one()  # noqa: S311 - a test's dice
            next_kill = time.monotonic() + random.uniform(0.2, 2.5)  # noqa: S311 - a test's dice
        if report.killed >= goal:
            give_up = give_up or time.monotonic() + _STUCK_SECONDS
            if time.monotonic() > give_up:
                report.examples.append("the work did not end")
                return
        records = [record.data for _, record in _records(services)]
        ready = sum(record["status"] == "ready" for record in records)
        done = (ready, sum(len(record["indexed"] or {}) for record in records))
        if done != seen:  # it is slow, not stuck
            seen, give_up = done, 0.0
        say(f"{ready} documents ready, {report.killed} of {goal} processes killed ")
        time.sleep(0.1)


def _records(services: Services) -> list[tuple[Scope, Document]]:
    return [(scope, each) for scope in _SCOPES for each in services.store.query(Query(scope.documents()))]


def _all_settled(services: Services) -> bool:
    written = services.documents.versions.ensure_state().written
    return all(
        all(is_complete(record, version) for version in written)
        if record.data["status"] == "ready"
        else _is_given_up(services, scope, record)
        for scope, record in _records(services)
    )


def _is_given_up(services: Services, scope: Scope, record: Document) -> bool:
    """Whether users see that the work on the document has failed. Only cancelled ones do here."""
    with suppress(NotFound):
        return bool(services.documents.get(scope, record.id)["status"] == "failed")
    return False


def _count(services: Services, report: Report, doomed: int) -> None:
    state = services.documents.versions.ensure_state()
    records = _records(services)
    for version in state.written:
        held = dict.fromkeys(_SCOPES, 0)
        for scope, record in records:
            there = services.documents.engine(version).index.read(scope, version.id, record.id)
            found = Counter(entry.text for entry in there if entry.vector is not None)
            held[scope] += len(there)
            if record.data["status"] != "ready":
                # A worker that was killed after the cancellation left its entries, which no search may show.
                continue
            wanted = _wanted(services, scope, record, version)
            lost, more = (wanted - found).total(), (found - wanted).total() + len(there) - found.total()
            report.chunks, report.lost, report.doubled = (
                report.chunks + wanted.total(),
                report.lost + lost,
                report.doubled + more,
            )
            if (lost or more) and len(report.examples) < 10:
                report.examples.append(f"{record.path} in {version.id}: {lost} lost, {more} doubled")
        shown = {(scope, record.id) for scope, record in records if record.data["status"] == "ready"}
        for number in [*range(report.documents), *range(_DOOMED, _DOOMED + doomed)]:
            if _place(number) not in shown:
                _look(services, _place(number)[0], {_place(number)[1]}, number, report)
        for scope in _SCOPES:
            strays = services.documents.engine(version).index.count(scope, version.id) - held[scope]
            report.doubled += abs(strays)
            if strays:
                report.examples.append(f"{strays} entries of no document in {scope.root}, {version.id}")


def _wanted(services: Services, scope: Scope, record: Document, version: Version) -> Counter[str]:
    """What a document's chunks are, made anew from its text."""
    with services.documents.files(scope).open(f"{record.path}/{record.data['hash']}.text") as text:
        return Counter(c.embedded_text for c in chunks(read_blocks(text), version.chunking) if c.text.strip())
