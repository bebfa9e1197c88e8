"""Move all that an app keeps about one user to another: one pass, which may break off anywhere and be made again.

Each document moves in a commit that makes it at its new place and removes it from its old one, on condition that it has
not changed since it was read. So a pass that is begun again, or made by two workers at once, loses and doubles nothing:
it finds what is left to move. What the pass is about is what erasures and exports are about (:mod:`.kept`).

Where the target has a document of the same id, both stay: the one that moves gets an id that depends on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, Final, TypeVar

from ...chats.store import file_prefix
from ...documents.moving import DocumentMove, copy_content
from ...errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ...metering.reservations import USED, Day
from ...rag.files import CLIENTS_FOLDERS
from ...scope import Scope
from ...services.bundle import Services
from ...store.base import (
    DELETE_FIELD,
    SERVER_TIME,
    Create,
    Delete,
    Document,
    Increment,
    Query,
    Set,
    Update,
    Verify,
    Write,
)
from ...store.limits import size_of
from .. import JobRun, Postponed
from .user_data import HIDDEN, KeptDocuments, kept_elsewhere, names_user, pages

__all__ = ["UserMove"]

T = TypeVar("T")

_PAGE = 100
_BATCH_BYTES: Final = 4_000_000
"""Bytes of documents that move in one commit, which has 10 MiB at most."""

_TRIES = 8
_WAIT_SECONDS = 2.0
_SPARE_SECONDS = 60.0
"""The rest of an attempt's time in which nothing more is begun."""

_OTHERWISE = frozenset({"usage", "chats", "kept_files", "documents", "memory", "devices", "credit_entries"})
"""The collections below a user that move in ways of their own, or, as devices and credit, not at all."""

_LEFT: Final = frozenset({"device_owners", "sources"})
"""The collections that are made anew with the documents they belong to."""

_MOVED_TO = "moved_to"
"""The field of a chat that says under which id its messages move."""

_LOST_RACE = (AlreadyExists, NotFound, PreconditionFailed)


