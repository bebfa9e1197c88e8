"""Add, search and delete documents of users and of the app's library.

A document is identified by its source: a file by its name, a page by its URL. New content from the same source replaces
the old content. A job parses, chunks and indexes the document (:mod:`firelaunch.worker.tasks.ingest`).

Each content of a document has a *generation*: a random name in the document's record and in each index entry of the
content. A hit is shown only if its document exists and has the hit's generation. While new content is indexed, the old
content stays visible too (``shown``). To delete, replace or give up a document, its record is changed first. The change
stops all earlier writers (:mod:`firelaunch.store.fence`). Then the data is removed. docs/adr/0025 explains how this
works on each index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Field

from ..errors import (
    BadRequest,
    Conflict,
    Fenced,
    NotFound,
    PassageChanged,
    PreconditionFailed,
    ScopeViolation,
    TooLarge,
    TooMany,
    size_text,
)
from ..jobs import Job, Jobs, Kind, Prepared
from ..llm.types import FinishedCall, token_bound
from ..metering.retries import Retries
from ..paging import Page, page_after, page_cursor
from ..rag.files import FilePieces, ScopedFiles, upload_path
from ..rag.index.base import GENERATION, owner_of, scopes_of
from ..rag.versions import State, Version, Versions
from ..scope import Scope, is_record_text, record_text_id
from ..settings.app import DocumentSettings as Policy
from ..settings.app import Plan
from ..store.base import SERVER_TIME, Create, Delete, Document, Filter, Increment, Order, Query, Set, Update, Write
from ..store.fence import Fence
from ..store.guard import Guard
from ..store.scoped import ScopedStore
from ..store.signed_links import LINK_KEY, check_link, link_of, new_link_key, read_link
from .incoming_files import IncomingFile, IncomingFiles
from .views import document_view, is_current_text, upgrades

if TYPE_CHECKING:
    from ..rag.embed.base import Embedded
    from ..rag.index.base import Hit
    from ..rag.pipeline import Engine
    from ..rag.retrieve import Retrieved
    from ..rag.stored_text import Excerpt
    from ..rag.web.fetch import Fetcher

__all__ = [
    "CRAWL",
    "INGEST",
    "STOPPED",
    "Crawl",
    "DocumentSource",
    "Documents",
    "Ingest",
    "document_id",
    "is_complete",
    "level_of",
    "metadata_of",
]

_NEWEST = (Order("created_at", descending=True),)
_READ_BYTES: Final = 1 << 20
_PLAIN_TEXTS = (".txt", ".text", ".log", ".md", ".markdown")
"""Endings of files whose text is what they hold, unless they hold something else."""

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
    """The source of a document.

    Args:
        kind: "file", "upload" (a file that the user's client put into Firebase Storage), "url" or "record".
        name: the name for people. It also identifies a file or an upload.
        url: the URL of a page. It identifies the page.
        record: the collection and the id of one of the app's own records, whose text is the document.
        part: of a mail's attachment, the id of the mail's document and the number among attachments of that name.
    """

    kind: str
    name: str
    url: str = ""
    record: tuple[str, str] | None = None
    part: tuple[str, int] | None = None

    @property
    def id(self) -> str:
        """The document's id. Equal sources have equal ids."""
        if self.part:
            return document_id("\n".join([*map(str, self.part), self.name]))  # no name or URL has a line break
        return record_text_id(*self.record) if self.record else document_id(self.url or self.name)


def level_of(record: Document) -> int:
    """Return how many mails a document is attached within: 0 for one that was put up by itself."""
    return int(record.data.get("level", 0))


def _part_facts(whole: Document | None) -> dict[str, Any]:
    """Return what an attachment's record says of the mail, if it is one."""
    return {} if whole is None else {"part_of": whole.id, "level": level_of(whole) + 1}


def document_id(name_or_url: str) -> str:
    """Return the id of the document that this name or URL identifies."""
    return "d" + sha256(name_or_url.encode("utf-8", "surrogatepass")).hexdigest()[:31]


@dataclass(frozen=True, slots=True)
class Documents:
    """One app's documents. A scope without a user is the app's library.

    Args:
        store, files, jobs: those of the app.
        versions: the index versions that exist.
        engine: returns the engine that reads and writes an index version. It is built when it is first needed.
        price: returns the micro-dollars that a version's embedder costs for a number of tokens.
        fetcher: returns the fetcher of web pages.
        incoming: the files that are arriving.
        search_tokens: the most tokens that a search's passages take, estimated.
        warm: imports the modules that the first search needs.
        rerank_cost: returns the most micro-dollars that reranking the hits of a question costs.
        only: the one scope to work in, inside a job's handler; None for any scope of the app.
        searchable: the app's own collections whose records searches may find. See :meth:`declare_searchable`.

    Every method that takes a ``document`` raises NotFound if that document is not the scope's, and InvalidId.
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
    rerank_cost: Callable[[str], int] = lambda _: 0
    only: Scope | None = None
    searchable: set[str] = field(default_factory=set)

    @property
    def fetcher(self) -> Fetcher:
        """The fetcher of web pages."""
        return self._fetcher()

    def within(self, scope: Scope) -> Documents:
        """Return documents restricted to ``scope``: one user's, or all of the app's."""
        return replace(self, only=scope)

    def for_member(self, group: Scope, guard: Guard) -> Documents:
        """Return the documents of a group for one member's request.

        Args:
            guard: the membership, on which each access to the documents' records depends.
        """
        return replace(self, only=group, _store=self._store.within(self._store.scope, guard))

    def files(self, scope: Scope) -> ScopedFiles:
        """Return the files of a scope's documents."""
        self._check(scope)
        return self._files.within(scope)

    def has_room(self, scope: Scope, source: DocumentSource) -> bool:
        """Return whether :meth:`add` would accept the document now, as a new one or in place of its predecessor."""
        self._check(scope)
        record, user = self._store.get_many([scope.document(source.id), scope.root])
        try:
            if record is None:
                self._check_count(scope, user)
        except TooMany:
            return False
        return True

    def received(self, scope: Scope, file: IO[bytes], name: str = "") -> AbstractContextManager[IncomingFile]:
        """Store a file that is being sent while the block runs. Only a part of the file is in memory at a time.

        Args:
            name: the file's own name. By its ending a plain text is known, whose characters are counted as it arrives.

        Raises:
            TooLarge: the file is longer than a document's file may be, or is a text of more characters than are
                allowed. Errors from reading the file pass through.
        """
        self._check(scope)
        plain = name.lower().endswith(_PLAIN_TEXTS)
        most_characters = self.policy.text_characters if plain else None
        return self.incoming.received(scope, file, self.policy.file_bytes, most_characters)

    def add(  # noqa: C901 - the ways in which a document may be there already
        self,
        scope: Scope,
        source: DocumentSource,
        file: IO[bytes] | IncomingFile | None = None,
        *,
        key: str | None = None,
        whole: Document | None = None,
    ) -> tuple[dict[str, Any], bool]:
        """Add a document, or replace its content, and let a job index it.

        Args:
            file: the content, seekable or received before (:meth:`received`); None if the job fetches the content.
            whole: of an attachment, the mail's record, as the mail's job has read it.
            key: an idempotency key. Calls with the same key add the document once, even if it was deleted since.

        Returns:
            the document, and whether there is work to do. There is none if the content has not changed.

        Raises:
            BadRequest: the file is empty.
            Fenced: the mail was deleted or replaced.
            InvalidId: the name of an upload is not a valid file name.
            TooLarge: the file is too large.
            TooMany: the plan, or the library, allows no more documents.
            Contention: other requests of the scope came first for too long.
            JobsUnavailable: no backend for jobs is set up.
        """
        self._check(scope)
        size, digest = (0, "") if file is None else self._measure(file)
        # Of a mail's parts and a crawl's pages, an empty one becomes a document that failed, and the job goes on.
        if source.kind == "file" and whole is None and file is not None and not size:
            raise BadRequest("This file is empty. Check that it was saved, and upload it again.")
        path = scope.document(source.id)
        if source.kind == "upload":
            upload_path(scope, source.name)
        kept = False

        def attempt() -> tuple[dict[str, Any], bool, str, Prepared | None]:
            nonlocal kept
            record, user, gate = self._store.get_many([path, scope.root, scope.documents_gate()])
            if record is not None and record.data.get("status") == "deleting":
                # A deletion is under way, or it broke off. Finish it, and let the next try start from nothing.
                self._finish_deletion(scope, record.id)
                raise PreconditionFailed(reason="the document was being deleted")
            joined = self._joined(whole, source.id)
            if record is not None and digest and self._is_up_to_date(record, digest):
                if joined:
                    self._store.commit(joined)
                return document_view(record.id, record.data), False, "", None
            if record is None and source.record is None:
                self._check_count(scope, user)
            # The file is stored before the record names it. A later try stores it again if a deletion removed it.
            if file is not None and not (kept and self._files.has(f"{path}/{digest}")):
                self._keep(file, f"{path}/{digest}")
                kept = True
            earlier_job = str(record.data.get("job", "")) if record is not None else ""
            prepared = self._jobs.prepare(scope, INGEST, Ingest(document=source.id, after=earlier_job), key=key)
            if key is not None and self._store.get(prepared.write.path) is not None:
                return document_view(source.id, {} if record is None else record.data), False, "", None
            data = self._record(source, size, digest, prepared.job_id, record) | _part_facts(whole)
            # The records themselves are not counted either, so their texts need no gate.
            creation = _document_writes(scope, path, data, record, gate, counted=source.record is None)
            facts = {"uid": scope.uid, "document": source.id, LINK_KEY: new_link_key()}
            source_write = Set(scope.source(source.id), facts)
            try:
                self._store.commit([*creation, source_write, prepared.write, *joined])
            except Fenced:
                # The user is being erased, so nothing may name the file just stored any more.
                if file is not None and record is None and self._store.get(path) is None:
                    self._files.delete(path, [digest])
                raise
            except NotFound as error:
                raise PreconditionFailed(reason="the document went while it was replaced") from error
            return document_view(source.id, data), True, earlier_job, prepared

        view, has_work, earlier_job, prepared = self._admission.run(scope.root, attempt)
        if earlier_job:
            with suppress(NotFound, Conflict, PreconditionFailed):
                self._jobs.cancel(scope, earlier_job)
        if prepared is not None:
            self._jobs.send(prepared)
        return view, has_work

    def _joined(self, whole: Document | None, part: str) -> list[Write]:
        """Return the write by which a mail's record names one more attachment; none if it does.

        In one commit with the attachment's record, so that no attachment is left behind when its mail is deleted.
        """
        if whole is None:
            return []
        current = self._store.get(whole.path)
        same = current is not None and all(
            current.data.get(name) == whole.data.get(name) for name in (GENERATION, "hash", "job")
        )
        if current is None or not same or current.data.get("status") in _GIVEN_UP:
            raise Fenced(reason="the mail was deleted or replaced while its attachments were added")
        parts = list(current.data.get("parts", []))
        return [] if part in parts else [Update(whole.path, {"parts": [*parts, part]}, current.update_time)]

    def crawl(self, scope: Scope, url: str, depth: int, pages: int) -> Job:
        """Let a job add the pages of a site as documents.

        Raises:
            FetchRefused: the URL may not be fetched.
        """
        self._check(scope)
        self.fetcher.target(url)
        payload = Crawl(url=url, depth=min(depth, self.policy.crawl_depth), pages=min(pages, self.policy.crawl_pages))
        prepared = self._jobs.prepare(scope, CRAWL, payload)
        at = self._store.commit([prepared.write])  # a group's membership is a condition of this commit
        self._jobs.send(prepared)
        return Job.of(Document(prepared.write.path, prepared.write.data, at, at))

    def page(self, scope: Scope, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
        """Return a page of the scope's documents, newest first.

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        self._check(scope)
        query = Query(scope.documents(), order=_NEWEST, limit=limit + 1, after=page_after(cursor))
        records = self._store.query(query)
        return Page(self._views(records[:limit]), page_cursor(records, limit, "created_at"))

    def get(self, scope: Scope, document: str) -> dict[str, Any]:
        """Return one document as clients see it."""
        return self._views([self.record(scope, document)])[0]

    def record(self, scope: Scope, document: str) -> Document:
        """Return the stored record of one document."""
        self._check(scope)
        record = self._store.get(scope.document(document))
        if record is None:
            raise NotFound
        return record

    def read(
        self, scope: Scope, document: str, start: int, end: int, *, around: int = 0, passage: str | None = None
    ) -> tuple[Document, Excerpt | None]:
        """Read characters ``start`` to ``end`` of a document's text.

        Args:
            around: the number of characters to read before and after them.
            passage: the id of the index entry that must be exactly there: a citation's ``chunk_id``.

        Returns:
            the document's record, and its text, or None if the text ends before ``start``.

        Raises:
            PassageChanged: the passage is not there, because the document was replaced since.
            Conflict: the document has no text yet.
        """
        from ..rag.chunk import DocumentChunk
        from ..rag.pipeline import is_entry
        from ..rag.stored_text import read_span

        record = self.record(scope, document)
        # While new content is being parsed, this is the text of the old content, which searches still find.
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

    def link_to_file(self, scope: Scope, document: str, until: datetime, *, reader: str) -> tuple[Document, str]:
        """Return a document's record, and a link to its file that works until ``until``.

        The link's key is in the document's source record, which no client can read.

        Args:
            reader: the id of the user who gets the link.

        Raises:
            Conflict: the document has no file: it is the text of a record, was not fetched yet, or has failed.
        """
        self._check(scope)

        def attempt() -> tuple[Document, Document]:
            record, source = self._store.get_many([scope.document(document), scope.source(document)])
            if record is None or source is None or record.data.get("status") == "deleting":
                raise NotFound
            if is_record_text(document) or not record.data.get("hash"):
                raise Conflict("This document has no file: it was not fetched yet, or it could not be read.")
            if LINK_KEY in source.data:
                return record, source
            key = {LINK_KEY: new_link_key()}  # the document is from before links
            at = self._store.commit([Update(source.path, key, if_updated_at=source.update_time)])
            return record, Document(source.path, {**source.data, **key}, source.create_time, at)

        record, source = self._admission.run(scope.root, attempt)
        return record, link_of(source, scope, until, record.data["hash"], reader=reader)

    def file_of_link(
        self, document: str, link: str, check_member: Callable[[Scope, str], None]
    ) -> tuple[Document, FilePieces]:
        """Return a document's record and its file, for whoever has a link to it.

        Args:
            check_member: raises NotFound if the user with this id is no member of the group.

        Raises:
            NotFound: it is no link to this document's file, its time is over, the document was deleted or replaced, or
                it is a group's and who got the link is no member any more.
        """
        target = read_link(link, self._store.scope, self.clock)
        self._check(target.owner)
        paths = [target.owner.document(document), target.owner.source(document)]
        record, source = self._store.get_many(paths)
        if record is None or source is None:
            raise NotFound
        check_link(target, source)
        if target.owner.group is not None:
            check_member(target.owner, target.member)
        if record.data.get("status") == "deleting" or record.data.get("hash") != target.version:
            raise NotFound
        path = f"{record.path}/{target.version}"
        return record, FilePieces(lambda start: self._files.pieces(path, start))

    def delete(self, scope: Scope, document: str) -> None:
        """Delete a document. Its record goes last, so that a deletion that broke off can be repeated.

        After the first commit, searches find nothing of the document, and nothing more of it is written.

        Raises:
            Conflict: the document is the text of one of the app's own records.
        """
        if is_record_text(document):
            raise Conflict("This is the text of a record. Delete the record, or change it.")
        self.delete_any(scope, document)

    def delete_any(self, scope: Scope, document: str) -> None:
        """Delete a document, or the text of a record. See :meth:`delete`."""
        record = self.raise_fence(scope, document)
        if record is None:
            raise NotFound
        if record.data.get("status") in _UNFINISHED:
            with suppress(NotFound, Conflict, PreconditionFailed):
                self._jobs.cancel(scope, str(record.data.get("job", "")))
        self.finish_deletion(scope, document)

    def raise_fence(self, scope: Scope, document: str) -> Document | None:
        """Mark a document's record as being deleted. From now on nothing more of the document is written.

        Returns:
            the record as it was before, or None if there is none.
        """
        self._check(scope)

        def attempt() -> Document | None:
            record = self._store.get(scope.document(document))
            if record is not None and record.data.get("status") != "deleting":
                change = {"status": "deleting", "shown": None, "updated_at": self.clock()}
                marked = [record, *self._parts(scope, record)]
                self._store.commit([Update(each.path, change, if_updated_at=each.update_time) for each in marked])
            return record

        return self._admission.run(scope.root, attempt)

    def _parts(self, scope: Scope, record: Document) -> list[Document]:
        """Return the records of a mail's attachments, and of those of attached mails."""
        parts = []
        waiting = [record]
        while waiting:
            names = [scope.document(name) for each in waiting for name in each.data.get("parts", ())]
            waiting = [part for part in (self._store.get_many(names) if names else ()) if part is not None]
            parts += waiting
        return parts

    def finish_deletion(self, scope: Scope, document: str) -> None:
        """Remove all data of a document whose record says that it is being deleted.

        The process that marked it may be doing the same, or may have died.
        """
        self._check(scope)
        self._admission.run(scope.root, lambda: self._finish_deletion(scope, document))

    def _finish_deletion(self, scope: Scope, document: str) -> None:
        record = self._store.get(scope.document(document))
        if record is None or record.data.get("status") != "deleting":
            return
        for part in record.data.get("parts", ()):
            self._finish_deletion(scope, part)
        deletes = [Delete(record.path, if_updated_at=record.update_time), Delete(scope.source(document))]
        try:
            self.wipe(scope, document, record.update_time)
            self._store.commit(deletes)
        except (Fenced, NotFound) as error:
            raise PreconditionFailed(reason="the record changed while its document was deleted") from error

    def wipe(self, scope: Scope, document: str, raised: datetime | None = None) -> None:
        """Remove a document's index entries and files, as long as its record has not changed since ``raised``.

        Args:
            raised: the record's ``update_time``; None if there is no record.

        Raises:
            Fenced: the record has changed, so the entries may belong to another content.
        """
        self._check(scope)
        fence = Fence(self._store, scope.document(document), raised)
        state = self.versions.state()
        for version in state.all if state is not None else ():
            self.engine(version).index.delete(scope, document, version=version.id, fence=fence)
        self._files.delete(scope.document(document), fence=fence)

    def fence(self, record: Document) -> Fence:
        """Return the fence for writes of this content's entries and files.

        It lets them through only while the document exists, was not given up, and still has this content.

        Args:
            record: the document's record, as the writer read it.

        Raises:
            Fenced: the document was deleted or given up.
        """
        generation = record.data.get(GENERATION, "")

        def lives(current: Document | None) -> bool:
            same = current is not None and current.data.get(GENERATION, "") == generation
            return same and current is not None and current.data.get("status") not in _GIVEN_UP

        return Fence.while_it(lives, self._store, record)

    def same_content(self, scope: Scope, document: str, digest: str) -> Sequence[str]:
        """Return the id of another document with the same content, whose vectors can be copied; or an empty list."""
        self._check(scope)
        records = self._store.query(Query(scope.documents(), where=(Filter("hash", "==", digest),), limit=2))
        return [r.id for r in records if r.id != document and r.data.get("status") not in _GIVEN_UP][:1]

    def search(
        self,
        scope: Scope,
        query: str,
        documents: Sequence[str] = (),
        *,
        earlier: str = "",
        library: bool = True,
        state: State | None,
        spend: Callable[[FinishedCall], None],
    ) -> Retrieved:
        """Return the passages for a question from the scope's own documents and from the library.

        Args:
            documents: the ids of the documents to search; all if it is empty.
            earlier: the user's messages before this one (:meth:`firelaunch.rag.retrieve.Retriever.search`).
            state: the index version in use, from ``versions.state()``.
            spend: is called with the calls that embed the question and rerank the hits. You have to pay them: a turn
                pays from its reservation, other code searches through
                :func:`firelaunch.services.metered_search.search`.

        Raises:
            IndexFailed, ModelError: as in :meth:`firelaunch.rag.retrieve.Retriever.search`.
        """
        self._check(scope)
        if state is None:
            from ..rag.retrieve import Retrieved

            return Retrieved((), "lexical", "There are no documents.")
        where = {"document": list(documents)} if documents else None
        engine = self.engine(state.current)

        def paid(embedded: Embedded) -> None:
            spend(embedded.as_call(state.current.model, engine.cost(embedded.tokens), "search"))

        living = partial(self._living, scope)
        return engine.retriever.search(
            scope, query, where, earlier=earlier, library=library, paid=paid, spend=spend, living=living
        )

    def declare_searchable(self, collections: Iterable[str]) -> None:
        """Set the names of the app's own collections whose records searches may find.

        Raises:
            ScopeViolation: these documents are not the whole app's.
        """
        if self.only is not None:
            raise ScopeViolation(reason=f"{self.only.root} declared the collections of the whole app")
        self.searchable.update(collections)

    def _living(self, scope: Scope, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits whose documents exist and have the hits' content; and whose records exist, if they have one.

        This takes one round trip, or more while one of the documents is being worked on.
        """
        owners = {owner_of(owner): owner for owner in scopes_of(scope, library=True)}
        paths = {key: owners[key[0]].document(key[1]) for key in map(_document_of, hits)}
        origins = {_document_of(hit): self._origin(owners[hit.owner], hit) for hit in hits}
        wanted = list(dict.fromkeys([*paths.values(), *filter(None, origins.values())]))
        stored = dict(zip(wanted, self._store.get_many(wanted) if wanted else (), strict=True))
        current = self._current_data([record for path in paths.values() if (record := stored[path]) is not None])

        def lives(hit: Hit) -> bool:
            key = _document_of(hit)
            origin = origins[key]
            return _shows(current.get(paths[key]), hit) and (origin is None or stored.get(origin) is not None)

        return [hit for hit in hits if lives(hit)]

    def _origin(self, owner: Scope, hit: Hit) -> str | None:
        """Return the path of the record whose text a hit is; None for one of a file or page.

        It is "" if the app no longer declares the collection as searchable.
        """
        if not is_record_text(hit.entry.document):
            return None
        place = hit.entry.place.get("record") or {}
        collection, record = str(place.get("collection")), str(place.get("id"))
        return owner.record(collection, record) if collection in self.searchable else ""

    def search_cost(self, query: str, state: State | None) -> int:
        """Return the most micro-dollars that a search costs; 0 if it is free or there is no question."""
        if state is None or not query.strip():
            return 0
        embedding = self.price(state.current, token_bound([{"role": "user", "content": query}]))
        return embedding + self.rerank_cost(query)

    def _keep(self, file: IO[bytes] | IncomingFile, path: str) -> None:
        if isinstance(file, IncomingFile):
            self._files.copy(file.path, path)
            return
        file.seek(0)
        self._files.put(path, file)

    def _measure(self, file: IO[bytes] | IncomingFile) -> tuple[int, str]:
        if isinstance(file, IncomingFile):
            return file.size, file.digest
        file.seek(0)
        size, digest = 0, sha256()
        while part := file.read(_READ_BYTES):
            size += len(part)
            digest.update(part)
            if size > self.policy.file_bytes:
                raise TooLarge(
                    f"A file has at most {size_text(self.policy.file_bytes)}. Split it and upload the parts."
                )
        return size, digest.hexdigest()

    def _current_data(self, records: Sequence[Document]) -> dict[str, Mapping[str, Any]]:
        """Return the records' fields by their paths, with the status "failed" where the work was given up.

        A job that is given up leaves its document's record unfinished. So for unfinished documents the job is read.
        """
        unfinished = [record for record in records if record.data.get("status") in _UNFINISHED]
        app = self._store.scope
        jobs = self._store.get_many([app.job(str(record.data["job"])) for record in unfinished]) if unfinished else []
        ended = [record for record, job in zip(unfinished, jobs, strict=True) if job is None or Job.of(job).finished]
        # The job may have finished the document between the two reads, so read the document once more.
        reread = self._store.get_many([record.path for record in ended]) if ended else []
        data = {record.path: record.data for record in records}
        for old, record in zip(ended, reread, strict=True):
            if record is not None:
                data[record.path] = _after_job(record, str(old.data["job"]))
        return data

    def _is_up_to_date(self, record: Document, digest: str) -> bool:
        state = self.versions.state()
        return (
            state is not None
            and record.data.get("status") == "ready"
            and record.data.get("hash") == digest
            and is_current_text(record.data)
            and all(is_complete(record, version) for version in state.written)
        )

    def _check_count(self, scope: Scope, user: Document | None) -> None:
        """Raise TooMany if the scope has no room for one more document.

        The count is exact: a new document's commit fails if another document passed the gate since this count.
        """
        most = self.policy.library if scope.uid is None else self.plans[self.plan_of(user)].documents
        if self._store.count(Query(scope.documents(), limit=most)) >= most:
            where = "The library" if scope.uid is None else "Your plan"
            raise TooMany(f"{where} holds at most {most} documents. Delete one first.")

    def _record(self, source: DocumentSource, size: int, digest: str, job: str, old: Document | None) -> dict[str, Any]:
        now = self.clock()
        generation, shown, stale = _next_content(old, digest)
        same = old is not None and generation == old.data.get(GENERATION, "") and is_current_text(old.data)
        return {
            "name": source.name,
            "source": source.kind,
            "url": source.url,
            **({"record": dict(zip(("collection", "id"), source.record, strict=True))} if source.record else {}),
            "bytes": size,
            "hash": digest,
            "status": "queued",
            "progress": 0.0,
            "error": None,
            "job": job,
            GENERATION: generation,
            "shown": shown,
            "stale": stale,
            "indexed": dict(old.data["indexed"]) if old is not None and same else {},
            "chunks": old.data.get("chunks", 0) if old is not None else 0,
            "characters": old.data.get("characters", 0) if old is not None else 0,
            "warnings": old.data.get("warnings", []) if old is not None else [],
            "parts": list(old.data.get("parts", [])) if old is not None else [],
            "cost_micro_usd": 0,
            "created_at": now if old is None else old.data["created_at"],
            "updated_at": now,
        }

    def _views(self, records: Sequence[Document]) -> list[dict[str, Any]]:
        data = self._current_data(records)
        wanted = self.versions.configured.id
        return [document_view(record.id, data[record.path], upgrades(data[record.path], wanted)) for record in records]

    def _check(self, scope: Scope) -> None:
        # A job of the app itself, such as re-embedding, works for all of the app's users.
        whole_app = self.only is not None and self.only.uid is None and scope.app_id == self.only.app_id
        if self.only is not None and scope != self.only and not whole_app:
            raise ScopeViolation(reason=f"a job of {self.only.root} reached for documents of {scope.root}")


def _document_writes(
    scope: Scope, path: str, data: Mapping[str, Any], old: Document | None, gate: Document | None, *, counted: bool
) -> list[Write]:
    """Return the writes that create a document's record, or the one that changes it.

    Each creation also changes the scope's gate, so that only one can succeed after each count of the documents.

    Args:
        counted: False for a document that no limit counts, which passes no gate.
    """
    if old is not None:
        return [Update(path, data, if_updated_at=old.update_time)]
    if not counted:
        return [Create(path, data)]
    gate_path, at = scope.documents_gate(), {"updated_at": SERVER_TIME}
    if gate is None:
        return [Create(path, data), Create(gate_path, {**at, "passed": 1})]
    return [Create(path, data), Update(gate_path, {**at, "passed": Increment(1)}, if_updated_at=gate.update_time)]


def _after_job(record: Document, job: str) -> Mapping[str, Any]:
    """Return the fields of a document whose job has ended: "failed" if that job left the document unfinished."""
    abandoned = record.data.get("status") in _UNFINISHED and record.data.get("job", "") == job
    return {**record.data, "status": "failed", "error": STOPPED} if abandoned else record.data


def _document_of(hit: Hit) -> tuple[str, str]:
    """Return the owner and the id of the document that a hit is of. Two owners may have documents of one id."""
    return hit.owner, hit.entry.document


def _shows(data: Mapping[str, Any] | None, hit: Hit) -> bool:
    """Return whether a hit may be shown: its document exists, was not given up, and has the hit's content."""
    if data is None or data.get("status") in _GIVEN_UP:
        return False
    generations = {data.get(GENERATION, ""), (data.get("shown") or {}).get(GENERATION)}
    return hit.entry.place.get(GENERATION, "") in generations


def _next_content(record: Document | None, digest: str) -> tuple[str, dict[str, Any] | None, list[str]]:
    """Return a new content's generation, the content to show until the new one is ready, and the stale files.

    Unchanged content keeps its generation, so its index entries stay valid.
    """
    if record is None:
        return token_hex(8), None, []
    old = record.data
    if old.get("status") == "ready" and old.get("hash") == digest:
        return old.get(GENERATION, ""), None, list(old.get("stale", []))
    shown = old.get("shown")
    if old.get("status") == "ready":
        shown = {name: old.get(name) for name in (GENERATION, "hash", "indexed")}
        shown[GENERATION] = old.get(GENERATION, "")
    old_hashes = [old["hash"]] if old.get("hash") else []
    stale = dict.fromkeys([*old.get("stale", []), *old_hashes])
    return token_hex(8), shown, [stale_hash for stale_hash in stale if stale_hash != digest]


def metadata_of(record: Document) -> dict[str, Any]:
    """Return what each passage of a document says about the document: its title, and its URL or record."""
    more = {name: record.data[name] for name in ("url", "record") if record.data.get(name)}
    return {"title": record.data["name"], **more}


def is_complete(record: Document, version: Version) -> bool:
    """Return whether a version holds the whole of the document's current content."""
    return bool(record.data.get("hash")) and record.data.get("indexed", {}).get(version.id) == record.data["hash"]
