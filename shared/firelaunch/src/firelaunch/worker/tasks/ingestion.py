"""Bring a document from its source to the index, or the pages of a site into documents. Jobs do this work.

A document's job may die at any point and start again. So its file and its text are stored under their content's hash,
index entries always get the same ids, and the record says which index versions hold which content.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from ...documents.catalog import STOPPED, Crawl, Documents, DocumentSource, Ingest, is_complete, level_of, metadata_of
from ...documents.views import is_current_text
from ...errors import (
    BudgetExceeded,
    DocumentUnreadable,
    Fenced,
    FetchRefused,
    FirelaunchError,
    ModelRefused,
    NotFound,
    PreconditionFailed,
    TooLarge,
    TooMany,
    size_text,
)
from ...llm.types import text_bound
from ...metering.reservations import Quote, Reservation
from ...metering.retries import admit
from ...rag.files import upload_path
from ...rag.index.base import GENERATION
from ...rag.parse import Block, Omission, ParseLimits, extracts, parse
from ...rag.pipeline import Engine, build
from ...rag.stored_text import read_blocks, write_blocks
from ...rag.versions import READER, Version
from ...rag.web.crawl import CrawlLimits, WebPage, crawl
from ...records.collection import Collection
from ...scope import is_record_text
from ...store.base import Document, Update
from ...store.changes import apply_update
from ...store.fence import Fence
from .. import Cancelled, JobDone, JobRun, Postponed
from .picture_text import read_pictures, with_pages
from .record_texts import read_text

if TYPE_CHECKING:
    from ...rag.embed.base import Embedded, Embedder
    from ...rag.index.base import Vector

__all__ = ["crawl_site", "take_in"]

_PROGRESS_SECONDS = 1.0
"""The least seconds between two writes of a document's progress."""

_PARSING = 0.4
"""The share of the progress that parsing the file takes."""

_LEVELS = 3
"""Mails within mails whose attachments are taken out."""

_ATTACHMENTS = "attachments"
_OF_PICTURES = frozenset({"no_text", "picture"})
"""Why a file that holds only pictures cannot be read."""

_WAIT_SECONDS = 1.0
_BUDGET_SECONDS = 3600.0
"""Seconds until a record's text is tried again that the day's budget did not cover."""
_LISTED = 100
"""The most pages, and the most skipped addresses, that a crawl's result lists."""


class _Gone(Exception):
    """The document was deleted, erased or replaced by a later upload while the job was working on it."""


def take_in(run: JobRun, payload: Ingest, collections: Sequence[Collection[Any]] = ()) -> JobDone:
    """Make one attempt to index a document. It ends as ready, as failed with a reason, or as gone.

    Args:
        collections: the app's own collections, whose searchable records are documents too.

    Raises:
        Postponed: an earlier job on the document has not ended.
        FirelaunchError: another attempt may help.
    """
    _wait_for(run, payload.after)
    work = _Work(run, run.services.documents, payload.document, collections)
    try:
        return work.run_through()
    except (_Gone, Fenced):
        if is_record_text(payload.document):  # this job, or one that died, may have found the record deleted
            work.documents.finish_deletion(run.scope, payload.document)
        return JobDone({"status": "gone"})
    except Cancelled:
        work.stop()
        raise


def _wait_for(run: JobRun, job: str) -> None:
    """Postpone this job until an earlier one on the document has ended. Two jobs would overwrite each other."""
    with suppress(NotFound):
        if job and not run.services.jobs.get(run.scope, job).finished:
            raise Postponed(retry_after=_WAIT_SECONDS)