class UserMove:
    """Moves what is ``source``'s to ``target``.

    Args:
        run: the job that does it.
        services: the app's.
    """

    def __init__(self, run: JobRun, services: Services, source: Scope, target: Scope) -> None:
        self._run = run
        self._services = services
        self._store = services.store
        self._source = source
        self._target = target
        self._moved: Counter[str] = Counter()
        erasure = self._store.get(target.erasure())
        self._target_lives = Verify(target.erasure(), None if erasure is None else erasure.update_time)

    def run(self) -> dict[str, int]:
        """Move everything, and return how much of what this attempt moved.

        Raises:
            Postponed: a turn of the source is still running, or the attempt's time is over.
            Fenced: the target is being erased.
        """
        self._move_usage()
        renamed = self._open_chats()
        self._move_kept_files(renamed)
        self._move_elsewhere(renamed)
        for chat_id in list(self._store.ids(self._source.chats())):
            self._move_messages(chat_id, renamed)
        self._move_documents()
        self._move_memory()
        self._move_collections()
        self._move_clients_files()
        return dict(sorted(self._moved.items()))

    def _step(self, what: str, number: int = 1) -> None:
        self._moved[what] += number
        self._run.progress(sum(self._moved.values()), None, what)
        self._run.check()
        if self._run.seconds_left < _SPARE_SECONDS:
            raise Postponed

    def _commit(self, writes: Sequence[Write]) -> None:
        self._store.commit(writes, leaving=self._source)

    def _repeat(self, attempt: Callable[..., T], *about: Any) -> T:
        """Call ``attempt`` with ``about`` until nobody changed what it read."""
        for _ in range(_TRIES):
            try:
                return attempt(*about)
            except _LOST_RACE:
                continue
        raise Contention(retry_after=1)

    def _move_usage(self) -> None:
        """Add what the source has spent to the target's days. No turn of the source begins or settles from then on."""
        waiting = False
        for day in list(self._store.ids(f"{self._source.root}/usage")):
            waiting |= not self._repeat(self._move_day, day)
        if waiting:
            raise Postponed(retry_after=_WAIT_SECONDS)
        self._repeat(self._move_carried)

    def _move_day(self, day: str) -> bool:
        """Move one day's usage, and return False while one of its requests is running."""
        usage = self._store.get(self._source.usage(day))
        if usage is None:
            return True
        now = self._services.clock()
        if Day.of(usage).reservations(now, expired=False):
            return False
        expired = Day.of(usage).reservations(now, expired=True)
        added = _increments({name: value for name, value in usage.data.items() if not _is_of_the_moment(name)})
        added["updated_at"] = SERVER_TIME
        for name, more in (("expired_requests", len(expired)), ("expired_micro_usd", sum(expired.values()))):
            if more:
                added[name] = Increment(int(usage.data.get(name, 0)) + more)
        paid = [Set(self._target.usage(day), added, merge=True), _without(usage)]
        self._commit([*paid, *self._added_sum(self._store.get(self._source.user_sum(day)))])
        self._step("usage")
        return True

    def _move_carried(self) -> None:
        """Add what the source had spent today before an erasure, which no day's document has."""
        day = self._services.metering.today()
        erasure = self._store.get(self._source.erasure())
        carried = Day.of(None, erasure, day).carried_micro_usd
        if erasure is None or not carried:
            return
        added = Set(self._target.usage(day), {"carried_micro_usd": Increment(carried)}, merge=True)
        self._commit([added, Update(erasure.path, {USED: DELETE_FIELD}, if_updated_at=erasure.update_time)])

    def _added_sum(self, figures: Document | None) -> list[Write]:
        """Return the writes that add what the source used in a day or a month to what the target did."""
        if figures is None:
            return []
        period = str(figures.data["period"])
        facts = {"uid": self._target.uid, "period": period, "delete_at": figures.data["delete_at"]}
        path = self._target.user_sum(period)
        return [Set(path, {**facts, **_increments(figures.data)}, merge=True), _without(figures)]

    def _open_chats(self) -> dict[str, str]:
        """Make the target's chats, which are empty at first. The source's stay until their messages have moved.

        Returns:
            the new ids of chats that could not keep theirs.
        """
        renamed = {}
        for chat_id in list(self._store.ids(self._source.chats())):
            new_id = self._repeat(self._open_chat, chat_id)
            if new_id not in {None, chat_id}:
                renamed[chat_id] = new_id
        return renamed

    def _open_chat(self, chat_id: str) -> str | None:
        chat = self._store.get(self._source.chat(chat_id))
        if chat is None or _MOVED_TO in chat.data:
            return None if chat is None else str(chat.data[_MOVED_TO])
        for new_id in (chat_id, f"{chat_id[:40]}-{_mark(chat.path)}"):
            stub = Update(chat.path, {_MOVED_TO: new_id}, if_updated_at=chat.update_time)
            try:
                self._commit([Create(self._target.chat(new_id), chat.data), stub])
            except AlreadyExists:
                continue
            self._step("chats")
            return new_id
        raise PreconditionFailed(reason="both ids of a chat are taken")

    def _move_messages(self, chat_id: str, renamed: Mapping[str, str]) -> None:
        chat = self._store.get(self._source.chat(chat_id))
        if chat is None:  # what the deletion of a chat left behind
            return
        new_id = str(chat.data[_MOVED_TO])

        def path_of(message: Document) -> Iterator[str]:
            yield self._target.message(new_id, message.id)

        def with_files(message: Document) -> Mapping[str, Any]:
            files = message.data.get("files")
            if chat_id not in renamed or not files:
                return message.data
            return {**message.data, "files": [{**each, "id": _file_id(each["id"], renamed)} for each in files]}

        while page := self._store.query(Query(self._source.messages(chat_id), limit=_PAGE)):
            self._move_all(page, path_of, "messages", with_files)
        self._store.commit([Delete(chat.path)])

    def _move_kept_files(self, renamed: Mapping[str, str]) -> None:
        for file_id in list(self._store.ids(self._source.kept_files())):
            self._repeat(self._move_kept_file, file_id, renamed)

    def _move_kept_file(self, file_id: str, renamed: Mapping[str, str]) -> None:
        record = self._store.get(self._source.kept_file(file_id))
        if record is None or not record.data.get("content"):
            return None
        for path in _free(self._target.kept_files(), _file_id(file_id, renamed), record):
            copy_content(self._services.documents, self._store.scope, record, path)
            try:
                self._commit([Create(path, {**record.data, "arriving": {}}), Delete(record.path, record.update_time)])
            except AlreadyExists:
                continue
            return self._step("kept_files")
        raise PreconditionFailed(reason=f"both ids for {record.path} are taken")

    def _move_documents(self) -> None:
        services, app = self._services, self._store.scope
        move = DocumentMove(services.documents, services.jobs, app, self._store.get, self._commit)
        for document in list(self._store.ids(self._source.documents())):
            if self._repeat(move.move, self._source, self._target, document):
                self._step("documents")

    def _move_memory(self) -> None:
        self._repeat(self._add_memory)

    def _add_memory(self) -> None:
        ours, theirs = self._store.get_many([self._source.memory(), self._target.memory()])
        if ours is None:
            return
        if theirs is None:
            write: Write = Create(self._target.memory(), ours.data)
        else:
            kept = [str(note) for note in theirs.data.get("notes", [])]
            more = [str(note) for note in ours.data.get("notes", []) if note not in kept]
            write = Update(theirs.path, {"notes": [*more, *kept]}, if_updated_at=theirs.update_time)
        self._commit([write, Delete(ours.path, ours.update_time)])
        self._step("memory")

    def _move_collections(self) -> None:
        """Move the other collections below the source: the app's own, and results of jobs."""
        root = self._source.root
        for name in list(self._store.collections(root)):
            if name in _OTHERWISE or (name in HIDDEN and HIDDEN[name] is None):
                continue
            paths = iter(list(self._store.tree(f"{root}/{name}")))
            while page := list(islice(paths, _PAGE)):
                found = [document for document in self._store.get_many(page) if document is not None]
                self._move_all(found, self._places, name)

    def _places(self, document: Document) -> Iterator[str]:
        folder = document.path.rpartition("/")[0].replace(self._source.root, self._target.root, 1)
        return _free(folder, document.id, document)

    def _move_all(
        self,
        documents: Sequence[Document],
        places: Callable[[Document], Iterator[str]],
        what: str,
        changed: Callable[[Document], Mapping[str, Any]] = lambda document: document.data,
    ) -> None:
        """Move documents, several in a commit, or one after the other if one of them is in the way."""
        for batch in _batches(documents):
            writes: list[Write] = []
            for document in batch:
                writes += [Create(next(places(document)), changed(document)), _without(document)]
            try:
                self._commit(writes)
            except _LOST_RACE:
                for document in batch:
                    self._repeat(self._move_one, document.path, places, changed)
            self._step(what, len(batch))

    def _move_one(
        self,
        path: str,
        places: Callable[[Document], Iterator[str]],
        changed: Callable[[Document], Mapping[str, Any]],
    ) -> None:
        document = self._store.get(path)
        if document is None:  # another worker has moved it
            return None
        for place in places(document):
            try:
                return self._commit([Create(place, changed(document)), _without(document)])
            except AlreadyExists:
                continue
        raise PreconditionFailed(reason=f"both ids for {path} are taken")

    def _move_elsewhere(self, renamed: Mapping[str, str]) -> None:
        """Give the app's own documents on the source the target's name, once no job works for the source."""
        waiting = False
        for kept in kept_elsewhere(self._source, self._store.user_fields):
            if kept.name in _LEFT:
                continue
            if kept.name == "user_sums":
                self._move_sums(kept)
                continue
            for page in pages(self._store, kept):
                free = [document for document in page if not self._is_at_work(document)]
                waiting |= len(free) < len(page)
                self._hand_over(kept, free, renamed)
                self._step(kept.name, len(free))
        if waiting:
            raise Postponed(retry_after=_WAIT_SECONDS)

    def _move_sums(self, kept: KeptDocuments) -> None:
        def move(path: str) -> None:
            writes = self._added_sum(self._store.get(path))
            if writes:
                self._commit(writes)

        for page in pages(self._store, kept):
            for document in page:
                self._repeat(move, document.path)

    def _is_at_work(self, document: Document) -> bool:
        """Return whether a worker holds this job, if the document is one."""
        return document.data.get("state") == "running" and document.data["due_at"] > self._services.clock()

    def _hand_over(self, kept: KeptDocuments, page: Sequence[Document], renamed: Mapping[str, str]) -> None:
        named = [document for document in page if names_user(document.id, self._source)]
        for document in named:
            self._repeat(self._rename, kept, document.path)
        others = [document for document in page if document not in named]

        def write(document: Document) -> Write:
            chat = renamed.get(str(document.data.get("chat_id")))
            changes = {kept.field: self._target.uid, **({} if chat is None else {"chat_id": chat})}
            return Update(document.path, changes, if_updated_at=document.update_time)

        def one(path: str) -> None:
            document = self._store.get(path)
            if document is not None and document.data.get(kept.field) == self._source.uid:
                self._commit([write(document), self._target_lives])

        for some in _batches(others):
            try:
                self._commit([*map(write, some), self._target_lives])
            except _LOST_RACE:
                for document in some:
                    self._repeat(one, document.path)

    def _rename(self, kept: KeptDocuments, path: str) -> None:
        """Give a document whose id names the source one that names the target."""
        document = self._store.get(path)
        if document is None or document.data.get(kept.field) != self._source.uid:
            return None
        new_id = document.id.replace(str(self._source.uid), str(self._target.uid))
        data = {**document.data, kept.field: self._target.uid}
        for place in _free(kept.query.collection, new_id, document):
            try:
                return self._commit([Create(place, data), _without(document)])
            except AlreadyExists:
                continue
        raise PreconditionFailed(reason=f"both ids for {path} are taken")

    def _move_clients_files(self) -> None:
        files = self._services.documents.files(self._store.scope)
        for folder in CLIENTS_FOLDERS:
            for name in list(files.names(f"{self._source.root}/{folder}")):
                source, target = f"{self._source.root}/{folder}/{name}", f"{self._target.root}/{folder}"
                taken = files.has(f"{target}/{name}")
                files.copy(source, f"{target}/{_mark(source)} {name}" if taken else f"{target}/{name}")
                self._step(folder)


