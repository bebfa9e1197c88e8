"""Documents of users and of the app's library: their records, and how they are put up, searched and taken away.

A document is known by its source: a file by its name, a page by its URL. What comes again from the same source takes
the place of what was there. Reading, cutting and indexing it is a job's work (:mod:`firelaunch.worker.tasks.ingest`).

Each content of a document has a *generation*, a random name in its record and in each of its entries. A hit is shown
only if its document lives and has that generation. While a new content is indexed, the one before is shown too
(``shown``). Deleting, replacing and giving up change the record first, which keeps every writer of before from writing
(:mod:`firelaunch.store.fence`), and then remove what is there. docs/adr/0025 says how this holds on each index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Field

from ..errors import Conflict, Fenced, NotFound, PassageChanged, PreconditionFailed, ScopeViolation, TooLarge, TooMany
from ..jobs import Job, Jobs, Kind, Prepared
from ..llm.types import TokenCounts, token_bound
from ..metering.contention import Retries
from ..paging import Page, page_after, page_cursor
from ..rag.files import ScopedFiles, upload_path
from ..rag.index.base import GENERATION, owner_of, scopes_of
from ..rag.versions import State, Version, Versions
from ..scope import Scope
from ..settings.app import Documents as Policy
from ..settings.app import Plan
from ..store.base import SERVER_TIME, Create, Delete, Document, Filter, Increment, Order, Query, Set, Update, Write
from ..store.fence import Fence
from ..store.scoped import ScopedStore
from .incoming_files import IncomingFile, IncomingFiles
from .views import document_view

if TYPE_CHECKING:
    from ..rag.embed.base import Embedded
    from ..rag.index.base import Hit
    from ..rag.pipeline import Engine
    from ..rag.retrieve import Retrieved
    from ..rag.stored_text import Span
    from ..rag.web.fetch import Fetcher

__all__ = ["CRAWL", "INGEST", "STOPPED", "Crawl", "DocumentSource", "Documents", "Ingest", "document_id", "is_complete"]

_NEWEST = (Order("created_at", descending=True),)
_READ: Final = 1 << 20
_UNFINISHED = frozenset({"queued", "parsing", "embedding"})
_GIVEN_UP = frozenset({"failed", "deleting"})
STOPPED: Final = {
    "problem": "stopped",
    "message": "The work on this document was stopped, or given up after several tries. Upload it again.",
}


class Ingest(BaseModel):
    """The payload of the job that indexes a document. ``after``: an earlier job on it, which has to end first."""

    document: str
    after: str = ""


class Crawl(BaseModel):
    """The payload of the job that crawls a site."""

    url: str
    depth: int = Field(ge=0)
    pages: int = Field(ge=1)


INGEST: Final = Kind("ingest", Ingest, seconds=1700)
CRAWL: Final = Kind("crawl", Crawl, max_attempts=3, seconds=1700)


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Where a document comes from.

    Args:
        kind: "file", "upload" (a file that the user's client put into Firebase Storage) or "url".
        name: what people call it; a file's and an upload's is also what it is known by.
        url: of a page.
    """

    kind: str
    name: str
    url: str = ""

    @property
    def id(self) -> str:
        """The document's id: the same source, the same document."""
        return document_id(self.url or self.name)


def document_id(known_by: str) -> str:
    """The id of the document that is known by this name or URL."""
    return "d" + sha256(known_by.encode("utf-8", "surrogatepass")).hexdigest()[:31]


