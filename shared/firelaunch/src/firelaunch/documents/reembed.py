"""Re-embed documents: build a second index version from stored text beside the one in use, then switch to it.

The work may be killed at any point and started again. Several processes may share it, each with a range of the
documents. A note is stored before each document is written. So a later process finds work that broke off: a document
half written, or one that was deleted meanwhile. docs/adr explains why a switch misses no document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import Conflict, Fenced, ModelRefused, NotFound, PreconditionFailed, SettingsError
from ..llm.types import text_bound
from ..metering.reservations import Metering
from ..rag.index.base import GENERATION
from ..rag.versions import State, Version
from ..scope import Scope
from ..store.base import DELETE_FIELD, Delete, Document, Query, Set, Update
from ..store.fence import Fence
from ..store.passes import PASS_PAGE, WHOLE, Share, pages, rewrite
from ..store.scoped import ScopedStore
from .catalog import Documents, is_complete, metadata_of

if TYPE_CHECKING:
    from ..rag.embed.base import Embedded
    from ..rag.index.base import Vector

__all__ = ["Reembedding", "Survey"]

_CHARACTERS_A_TOKEN = 3
"""Characters per token, as :func:`firelaunch.rag.embed.base.estimate` counts: rather too many tokens than too few."""

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Survey:
    """The work to do: the ready documents, those of them to build, their characters, and the estimated cost.

    The counts include documents of users and of the library.
    """

    documents: int
    missing: int
    characters: int
    tokens: int
    micro_usd: int


@dataclass(slots=True)
class Reembedding:
    """The re-embedding of one app's documents.

    Args:
        store, documents, metering: those of the app, whose budget pays.

    Attributes:
        target: the version to build, which the settings ask for.
        micro_usd: the micro-dollars that embedding has cost so far in this process.
        refused: the documents that could not be built, each with its reason.
    """

    store: ScopedStore
    documents: Documents
    metering: Metering
    target: Version = field(init=False)
    micro_usd: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = self.documents.versions.configured

    def survey(self, share: Share = WHOLE) -> Survey:
        """Count the work to do. This reads each record of the share, and no text."""
        documents = missing = characters = 0
        for _, _, record in self._records(share):
            if record is None or record.data.get("status") != "ready":
                continue
            documents += 1
            if not is_complete(record, self.target):
                missing += 1
                characters += int(record.data.get("characters", 0))
        # Each chunk repeats the end of the one before.
        overlap = self.target.chunk_overlap / max(1, self.target.chunk_tokens - self.target.chunk_overlap)
        tokens = 0 if self.target.embedder == "none" else round(characters * (1 + overlap) / _CHARACTERS_A_TOKEN)
        cost = self.documents.engine(self.target).cost(tokens) if tokens else 0
        return Survey(documents, missing, characters, tokens, cost)

    def begin(self) -> State:
        """Record that the version is being built. From now on uploads are indexed in both versions.

        Raises:
            SettingsError: the version's embedding model is not set up in this process.
            Conflict: another version is being built.
        """
        if not self.documents.engine(self.target).complete:
            raise SettingsError(
                f"index.embedder is {self.target.embedder!r}, which is not set up here: set OPENAI_API_KEY for openai, "
                "and run in cloud mode for vertex."
            )
        while True:
            state = self.documents.versions.ensure_state()
            if self.target in state.written:
                return state
            if state.building is not None:
                raise Conflict(
                    "Another index version is being built. Finish it with the settings that it was begun with, or give "
                    "it up with --abandon."
                )
            if self.target not in state.old:
                # Work that was still under way when the version was last dropped may have left entries.
                self._forget(self.target)
            self._change(state, state.current, self.target, [old for old in state.old if old != self.target])

    def build(self, share: Share = WHOLE, check: Check = lambda: None) -> Iterator[int]:
        """Build the missing documents, and yield the number of finished or refused ones after each of them.

        Args:
            check: is called between steps. Its error ends the work, which you can continue later.

        Raises:
            IndexFailed, ModelError, StoreError: the next try goes on from there.
        """
        done = 0
        for key, scope, document in self._under_way(share):
            self._build(key, scope, document, check, unfinished=True)
        for key, scope, record in self._records(share):
            if record is None or record.data.get("status") != "ready" or is_complete(record, self.target):
                continue
            self._build(key, scope, record.id, check)
            done += 1
            yield done

    def waits(self, share: Share = WHOLE) -> bool:
        """Return whether :meth:`build` has to come back to documents, because their own jobs are working on them."""
        return next(self._under_way(share), None) is not None

    def switch(self) -> bool:
        """Use the version for searches, if it holds every document.

        Returns:
            whether the version is in use now. It is not while another process has not finished its share.
        """
        if self.waits() or self.survey().missing:
            return False
        while True:
            state = self.documents.versions.ensure_state()
            if state.current == self.target:
                return True
            if state.building != self.target:
                return False
            self._change(state, self.target, None, [*state.old, state.current])

    def drop_old(self) -> int:
        """Remove the versions that were in use before.

        Returns:
            the number of versions removed.
        """
        state = self.documents.versions.ensure_state()
        for version in state.old:
            self._forget(version)
        if state.old and not self._change(state, state.current, state.building, []):
            raise Conflict("Another process has changed the index versions. Try again.")
        return len(state.old)

    def abandon(self) -> bool:
        """Give up the version that is being built.

        Returns:
            whether a version was being built.
        """
        state = self.documents.versions.ensure_state()
        if state.building is None:
            return False
        if not self._change(state, state.current, None, state.old):
            raise Conflict("Another process has changed the index versions. Try again.")
        self._forget(state.building)
        for key, _, _ in self._under_way(WHOLE):
            self.store.commit([Delete(self.store.scope.under_way(key))])
        return True

    def _change(self, state: State, current: Version, building: Version | None, old: Sequence[Version]) -> bool:
        data = {
            "current": asdict(current),
            "building": None if building is None else asdict(building),
            "old": [asdict(version) for version in old],
        }
        try:
            self.store.commit([Update(self.store.scope.index_state(), data, if_updated_at=state.update_time)])
        except PreconditionFailed:
            return False
        return True

    def _build(self, key: str, scope: Scope, document: str, check: Check, *, unfinished: bool = False) -> None:  # noqa: C901 - the ways in which a document may have changed meanwhile
        """Build one document from its text, and repeat that until its record has not changed in the meantime.

        Args:
            unfinished: an earlier try may have stopped half-way, so don't trust the record on this version.
        """
        note = self.store.scope.under_way(key)
        self.store.commit([Set(note, {"uid": scope.uid, "document": document})])
        while True:
            check()
            record = self.store.get(scope.document(document))
            if record is None:
                if not self._remove_entries(scope, document, None):
                    continue
                break
            if record.data.get("status") == "deleting":
                self.documents.finish_deletion(scope, document)
                continue
            if record.data.get("status") != "ready":
                if unfinished and not self._remove_failed(scope, record):
                    return  # the document's own job is writing too; the note brings us back after it has ended
                break
            if is_complete(record, self.target) and not unfinished:
                break
            unfinished = True
            try:
                self._write(scope, record, check)
                mark = {f"indexed.{self.target.id}": record.data["hash"]}
                self.store.commit([Update(record.path, mark, if_updated_at=record.update_time), Delete(note)])
            except (PreconditionFailed, Fenced):
                continue
            except (NotFound, ModelRefused) as error:
                if self.store.get(record.path) != record:
                    continue
                self.refused.append((record.path, error.reason or error.message))
                break
            return
        self.store.commit([Delete(note)])

    def _remove_failed(self, scope: Scope, record: Document) -> bool:
        """Remove a failed document from the version. Return False if the document is still being worked on."""
        if self.documents.get(scope, record.id)["status"] != "failed":
            return False
        if not self._remove_entries(scope, record.id, record.update_time):
            return False
        removed = {f"indexed.{self.target.id}": DELETE_FIELD}
        try:
            self.store.commit([Update(record.path, removed, if_updated_at=record.update_time)])
        except (PreconditionFailed, NotFound):
            return False
        return True

    def _remove_entries(self, scope: Scope, document: str, read_at: datetime | None) -> bool:
        """Remove a document's entries from the version. Return False if the record has changed since it was read."""
        fence = Fence(self.store, scope.document(document), read_at)
        try:
            self.documents.engine(self.target).index.delete(scope, document, version=self.target.id, fence=fence)
        except Fenced:
            return False
        return True

    def _write(self, scope: Scope, record: Document, check: Check) -> None:
        from ..rag.pipeline import build
        from ..rag.stored_text import read_blocks

        engine = self.documents.engine(self.target)

        def embed(texts: Sequence[str]) -> Sequence[Vector]:
            assert engine.embedder is not None  # noqa: S101 - see below
            embedder, most = engine.embedder, engine.cost(sum(map(text_bound, texts)))

            def call() -> tuple[Embedded, int]:
                embedded = embedder.embed(texts)
                return embedded, engine.cost(embedded.tokens)

            embedded = self.metering.pay_for_app(most, call)
            self.micro_usd += engine.cost(embedded.tokens)
            return list(embedded.vectors)

        with self.documents.files(scope).open(f"{record.path}/{record.data['hash']}.text") as text:
            embedding = None if engine.embedder is None else embed
            steps = build(
                engine,
                scope,
                record.id,
                metadata_of(record),
                read_blocks(text),
                embedding,
                generation=record.data.get(GENERATION, ""),
                fence=self.documents.fence(record),
            )
            with closing(steps):
                for _ in steps:
                    check()

    def _forget(self, version: Version) -> None:
        """Empty a version, and remove it from the records that say they are indexed in it."""
        self.documents.engine(version).index.drop(version.id)
        removed = {f"indexed.{version.id}": DELETE_FIELD}
        for _, _, record in self._records(WHOLE):
            if record is not None:
                rewrite(self.store, record, lambda now: removed if version.id in now.data.get("indexed", {}) else None)

    def _records(self, share: Share) -> Iterator[tuple[str, Scope, Document | None]]:
        for page in self._entries(self._sources, share):
            records = self.store.get_many([scope.document(document) for _, scope, document in page])
            for (key, scope, _), record in zip(page, records, strict=True):
                yield key, scope, record

    def _under_way(self, share: Share) -> Iterator[tuple[str, Scope, str]]:
        for page in self._entries(self._notes, share):
            yield from page

    def _sources(self, after: str | None) -> list[Document]:
        return self.store.query(Query(self.store.scope.sources(), limit=PASS_PAGE, after=(after,)))

    def _notes(self, after: str | None) -> list[Document]:
        return self.store.query(Query(self.store.scope.all_under_way(), limit=PASS_PAGE, after=(after,)))

    def _entries(
        self, read: Callable[[str | None], list[Document]], share: Share
    ) -> Iterator[list[tuple[str, Scope, str]]]:
        """Yield pages of the keys, scopes and documents of a share."""
        for page in pages(read, share.first):
            # The state of the index is in the same collection as the notes, and names no document.
            in_share = [entry for entry in page if "document" in entry.data and share.holds(entry.id)]
            if in_share:
                yield [(entry.id, self._scope(entry.data["uid"]), entry.data["document"]) for entry in in_share]
            if len(in_share) < len(page):
                return

    def _scope(self, uid: str | None) -> Scope:
        app = self.store.scope
        return Scope(app.app_id) if uid is None else app.of(uid)