@dataclass(slots=True)
class _Work:
    """One attempt to index one document."""

    run: JobRun
    documents: Documents
    document: str
    collections: Sequence[Collection[Any]] = ()
    _latest: Document | None = None
    _progress_at: float = field(default=float("-inf"))
    _bills: list[Reservation] = field(default_factory=list)
    _spent: int = 0
    _calls: int = 0

    def run_through(self) -> JobDone:
        """Go on where the last attempt ended, until the document is ready, or failed with a reason."""
        record = self._record()
        if record.data["status"] == "failed":
            return self._clean_up(record)
        try:
            record = self._parse(self._fetch(record))
            chunks = self._index(record)
        except DocumentUnreadable as error:
            return self._fail(error.problem, error.message)
        except FetchRefused as error:
            return self._fail(error.problem, error.message)
        except BudgetExceeded:
            if record.data["source"] == "record":  # nobody would write the record again just for the search
                raise Postponed(retry_after=_BUDGET_SECONDS) from None
            message = "Today's budget does not cover reading and embedding this document. Upload it again tomorrow."
            return self._fail("budget_exceeded", message)
        except NotFound:
            self._record()  # files vanish when their document is deleted: this then raises _Gone
            raise
        except ModelRefused:
            message = "The embedding model does not take this document's text. Remove what is not text from it."
            return self._fail("embedding_refused", message)
        return JobDone({"status": "ready", "chunks": chunks})

    def stop(self) -> None:
        """Give the document up after the job was cancelled, unless it belongs to another job by now."""
        with suppress(_Gone, Fenced):
            if self._record().data["status"] != "ready":
                self._fail(STOPPED["problem"], STOPPED["message"])

    def _record(self) -> Document:
        record = self.run.services.store.get(self.run.scope.document(self.document))
        if record is None or record.data.get("job") != self.run.id or record.data.get("status") == "deleting":
            raise _Gone
        self._latest = record
        return record

    def _write(self, **changes: Any) -> Document:
        """Change the record if it still belongs to this job, and settle the embedding calls since the last change.

        The record is read again only if somebody else has changed it since this job last read or wrote it.
        """
        while True:
            record = self._latest or self._record()
            fields = {**changes, "updated_at": self.run.services.clock()}
            own = Update(record.path, fields, if_updated_at=record.update_time)
            try:
                at = self.run.commit(own, settles=self._bills)
            except (PreconditionFailed, NotFound):
                self._latest = None
                continue
            self._bills.clear()
            self._progress_at = time.monotonic()
            self._latest = replace(record, data=apply_update(dict(record.data), fields, at), update_time=at)
            return self._latest

    def _progress(self, fraction: float) -> None:
        self.run.check()
        self.run.progress(round(100 * fraction), 100)
        if self._bills or time.monotonic() - self._progress_at >= _PROGRESS_SECONDS:
            self._write(progress=round(min(fraction, 0.99), 3), cost_micro_usd=self._spent)

    def _fetch(self, record: Document) -> Document:
        """Fetch and store the document's file, unless an earlier attempt did."""
        if record.data["hash"]:
            return record
        if record.data["source"] == "record":
            return self._read_record(record)
        documents, files = self.documents, self.documents.files(self.run.scope)
        with TemporaryFile() as file:
            if record.data["source"] == "url":
                documents.fetcher.fetch(record.data["url"], file)
            else:
                self._copy(record.data["name"], file)
            size, digest = _measure(file)
            if size > documents.policy.file_bytes:
                raise DocumentUnreadable("too_large", f"A file has at most {size_text(documents.policy.file_bytes)}.")
            file.seek(0)
            files.put(f"{record.path}/{digest}", file, documents.fence(record))
        return self._write(hash=digest, bytes=size, **_unchanged(record, digest))

    def _read_record(self, record: Document) -> Document:
        """Store the text of the app's own record as it is now. If the record is gone, remove its text and end."""
        found = read_text(self.run.data, self.collections, record.data["record"])
        if found is None:
            self._write(status="deleting", shown=None)  # ends here, unless the document is another job's by now
            raise _Gone
        with TemporaryFile() as text:
            characters = write_blocks(found.blocks, text)
            size, digest = _measure(text)
            text.seek(0)
            self.documents.files(self.run.scope).put(f"{record.path}/{digest}.text", text, self.documents.fence(record))
        facts = {"name": found.title, "text": digest, "characters": characters}
        return self._write(hash=digest, bytes=size, **facts, **_unchanged(record, digest))

    def _copy(self, name: str, into: IO[bytes]) -> None:
        try:
            with self.documents.files(self.run.scope).open(upload_path(self.run.scope, name)) as file:
                shutil.copyfileobj(file, into)
        except NotFound:
            message = "There is no such file in your uploads. Upload it, and then name it here."
            raise DocumentUnreadable("not_uploaded", message) from None

    def _parse(self, record: Document) -> Document:
        """Parse the file and store its text, unless an earlier attempt did."""
        digest = record.data["hash"]
        if record.data.get("text") == digest and is_current_text(record.data):
            return record
        files = self.documents.files(self.run.scope)
        fence = self.documents.fence(self._write(status="parsing", progress=0.0))
        omissions: list[Omission] = []
        with files.open(f"{record.path}/{digest}") as file, TemporaryFile() as text:
            characters = self._read_text(file, record, text, omissions, fence)
            text.seek(0)
            files.put(f"{record.path}/{digest}.text", text, fence)
            omissions = self._with_attachments(file, omissions)
        warnings = [{"code": omission.code, "message": omission.message} for omission in omissions]
        facts = {"text": digest, "reader": READER, "characters": characters, "warnings": warnings}
        return self._write(**facts, progress=_PARSING, status="embedding")

    def _read_text(
        self, file: IO[bytes], record: Document, text: IO[bytes], omissions: list[Omission], fence: Fence
    ) -> int:
        """Write the text of a file, and add what is left out of it to ``omissions``.

        Returns:
            its characters.
        """
        limits = self._limits()

        def blocks() -> Iterator[Block]:
            omissions.clear()
            return parse(
                file,
                _file_name(record),
                limits=limits,
                progress=lambda done: self._progress(_PARSING * done),
                omit=omissions.append,
            )

        unread: DocumentUnreadable | None = None
        try:
            characters = write_blocks(self._checked(blocks()), text)
        except DocumentUnreadable as error:
            if error.problem not in _OF_PICTURES:
                raise
            unread, characters = error, 0
        if unread is None and not any(each.code == "picture_pages" for each in omissions):
            return characters
        texts = self._picture_texts(file, record, fence)
        if not texts:
            if unread is not None:
                raise unread
            return characters
        text.seek(0)
        text.truncate()
        readable = (block for block in blocks()) if unread is None else iter(())
        characters = write_blocks(self._checked(with_pages(readable, texts, limits)), text)
        left = [_without(each, len(texts)) for each in omissions]
        omissions[:] = [each for each in left if each.count > 0]
        return characters

    def _picture_texts(self, file: IO[bytes], record: Document, fence: Fence) -> dict[int, str]:
        """Return the texts of pages that are pictures, if the user's plan has a model read them."""
        scope, documents = self.run.scope, self.documents
        if scope.uid is None:
            return {}
        plan = documents.plans[documents.plan_of(self.run.services.store.get(scope.root))]
        if not plan.picture_pages:
            return {}
        path = f"{record.path}/{record.data['hash']}"
        files = documents.files(scope)
        texts, cost = read_pictures(
            self.run, file, _file_name(record), files, path, fence, self._limits(), plan.picture_pages
        )
        self._spent += cost
        return texts

    def _with_attachments(self, mail: IO[bytes], omissions: list[Omission]) -> list[Omission]:
        """Add a mail's attachments as documents of their own, and delete those that the mail has no more.

        Returns:
            ``omissions``, with the attachments that were not added instead of all.
        """
        record = self._record()
        parts: list[str] = []
        if level_of(record) < _LEVELS and any(each.code == _ATTACHMENTS for each in omissions):
            left_out: list[Omission] = []
            parts, refused = self._take_out(record, mail, left_out)
            refused += sum(each.count for each in left_out)
            omissions = [each for each in omissions if each.code != _ATTACHMENTS]
            omissions += [Omission(_ATTACHMENTS, refused, refused + len(parts))] if refused else []
        old = record.data.get("parts", [])
        if old or parts:
            self._drop_parts(set(old) - set(parts))
            self._write(parts=parts)
        return omissions

    def _take_out(self, record: Document, mail: IO[bytes], left_out: list[Omission]) -> tuple[list[str], int]:
        """Return the ids of the attachments that were added, and the number of those for which there is no room."""
        parts: list[str] = []
        refused = 0
        names: Counter[str] = Counter()
        for name, content in extracts(mail, _file_name(record), limits=self._limits(), omit=left_out.append):
            self.run.check()
            source = DocumentSource("attachment", name, part=(self.document, names[name]))
            names[name] += 1
            try:
                self.documents.add(self.run.scope, source, content, whole=record)
            except (TooMany, TooLarge):
                refused += 1
            else:
                parts.append(source.id)
        return parts, refused

    def _drop_parts(self, parts: Iterable[str]) -> None:
        for part in parts:
            with suppress(NotFound):
                self.documents.delete_any(self.run.scope, part)

    def _checked(self, blocks: Iterator[Any]) -> Iterator[Any]:
        for block in blocks:
            self.run.check()
            yield block

    def _limits(self) -> ParseLimits:
        policy = self.documents.policy
        return ParseLimits(file_bytes=policy.file_bytes, text_characters=policy.text_characters)

    def _index(self, record: Document) -> int:
        """Index the document in every version that has to hold it, also in one that was started meanwhile.

        Returns:
            the number of its chunks.
        """
        chunks = int(record.data.get("chunks", 0))
        while True:
            # Read the versions once more after the record says "ready". A version that is started later than that
            # read sees the document as ready, and whoever builds the version takes care of it.
            state = self.documents.versions.ensure_state()
            missing = [version for version in state.written if not is_complete(record, version)]
            if not missing and record.data["status"] == "ready":
                return chunks
            built: dict[str, Any] = {}
            for version in missing:
                if built:
                    record = self._write(**built)
                count, mark = self._build(record, version)
                chunks = count if version == state.current else chunks
                built = {f"indexed.{version.id}": mark, "cost_micro_usd": self._spent}
            self._remove_stale(record)
            ready = {"status": "ready", "progress": 1.0, "error": None, "chunks": chunks, "shown": None, "stale": []}
            record = self._write(**built, **ready)
            if any(not is_complete(record, version) for version in missing):
                return chunks  # its model is not set up here; the next upload makes the vectors

    def _remove_stale(self, record: Document) -> None:
        """Remove the files of the contents that this one has replaced."""
        stale = [digest for digest in record.data.get("stale", ()) if digest != record.data["hash"]]
        if stale:
            self.documents.files(self.run.scope).delete(record.path, _FilesOf(stale), self.documents.fence(record))

    def _build(self, record: Document, version: Version) -> tuple[int, str]:
        scope, digest = self.run.scope, record.data["hash"]
        engine = self.documents.engine(version)
        characters = max(1, int(record.data["characters"]))
        embed = None if engine.embedder is None else (lambda texts: self._embed(engine, texts))
        donors = () if embed is None else self.documents.same_content(scope, self.document, digest)
        if record.data["status"] != "embedding":
            record = self._write(status="embedding")
        fence = self.documents.fence(record)
        generation = record.data.get(GENERATION, "")
        count = 0
        with self.documents.files(scope).open(f"{record.path}/{digest}.text") as text:
            steps = build(
                engine,
                scope,
                self.document,
                metadata_of(record),
                read_blocks(text),
                embed,
                donors,
                generation=generation,
                fence=fence,
            )
            with closing(steps):
                for progress in steps:
                    count = progress.chunks
                    self._progress(_PARSING + (1 - _PARSING) * progress.characters / characters)
        return count, digest if engine.complete else f"{digest} words"

    def _embed(self, engine: Engine, texts: Sequence[str]) -> Sequence[Vector]:
        assert engine.embedder is not None  # noqa: S101 - callers have checked
        embedder, most = engine.embedder, engine.cost(sum(map(text_bound, texts)))
        if self.run.scope.uid is None:
            return self._embed_for_app(engine, embedder, texts, most)
        reservation = self._reserve(most, embedder.id)
        try:
            embedded = embedder.embed(texts)
        except FirelaunchError:
            if reservation is not None:
                self.run.commit(settles=[reservation])
            raise
        cost = engine.cost(embedded.tokens)
        self._spent += cost
        if reservation is not None:
            reservation.spend(embedded.as_call(embedder.id, cost, "document"))
            self._bills.append(reservation)
        vectors: Sequence[Vector] = list(embedded.vectors)
        return vectors

    def _embed_for_app(self, engine: Engine, embedder: Embedder, texts: Sequence[str], most: int) -> Sequence[Vector]:
        """Embed texts of the library, for which the app itself pays."""

        def call() -> tuple[Embedded, int]:
            embedded = embedder.embed(texts)
            return embedded, engine.cost(embedded.tokens)

        embedded = self.run.services.metering.pay_for_app(most, call)
        self._spent += engine.cost(embedded.tokens)
        return list(embedded.vectors)

    def _reserve(self, micro_usd: int, model: str) -> Reservation | None:
        """Reserve the most that embedding may cost in the user's day."""
        services, scope = self.run.services, self.run.scope
        if micro_usd == 0:
            return None
        self._calls += 1
        name = f"{self.run.id}_{self.run.attempt}_{self._calls}"
        quote = Quote(model, micro_usd)
        reservation, _ = admit(services.metering, services.admission, scope, name, (quote, quote), counted=False)
        return reservation

    def _fail(self, problem: str, message: str) -> JobDone:
        error = {"problem": problem, "message": message}
        empty = {"indexed": {}, "hash": "", "text": "", "chunks": 0, "shown": None, "stale": [], "warnings": []}
        return self._clean_up(self._write(status="failed", error=error, **empty))

    def _clean_up(self, record: Document) -> JobDone:
        """Remove all data of a document whose record says that it has failed."""
        self._drop_parts(record.data.get("parts", ()))
        self.documents.wipe(self.run.scope, self.document, record.update_time)
        return JobDone({"status": "failed", "problem": record.data["error"]["problem"]})