@dataclass(frozen=True, slots=True)
class Documents:
    """One app's documents. A scope without a user is the app's library.

    Args:
        store, files, jobs: the app's own.
        versions: which index versions there are.
        engine: what reads and writes one of them; made when it is first asked for.
        price: micro-dollars of so many tokens for a version's embedder.
        fetcher: what fetches pages.
        incoming: files on their way to the app.
        search_tokens: what a search's passages may take, estimated.
        warm: imports what the first search needs, in a thread of its own; once, and where it takes long.
        only: the one scope to work in, inside a job's handler; None for any of the app.

    Raises (every method that takes a ``document``): NotFound where that document is not the scope's, InvalidId.
    """

    _store: ScopedStore
    _files: ScopedFiles
    _jobs: Jobs
    _admission: Retries
    versions: Versions
    engine: Callable[[Version], Engine]
    price: Callable[[Version, int], int]
    policy: Policy
    plans: Mapping[str, Plan]
    plan_of: Callable[[Document | None], str]
    clock: Callable[[], datetime]
    _fetcher: Callable[[], Fetcher]
    incoming: IncomingFiles
    search_tokens: int = 0
    warm: Callable[[], None] = lambda: None
    only: Scope | None = None

    @property
    def fetcher(self) -> Fetcher:
        """What fetches pages."""
        return self._fetcher()

    def within(self, scope: Scope) -> Documents:
        """The same, for documents of ``scope`` alone, a user's or all of the app's."""
        return replace(self, only=scope)

    def files(self, scope: Scope) -> ScopedFiles:
        """The files of a scope's documents."""
        self._check(scope)
        return self._files.within(scope)

    def has_room(self, scope: Scope, source: DocumentSource) -> bool:
        """Whether :meth:`add` would take the document now: there is room for one more, or it takes another's place."""
        self._check(scope)
        there, user = self._store.get_many([scope.document(source.id), scope.root])
        try:
            if there is None:
                self._check_count(scope, user)
        except TooMany:
            return False
        return True

    def received(self, scope: Scope, file: IO[bytes]) -> AbstractContextManager[IncomingFile]:
        """Keep a file that is being sent for as long as the block runs; no more than a part of it is in memory.

        Raises:
            TooLarge: it is longer than a document's file may be. What reading it raises passes through.
        """
        self._check(scope)
        return self.incoming.received(scope, file, self.policy.file_bytes)

    def add(
        self,
        scope: Scope,
        source: DocumentSource,
        file: IO[bytes] | IncomingFile | None = None,
        *,
        key: str | None = None,
    ) -> tuple[dict[str, Any], bool]:
        """Take in a document, and have it indexed by a job.

        Args:
            file: its content, seekable or received before (:meth:`received`); None where the job gets it.
            key: what is told of more than once is taken in once by the same key, also if it was deleted since.

        Returns:
            the document, and whether there is anything to do: not so where its content is the same as before.

        Raises:
            InvalidId: the name of an upload is no file's.
            TooLarge: the file is.
            TooMany: the plan, or the library, holds no more.
            Contention: others of the scope were in the way for too long.
            JobsUnavailable: nothing is set up that would do the work.
        """
        self._check(scope)
        size, digest = (0, "") if file is None else self._measured(file)
        path = scope.document(source.id)
        if source.kind == "upload":
            upload_path(scope, source.name)
        kept = False

        def attempt() -> tuple[dict[str, Any], bool, str, Prepared | None]:
            nonlocal kept
            there, user, gate = self._store.get_many([path, scope.root, scope.documents_gate()])
            if there is not None and there.data.get("status") == "deleting":
                # Whoever deletes it has not come to the end, and may never do.
                self._finish_deletion(scope, there.id)
                raise PreconditionFailed(reason="the document was being deleted")
            if there is not None and digest and self._is_up_to_date(there, digest):
                return document_view(there.id, there.data), False, "", None
            if there is None:
                self._check_count(scope, user)
            if file is not None and not (kept and self._files.has(f"{path}/{digest}")):
                self._keep(file, f"{path}/{digest}")
                kept = True
            before = str(there.data.get("job", "")) if there is not None else ""
            prepared = self._jobs.prepare(scope, INGEST, Ingest(document=source.id, after=before), key=key)
            if key is not None and self._store.get(prepared.write.path) is not None:
                return document_view(source.id, {} if there is None else there.data), False, "", None
            data = self._record(source, size, digest, prepared.job_id, there)
            named = Set(scope.source(source.id), {"uid": scope.uid, "document": source.id})
            try:
                self._store.commit([*_own(scope, path, data, there, gate), named, prepared.write])
            except Fenced:
                if file is not None and there is None and self._store.get(path) is None:
                    self._files.delete(path, [digest])
                raise
            except NotFound as gone:
                raise PreconditionFailed(reason="the document went while it was replaced") from gone
            return document_view(source.id, data), True, before, prepared

        view, fresh, before, prepared = self._admission.run(scope.root, attempt)
        if before:
            with suppress(NotFound, Conflict, PreconditionFailed):
                self._jobs.cancel(scope, before)
        if prepared is not None:
            self._jobs.send(prepared)
        return view, fresh

    def crawl(self, scope: Scope, url: str, depth: int, pages: int) -> Job:
        """Have a site's pages taken in by a job.

        Raises:
            FetchRefused: the URL may not be fetched.
        """
        self._check(scope)
        self.fetcher.target(url)
        wanted = Crawl(url=url, depth=min(depth, self.policy.crawl_depth), pages=min(pages, self.policy.crawl_pages))
        return self._jobs.enqueue(scope, CRAWL, wanted)

    def page(self, scope: Scope, limit: int, cursor: str | None) -> Page:
        """The scope's documents, newest first.

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        self._check(scope)
        query = Query(scope.documents(), order=_NEWEST, limit=limit + 1, after=page_after(cursor))
        found = self._store.query(query)
        return Page(self._views(found[:limit]), page_cursor(found, limit, "created_at"))

    def get(self, scope: Scope, document: str) -> dict[str, Any]:
        """One document."""
        return self._views([self.record(scope, document)])[0]

    def record(self, scope: Scope, document: str) -> Document:
        """One document as the database has it."""
        self._check(scope)
        found = self._store.get(scope.document(document))
        if found is None:
            raise NotFound
        return found

    def read(
        self, scope: Scope, document: str, start: int, end: int, *, around: int = 0, passage: str | None = None
    ) -> tuple[Document, Span | None]:
        """Read characters ``start`` to ``end`` of a document's text.

        Args:
            around: characters to read before and after them.
            passage: id of the index entry that must lie just there, as a citation's ``chunk_id`` says.

        Returns:
            the document's record, and its text; None where the text ends before ``start``.

        Raises:
            PassageChanged: the passage does not lie there, because the document was replaced since.
            Conflict: the document has no text yet.
        """
        from ..rag.chunk import DocumentChunk
        from ..rag.pipeline import is_entry
        from ..rag.stored_text import read_span

        record = self.record(scope, document)
        # While a new content is read, the old one's text is there, and it is what searches find.
        digest = record.data.get("text")
        try:
            if not digest:
                raise NotFound
            with self._files.open(f"{record.path}/{digest}.text") as file:
                span = read_span(file, start, end, around)
        except NotFound:
            raise Conflict("This document has no text: it was not read yet, or it could not be read.") from None
        if passage is not None and (
            span is None
            or not is_entry(passage, document, DocumentChunk(span.text, start, span.page, span.headings, 0))
        ):
            raise PassageChanged
        return record, span

    def delete(self, scope: Scope, document: str) -> None:
        """Remove a document. Its record goes last, so that what was broken off can be repeated.

        From the first commit on nothing of it is found, and nothing more is written of it.
        """
        before = self.raise_fence(scope, document)
        if before is None:
            raise NotFound
        if before.data.get("status") in _UNFINISHED:
            with suppress(NotFound, Conflict, PreconditionFailed):
                self._jobs.cancel(scope, str(before.data.get("job", "")))
        self.finish_deletion(scope, document)

    def raise_fence(self, scope: Scope, document: str) -> Document | None:
        """Have a document's record say that it is being deleted; from here on nothing more is written of it.

        Returns:
            the record as it was before; None where there is none.
        """
        self._check(scope)

        def attempt() -> Document | None:
            record = self._store.get(scope.document(document))
            if record is not None and record.data.get("status") != "deleting":
                change = {"status": "deleting", "shown": None, "updated_at": self.clock()}
                self._store.commit([Update(record.path, change, if_updated_at=record.update_time)])
            return record

        return self._admission.run(scope.root, attempt)

    def finish_deletion(self, scope: Scope, document: str) -> None:
        """Remove what there is of a document, if its record says that it is being deleted.

        Whoever deletes it may do so at the same time, or may have been killed.
        """
        self._check(scope)
        self._admission.run(scope.root, lambda: self._finish_deletion(scope, document))

    def _finish_deletion(self, scope: Scope, document: str) -> None:
        record = self._store.get(scope.document(document))
        if record is None or record.data.get("status") != "deleting":
            return
        gone = [Delete(record.path, if_updated_at=record.update_time), Delete(scope.source(document))]
        try:
            self.wipe(scope, document, record.update_time)
            self._store.commit(gone)
        except (Fenced, NotFound) as error:
            raise PreconditionFailed(reason="the record changed while its document was deleted") from error

    def wipe(self, scope: Scope, document: str, raised: datetime | None = None) -> None:
        """Remove what the indexes hold of a document, and its files, while its record is as it was at ``raised``.

        Args:
            raised: the record's ``update_time``; None where there is no record.

        Raises:
            Fenced: the record has changed, so another content's entries may be there.
        """
        self._check(scope)
        fence = Fence(self._store, scope.document(document), raised)
        state = self.versions.state()
        for version in state.all if state is not None else ():
            self.engine(version).index.delete(scope, document, version=version.id, fence=fence)
        self._files.delete(scope.document(document), fence=fence)

    def fence(self, record: Document) -> Fence:
        """What a write of this content's entries and files depends on: that the document lives and has this content.

        Args:
            record: the document's, as the writer read it.

        Raises:
            Fenced: it does not live.
        """
        generation = record.data.get(GENERATION, "")

        def lives(found: Document | None) -> bool:
            same = found is not None and found.data.get(GENERATION, "") == generation
            return same and found is not None and found.data.get("status") not in _GIVEN_UP

        return Fence.while_it(lives, self._store, record)

    def same_content(self, scope: Scope, document: str, digest: str) -> Sequence[str]:
        """Another document of the scope with the same content, whose vectors serve for both."""
        self._check(scope)
        found = self._store.query(Query(scope.documents(), where=(Filter("hash", "==", digest),), limit=2))
        return [each.id for each in found if each.id != document and each.data.get("status") not in _GIVEN_UP][:1]

    def search(
        self,
        scope: Scope,
        query: str,
        documents: Sequence[str] = (),
        *,
        library: bool = True,
        state: State | None,
        spend: Callable[[str, TokenCounts, int], None],
    ) -> Retrieved:
        """The passages for a question, of the scope's own documents and of the library.

        Args:
            documents: look in these alone.
            state: which index version is in use: what ``versions.state()`` gives.
            spend: told what embedding the question took, by the model's name, in micro-dollars. Whoever searches has
                it paid: a turn by its own reservation, anyone else by
                :func:`firelaunch.services.metered_search.search`.

        Raises:
            IndexFailed, ModelError: see :meth:`firelaunch.rag.retrieve.Retriever.search`.
        """
        self._check(scope)
        if state is None:
            from ..rag.retrieve import Retrieved

            return Retrieved((), "lexical", "There are no documents.")
        where = {"document": list(documents)} if documents else None
        engine = self.engine(state.current)

        def paid(made: Embedded) -> None:
            tokens = TokenCounts(input=made.tokens, estimated=made.estimated)
            spend(state.current.model, tokens, engine.cost(made.tokens))

        living = partial(self._living, scope)
        return engine.retriever.search(scope, query, where, library=library, paid=paid, living=living)

    def _living(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """Those of the hits whose documents live, in one round trip; two while one of them is worked on."""
        owners = {owner_of(each): each for each in scopes_of(scope, library=True)}
        named = {(hit.owner, hit.entry.document): owners[hit.owner] for hit in hits}
        paths = [owner.document(document) for (_, document), owner in named.items()]
        found = dict(zip(named, self._store.get_many(paths) if paths else (), strict=True))
        now = self._now([record for record in found.values() if record is not None])
        data = {key: now[record.path] for key, record in found.items() if record is not None}
        return [hit for hit in hits if _shows(data.get((hit.owner, hit.entry.document)), hit)]

    def question_cost(self, query: str, state: State | None) -> int:
        """Micro-dollars that embedding a question costs at most; 0 where it is free, or there is none."""
        if state is None or not query.strip():
            return 0
        return self.price(state.current, token_bound([{"role": "user", "content": query}]))

    def _keep(self, file: IO[bytes] | IncomingFile, path: str) -> None:
        if isinstance(file, IncomingFile):
            self._files.copy(file.path, path)
            return
        file.seek(0)
        self._files.put(path, file)

    def _measured(self, file: IO[bytes] | IncomingFile) -> tuple[int, str]:
        if isinstance(file, IncomingFile):
            return file.size, file.digest
        file.seek(0)
        size, digest = 0, sha256()
        while part := file.read(_READ):
            size += len(part)
            digest.update(part)
            if size > self.policy.file_bytes:
                raise TooLarge(f"A file has at most {self.policy.file_bytes} bytes. Split it and upload the parts.")
        return size, digest.hexdigest()

    def _now(self, records: Sequence[Document]) -> dict[str, Mapping[str, Any]]:
        """What records say, by their paths. Work that was given up leaves its document as it was, so its job is asked.

        A job that has ended may have ended since the document was read, so that is read once more.
        """
        waiting = [each for each in records if each.data.get("status") in _UNFINISHED]
        app = self._store.scope
        jobs = self._store.get_many([app.job(str(each.data["job"])) for each in waiting]) if waiting else []
        over = [each for each, job in zip(waiting, jobs, strict=True) if job is None or Job.of(job).finished]
        again = self._store.get_many([each.path for each in over]) if over else []
        now = {each.path: each.data for each in records}
        for before, record in zip(over, again, strict=True):
            if record is not None:
                now[record.path] = _judged(record, str(before.data["job"]))
        return now

    def _is_up_to_date(self, there: Document, digest: str) -> bool:
        state = self.versions.state()
        return (
            state is not None
            and there.data.get("status") == "ready"
            and there.data.get("hash") == digest
            and all(is_complete(there, version) for version in state.written)
        )

    def _check_count(self, scope: Scope, user: Document | None) -> None:
        """Exact, as a new document's commit holds only while the gate is as it was before this counted."""
        most = self.policy.library if scope.uid is None else self.plans[self.plan_of(user)].documents
        if self._store.count(Query(scope.documents(), limit=most)) >= most:
            where = "The library" if scope.uid is None else "Your plan"
            raise TooMany(f"{where} holds at most {most} documents. Delete one first.")

    def _record(
        self, source: DocumentSource, size: int, digest: str, job: str, there: Document | None
    ) -> dict[str, Any]:
        now = self.clock()
        generation, shown, stale = _following(there, digest)
        same = there is not None and generation == there.data.get(GENERATION, "")
        return {
            "name": source.name,
            "source": source.kind,
            "url": source.url,
            "bytes": size,
            "hash": digest,
            "status": "queued",
            "progress": 0.0,
            "error": None,
            "job": job,
            GENERATION: generation,
            "shown": shown,
            "stale": stale,
            "indexed": dict(there.data["indexed"]) if there is not None and same else {},
            "chunks": there.data.get("chunks", 0) if there is not None else 0,
            "characters": there.data.get("characters", 0) if there is not None else 0,
            "cost_micro_usd": 0,
            "created_at": now if there is None else there.data["created_at"],
            "updated_at": now,
        }

    def _views(self, found: Sequence[Document]) -> list[dict[str, Any]]:
        now = self._now(found)
        return [document_view(each.id, now[each.path]) for each in found]

    def _check(self, scope: Scope) -> None:
        # A job of the app itself, such as re-embedding, works for all of its users.
        every = self.only is not None and self.only.uid is None and scope.app_id == self.only.app_id
        if self.only is not None and scope != self.only and not every:
            raise ScopeViolation(reason=f"a job of {self.only.root} reached for documents of {scope.root}")