def _is_of_the_moment(name: str) -> bool:
    return name.startswith("minute") or name in {"reservations", "updated_at"}


def _increments(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers in ``data`` as what is to be added to another document's.

    Maps without numbers are left out: a merge of an empty map would empty the other document's.
    """
    added = {
        name: _increments(value) if isinstance(value, Mapping) else Increment(value)
        for name, value in data.items()
        if type(value) is int or isinstance(value, Mapping)
    }
    return {name: value for name, value in added.items() if value}


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Yield the documents in groups that fit into a commit each."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        more = size_of(document.path, document.data)
        if batch and size + more > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += more
    if batch:
        yield batch


def _without(document: Document) -> Write:
    return Delete(document.path, if_updated_at=document.update_time)


def _free(folder: str, usual: str, document: Document) -> Iterator[str]:
    """Yield the paths that a document may move to: with its id, and with one that no other document has."""
    yield f"{folder}/{usual}"
    yield f"{folder}/{usual[:300]}-{_mark(document.path)}"


def _mark(path: str) -> str:
    return sha256(path.encode()).hexdigest()[:12]


def _file_id(file_id: str, renamed: Mapping[str, str]) -> str:
    """Return the id of a chat's file in a chat that could not keep its id. Those of other files stay."""
    for old, new in renamed.items():
        prefix = file_prefix(old)
        if file_id.startswith(prefix):
            return file_prefix(new) + file_id.removeprefix(prefix)
    return file_id
