"""Re-embedding: a second index version is built beside the one in use, from stored text, and then switched to.

It may be killed at any point and begun again, and several processes may share the work, each a range of the documents.
What is being written is noted beforehand, so that whoever goes on finds what was broken off: a document half written,
or one that was deleted meanwhile. docs/adr says how a switch misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import Conflict, Fenced, ModelRefused, NotFound, PreconditionFailed, SettingsError
from ..rag.index.base import GENERATION
from ..rag.versions import State, Version
from ..scope import Scope
from ..store.base import DELETE_FIELD, Delete, Document, Query, Set, Update
from ..store.fence import Fence
from ..store.scoped import ScopedStore
from .catalog import Documents, is_complete

if TYPE_CHECKING:
    from ..rag.index.base import Vector

__all__ = ["ReembedShard", "Reembedding", "Survey"]

_PAGE = 200
"""Documents that are read at a time."""

_CHARACTERS_A_TOKEN = 3
"""As :func:`firelaunch.rag.embed.base.estimate` counts: rather too many tokens than too few."""

_KEYS = 1 << 32
_HEX = 8

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ReembedShard:
    """One share of the documents: ``number`` of ``of``, from 0."""

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise ValueError(f"there is no shard {self.number} of {self.of}")

    @property
    def first(self) -> str:
        """What all of its keys come after."""
        return f"{_KEYS * self.number // self.of:0{_HEX}x}"

    def holds(self, key: str) -> bool:
        """Whether a document's key is in it."""
        return _KEYS * self.number // self.of <= int(key[:_HEX], 16) < _KEYS * (self.number + 1) // self.of


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to do: documents that are ready, those of them to build, their characters, and about what it costs.

    Documents of users and of the library are counted alike.
    """

    documents: int
    missing: int
    characters: int
    tokens: int
    micro_usd: int


@dataclass(slots=True)
class Reembedding:
    """One app's.

    Args:
        store, documents: the app's own.

    Attributes:
        target: the version that the settings ask for, which is to be built.
        micro_usd: what embedding has cost so far, here.
        refused: documents that could not be built, each with its reason.
    """

    store: ScopedStore
    documents: Documents
    target: Version = field(init=False)
    micro_usd: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = self.documents.versions.wanted

    def survey(self, shard: ReembedShard = ReembedShard()) -> Survey:
        """Count what there is to do. Reads each record of the shard, and no text."""
        documents = missing = characters = 0
        for _, _, record in self._records(shard):
            if record is None or record.data.get("status") != "ready":
                continue
            documents += 1
            if not is_complete(record, self.target):
                missing += 1
                characters += int(record.data.get("characters", 0))
        # Each chunk repeats some of the one before.
        twice = self.target.chunk_overlap / max(1, self.target.chunk_tokens - self.target.chunk_overlap)
        tokens = 0 if self.target.embedder == "none" else round(characters * (1 + twice) / _CHARACTERS_A_TOKEN)
        cost = self.documents.engine(self.target).cost(tokens) if tokens else 0
        return Survey(documents, missing, characters, tokens, cost)

    def begin(self) -> State:
        """Say that the version is being built; from now on what is uploaded lands in both.

        Raises:
            SettingsError: its embedding model is not set up in this process.
            Conflict: another version is being built.
        """
        if not self.documents.engine(self.target).complete:
            raise SettingsError(
                f"index.embedder is {self.target.embedder!r}, which is not set up here: set OPENAI_API_KEY for openai, "
                "and run in cloud mode for vertex."
            )
        while True:
            state = self.documents.versions.begun()
            if self.target in state.written:
                return state
            if state.building is not None:
                raise Conflict(
                    "Another index version is being built. Finish it with the settings that it was begun with, or give "
                    "it up with --abandon."
                )
            if self.target not in state.old:
                # Work that was still under way when it was dropped may have left something.
                self._forget(self.target)
            self._change(state, state.current, self.target, [each for each in state.old if each != self.target])

    def build(self, shard: ReembedShard = ReembedShard(), check: Check = lambda: None) -> Iterator[int]:
        """Build what is missing; gives how many documents are done each time that one is, or that is refused.

        Args:
            check: called between steps; what it raises ends the work, which can be gone on with later.

        Raises:
            IndexFailed, ModelError, StoreError: the next try goes on from there.
        """
        done = 0
        for key, scope, document in self._under_way(shard):
            self._build(key, scope, document, check, again=True)
        for key, scope, record in self._records(shard):
            if record is None or record.data.get("status") != "ready" or is_complete(record, self.target):
                continue
            self._build(key, scope, record.id, check)
            done += 1
            yield done

    def waits(self, shard: ReembedShard = ReembedShard()) -> bool:
        """Whether there are documents that :meth:`build` has to come back to, since their own jobs are at them."""
        return next(self._under_way(shard), None) is not None

    def switch(self) -> bool:
        """Have the version searched, if it holds every document.

        Returns:
            whether it is searched now; not so while another process has not done its share.
        """
        if self.waits() or self.survey().missing:
            return False
        while True:
            state = self.documents.versions.begun()
            if state.current == self.target:
                return True
            if state.building != self.target:
                return False
            self._change(state, self.target, None, [*state.old, state.current])

    def drop_old(self) -> int:
        """Remove the versions that were in use before.

        Returns:
            how many they were.
        """
        state = self.documents.versions.begun()
        for version in state.old:
            self._forget(version)
        if state.old and not self._change(state, state.current, state.building, []):
            raise Conflict("Another process has changed the index versions. Try again.")
        return len(state.old)

    def abandon(self) -> bool:
        """Give up the version that is being built.

        Returns:
            whether there was one.
        """
        state = self.documents.versions.begun()
        if state.building is None:
            return False
        if not self._change(state, state.current, None, state.old):
            raise Conflict("Another process has changed the index versions. Try again.")
        self._forget(state.building)
        for key, _, _ in self._under_way(ReembedShard()):
            self.store.commit([Delete(self.store.scope.under_way(key))])
        return True

    def _change(self, state: State, current: Version, building: Version | None, old: Sequence[Version]) -> bool:
        data = {
            "current": asdict(current),
            "building": None if building is None else asdict(building),
            "old": [asdict(each) for each in old],
        }
        try:
            self.store.commit([Update(self.store.scope.index_state(), data, if_updated_at=state.update_time)])
        except PreconditionFailed:
            return False
        return True

    def _build(self, key: str, scope: Scope, document: str, check: Check, *, again: bool = False) -> None:
        """Build one document from its text, until its record is as it was when that was read.

        Args:
            again: someone was at it already, so what its record says of the version may not be so.
        """
        note = self.store.scope.under_way(key)
        self.store.commit([Set(note, {"uid": scope.uid, "document": document})])
        while True:
            check()
            record = self.store.get(scope.document(document))
            if record is None:
                if not self._take_out(scope, document, None):
                    continue
                break
            if record.data.get("status") == "deleting":
                self.documents.finish_deletion(scope, document)
                continue
            if record.data.get("status") != "ready":
                if again and not self._left(scope, record):
                    return  # its own job writes as well; the note brings us back when that has ended
                break
            if is_complete(record, self.target) and not again:
                break
            again = True
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

    def _left(self, scope: Scope, record: Document) -> bool:
        """Take out a document that was given up; False where there is still work on it."""
        if self.documents.get(scope, record.id)["status"] != "failed":
            return False
        if not self._take_out(scope, record.id, record.update_time):
            return False
        gone = {f"indexed.{self.target.id}": DELETE_FIELD}
        try:
            self.store.commit([Update(record.path, gone, if_updated_at=record.update_time)])
        except (PreconditionFailed, NotFound):
            return False
        return True

    def _take_out(self, scope: Scope, document: str, read_at: datetime | None) -> bool:
        """Remove what the version holds of a document; False if its record is not as it was read any more."""
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
            made = engine.embedder.embed(texts)
            self.micro_usd += engine.cost(made.tokens)
            return list(made.vectors)

        about = {"title": record.data["name"], **({"url": record.data["url"]} if record.data["url"] else {})}
        with self.documents.files(scope).open(f"{record.path}/{record.data['hash']}.text") as text:
            embedding = None if engine.embedder is None else embed
            steps = build(
                engine,
                scope,
                record.id,
                about,
                read_blocks(text),
                embedding,
                generation=record.data.get(GENERATION, ""),
                fence=self.documents.fence(record),
            )
            with closing(steps):
                for _ in steps:
                    check()

    def _forget(self, version: Version) -> None:
        """Empty a version, and have no record say that it is held there."""
        self.documents.engine(version).index.drop(version.id)
        for _, scope, record in self._records(ReembedShard()):
            while record is not None and version.id in record.data.get("indexed", {}):
                try:
                    gone = {f"indexed.{version.id}": DELETE_FIELD}
                    self.store.commit([Update(record.path, gone, if_updated_at=record.update_time)])
                except (PreconditionFailed, NotFound):
                    record = self.store.get(scope.document(record.id))
                else:
                    break

    def _records(self, shard: ReembedShard) -> Iterator[tuple[str, Scope, Document | None]]:
        for page in _pages(self._sources, shard):
            named = [(key, self._scope(uid), document) for key, uid, document in page]
            found = self.store.get_many([scope.document(document) for _, scope, document in named])
            for (key, scope, _), record in zip(named, found, strict=True):
                yield key, scope, record

    def _under_way(self, shard: ReembedShard) -> Iterator[tuple[str, Scope, str]]:
        for page in _pages(self._notes, shard):
            for key, uid, document in page:
                yield key, self._scope(uid), document

    def _sources(self, after: str) -> list[Document]:
        return self.store.query(Query(self.store.scope.sources(), limit=_PAGE, after=(after,)))

    def _notes(self, after: str) -> list[Document]:
        return self.store.query(Query(self.store.scope.all_under_way(), limit=_PAGE, after=(after,)))

    def _scope(self, uid: str | None) -> Scope:
        app = self.store.scope
        return Scope(app.app_id) if uid is None else app.of(uid)


def _pages(read: Callable[[str], list[Document]], shard: ReembedShard) -> Iterator[list[tuple[str, str | None, str]]]:
    """What is named in a shard: keys, users (None for the library) and documents."""
    last = shard.first
    while found := read(last):
        # Beside the notes lies the state of the index, which names no document.
        named = [each for each in found if "document" in each.data and shard.holds(each.id)]
        if named:
            yield [(each.id, each.data["uid"], each.data["document"]) for each in named]
        if len(named) < len(found) or len(found) < _PAGE:
            return
        last = found[-1].id