class _FilesOf(Container[str]):
    """The names of the files of some contents: the file itself, its text, and the texts of its pictures."""

    def __init__(self, digests: Iterable[str]) -> None:
        self._digests = frozenset(digests)

    def __contains__(self, name: object) -> bool:
        return str(name).partition(".")[0] in self._digests


def _without(omission: Omission, pages: int) -> Omission:
    """Return what is left out when a model has read so many pages that are pictures."""
    return replace(omission, count=omission.count - pages) if omission.code == "picture_pages" else omission


def _unchanged(record: Document, digest: str) -> dict[str, Any]:
    """Return the changes that keep the index entries of a document whose content is the same again."""
    shown = record.data.get("shown") or {}
    if shown.get("hash") != digest:
        return {}
    indexed = dict(shown["indexed"] or {}) if is_current_text(record.data) else {}
    return {GENERATION: shown[GENERATION], "indexed": indexed, "shown": None}


def _file_name(record: Document) -> str:
    return str(record.data["name"])


def _measure(file: IO[bytes]) -> tuple[int, str]:
    file.seek(0)
    digest = sha256()
    size = 0
    while part := file.read(1 << 20):
        size += len(part)
        digest.update(part)
    return size, digest.hexdigest()


def crawl_site(run: JobRun, payload: Crawl) -> JobDone:
    """Add the pages of a site as documents, each with a job of its own."""
    documents = run.services.documents
    added: list[str] = []
    skipped: list[dict[str, str]] = []
    stopped = None
    limits = CrawlLimits(payload.depth, payload.pages)

    def progress(fraction: float) -> None:
        run.check()
        run.progress(round(fraction * payload.pages), payload.pages, f"{len(added)} pages")

    try:
        for page in crawl(payload.url, documents.fetcher, limits, progress=progress):
            run.check()
            if not isinstance(page, WebPage):
                skipped.append({"url": page.url[:500], "reason": page.reason})
                continue
            url = page.fetched.url
            try:
                document, _ = documents.add(run.scope, DocumentSource("url", url[-200:], url), page.file)
            except TooLarge as error:
                skipped.append({"url": url[:500], "reason": error.message})
                continue
            added.append(document["id"])
    except TooMany as error:
        stopped = error.message
    except FetchRefused as error:
        stopped = error.message
    result = {"pages": len(added), "documents": added[:_LISTED], "skipped": skipped[:_LISTED], "stopped": stopped}
    return JobDone(result)