def _own(
    scope: Scope, path: str, data: Mapping[str, Any], there: Document | None, gate: Document | None
) -> list[Write]:
    """What makes a document, one after the other within a scope; or what changes it."""
    if there is not None:
        return [Update(path, data, if_updated_at=there.update_time)]
    made, at = scope.documents_gate(), {"updated_at": SERVER_TIME}
    if gate is None:
        return [Create(path, data), Create(made, {**at, "passed": 1})]
    return [Create(path, data), Update(made, {**at, "passed": Increment(1)}, if_updated_at=gate.update_time)]


def _judged(record: Document, job: str) -> Mapping[str, Any]:
    """A document whose job has ended: failed, if that job left it unfinished."""
    left = record.data.get("status") in _UNFINISHED and record.data.get("job", "") == job
    return {**record.data, "status": "failed", "error": STOPPED} if left else record.data


def _shows(data: Mapping[str, Any] | None, hit: Hit) -> bool:
    """Whether a hit may be shown: its document is there, was not given up, and has the content that the hit is of."""
    if data is None or data.get("status") in _GIVEN_UP:
        return False
    generations = {data.get(GENERATION, ""), (data.get("shown") or {}).get(GENERATION)}
    return hit.entry.place.get(GENERATION, "") in generations


def _following(there: Document | None, digest: str) -> tuple[str, dict[str, Any] | None, list[str]]:
    """What a new content begins with: its generation, the content that is shown until it is ready, and stale files.

    The same content keeps its generation: what the index holds of it stays.
    """
    if there is None:
        return token_hex(8), None, []
    before = there.data
    if before.get("status") == "ready" and before.get("hash") == digest:
        return before.get(GENERATION, ""), None, list(before.get("stale", []))
    shown = before.get("shown")
    if before.get("status") == "ready":
        shown = {name: before.get(name) for name in (GENERATION, "hash", "indexed")}
        shown[GENERATION] = before.get(GENERATION, "")
    old = [before["hash"]] if before.get("hash") else []
    return token_hex(8), shown, [each for each in dict.fromkeys([*before.get("stale", []), *old]) if each != digest]


def is_complete(record: Document, version: Version) -> bool:
    """Whether a version holds what the document's content is now."""
    return bool(record.data.get("hash")) and record.data.get("indexed", {}).get(version.id) == record.data["hash"]
