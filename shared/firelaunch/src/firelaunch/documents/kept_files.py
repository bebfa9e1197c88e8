"""Files that an app keeps of its own, for a user or for the app: pictures, reports, recordings.

A file has a record, ``{scope}/kept_files/{id}``, and its content lies below the same path in the app's part of the
bucket, under a random name that the record knows. So new content replaces the old one at once, and what a broken-off
write left behind is known too:

1. The record announces the name of the content that is about to arrive. An erasure that has begun refuses this.
2. The content is stored, if the record still has its name (:class:`~firelaunch.store.fence.Fence`).
3. The record takes the content as the file's, and what it replaces is removed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from typing import IO, Any, Final, TypeVar

from ..errors import BadRequest, Conflict, Fenced, InvalidId, NotFound, PreconditionFailed, TooLarge, size_text
from ..metering.retries import Retries
from ..paging import Page, page_after, page_cursor
from ..rag.files import FilePieces, ScopedFiles
from ..scope import Scope
from ..store.base import Create, Delete, Document, Order, Query, Update
from ..store.fence import Fence
from ..store.guard import Guard
from ..store.scoped import ScopedStore

__all__ = ["KeptFile", "KeptFileTraces", "KeptFiles"]

T = TypeVar("T")

_NEWEST = (Order("updated_at", descending=True),)
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_OBJECT_BYTES: Final = 1024
"""Bytes of an object's whole name in UTF-8 (https://cloud.google.com/storage/docs/objects#naming)."""

_NAME_BYTES: Final = 33
"""Bytes of a content's name, with the slash before it."""

_ABANDONED_AFTER: Final = timedelta(hours=12)
"""The age at which content that was announced and never arrived is given up."""

_DELETED: Final = "This file was deleted while its content arrived."

_TRIES = 5
"""Tries to read a file whose content is replaced meanwhile."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that an app keeps.

    Attributes:
        id: the id that the app gave it.
        content_type: as in "image/png".
        bytes: the size of the content.
        created_at, updated_at: when it was first kept, and when its content was last replaced.
        version: changes with the content.
    """

    id: str
    content_type: str
    bytes: int
    created_at: datetime
    updated_at: datetime
    version: str
    _path: str = field(repr=False)

    @classmethod
    def _of(cls, record: Document | None) -> KeptFile | None:
        if record is None or not record.data.get("content"):
            return None
        data, version = record.data, str(record.data["content"])
        return cls(
            record.id,
            str(data["content_type"]),
            int(data["bytes"]),
            data["created_at"],
            data["updated_at"],
            version,
            f"{record.path}/{version}",
        )


class KeptFiles:
    """The files that an app keeps for one scope: a user, or the app.

    Erasing a user removes the user's files, and an export has them. Nothing removes the app's but :meth:`delete`.

    Args:
        most: the most bytes of a file, if :meth:`put` is given no other number.

    Every method raises StoreError if the database or the files cannot be reached, and InvalidId for an id that is no
    record's id, or is too long for an object's name in Cloud Storage.
    """

    def __init__(
        self,
        store: ScopedStore,
        files: ScopedFiles,
        scope: Scope,
        retries: Retries,
        clock: Callable[[], datetime],
        most: int,
    ) -> None:
        self._store = store
        self._files = files
        self._scope = Scope.plain(scope)
        self._retries = retries
        self._clock = clock
        self._most = most

    def within(self, scope: Scope) -> KeptFiles:
        """Return the files of ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        store, files = self._store.within(scope), self._files.within(scope)
        return KeptFiles(store, files, scope, self._retries, self._clock, self._most)

    def for_member(self, guard: Guard) -> KeptFiles:
        """Return the files of a group for one member's request.

        Args:
            guard: the membership, on which each access to the files' records depends.
        """
        store = self._store.within(self._store.scope, guard)
        return KeptFiles(store, self._files, self._scope, self._retries, self._clock, self._most)

    def put(self, id: str, content: bytes | IO[bytes], content_type: str, *, most: int | None = None) -> KeptFile:  # noqa: A002
        """Keep a file, completely or not at all. It replaces the file that has this id.

        Args:
            content: the bytes, or a file that is read once, in pieces. Errors of its ``read`` pass through.
            content_type: as in "image/png". Take only types that you name: nothing looks at the content.
            most: the most bytes; ``documents.file_bytes`` of the settings if left out.

        Raises:
            TooLarge: the content has more bytes.
            BadRequest: the content type is none.
            Conflict: the file was deleted while its content arrived.
        """
        if not _TYPE.fullmatch(content_type):
            raise BadRequest("content_type: name a type such as image/png.")
        path, name = self._path(id), token_hex(16)
        measured = _Measured(content, self._most if most is None else most)
        fence = self._retries.run(path, lambda: self._announce(path, name))
        try:
            self._files.put(f"{path}/{name}", measured, fence)  # type: ignore[arg-type]  # it is only read
        except BaseException as error:
            self._retries.run(path, lambda: self._take(path, name, {}))
            if isinstance(error, Fenced):
                raise Conflict(_DELETED) from None
            raise
        facts = {"content": name, "content_type": content_type, "bytes": measured.size}
        file = self._retries.run(path, lambda: self._take(path, name, facts))
        if file is None:
            raise Conflict(_DELETED)
        return file

    def get(self, id: str) -> KeptFile:  # noqa: A002
        """Return what there is to know about a file.

        Raises:
            NotFound: there is no file with ``id``.
        """
        file = self.find(id)
        if file is None:
            raise NotFound
        return file

    def find(self, id: str) -> KeptFile | None:  # noqa: A002
        """Return what there is to know about a file, or None if there is none with ``id``."""
        return KeptFile._of(self._store.get(self._path(id)))

    def list(self, limit: int = 50, cursor: str | None = None) -> Page[KeptFile]:
        """Return a page of the files, those that changed last first.

        Raises:
            InvalidCursor: ``cursor`` is not one of a page before.
        """
        query = Query(self._scope.kept_files(), order=_NEWEST, limit=limit + 1, after=page_after(cursor))
        records = self._store.query(query)
        files = [file for record in records[:limit] if (file := KeptFile._of(record)) is not None]
        return Page(files, page_cursor(records, limit, "updated_at"))

    def following(self, id: str, limit: int) -> Sequence[KeptFile]:  # noqa: A002
        """Return the files whose ids come after ``id``, in the order of their ids."""
        records = self._store.query(Query(self._scope.kept_files(), limit=limit, after=[id]))
        return [file for record in records if (file := KeptFile._of(record)) is not None]

    def open(self, id: str) -> IO[bytes]:  # noqa: A002
        """Return a file's content, open for reading. Close it.

        Raises:
            NotFound: there is no file with ``id``.
        """
        return self._read(id, lambda file: self._files.open(file._path))[1]

    def read(self, id: str) -> tuple[KeptFile, Iterator[bytes]]:  # noqa: A002
        """Return a file and its content in pieces of a megabyte at most, without keeping more of it in memory.

        The pieces can ``seek`` to a byte before the first one is read.

        Raises:
            NotFound: there is no file with ``id``.
        """
        return self._read(id, lambda file: FilePieces(lambda start: self._files.pieces(file._path, start)))

    def delete(self, id: str) -> None:  # noqa: A002
        """Delete a file. Nothing happens if there is none with ``id``. Content that is still arriving is refused."""
        path = self._path(id)
        at = self._retries.run(path, lambda: self._empty(path))
        if at is not None:
            # A file that is put meanwhile has changed the record, and keeps what is its own.
            with suppress(Fenced, PreconditionFailed, NotFound):
                self._files.delete(path, fence=Fence(self._store, path, at))
                self._store.commit([Delete(path, at)])

    def _path(self, file_id: str) -> str:
        path = self._scope.kept_file(file_id)
        if len(path.encode()) + _NAME_BYTES > _OBJECT_BYTES:
            raise InvalidId("That file's id is too long.")
        return path

    def _read(self, file_id: str, read: Callable[[KeptFile], T]) -> tuple[KeptFile, T]:
        for _ in range(_TRIES - 1):
            file = self.get(file_id)
            with suppress(NotFound):  # its content was replaced since the record was read
                return file, read(file)
        file = self.get(file_id)
        return file, read(file)

    def _announce(self, path: str, name: str) -> Fence:
        """Have the record name content that is about to arrive, and return the fence for storing it."""
        now = self._clock()
        record = self._store.get(path)
        if record is None:
            facts = {"content": None, "content_type": "", "bytes": 0, "created_at": now, "updated_at": now}
            at = self._store.commit([Create(path, {**facts, "arriving": {name: now}})])
        else:
            arriving = {other: begun for other, begun in _arriving(record).items() if begun > now - _ABANDONED_AFTER}
            at = self._store.commit([Update(path, {"arriving": {**arriving, name: now}}, record.update_time)])

        def lives(current: Document | None) -> bool:
            return current is not None and name in _arriving(current)

        announced = Document(path, {"arriving": {name: now}}, at, at)
        return Fence.while_it(lives, self._store, announced)

    def _take(self, path: str, name: str, facts: Mapping[str, Any]) -> KeptFile | None:
        """Have the record take content as the file's, with its ``facts``. Without any, forget content that broke off.

        Returns:
            the file; None if there is none.
        """
        record = self._store.get(path)
        if record is None or name not in _arriving(record):
            return None
        arriving = {other: begun for other, begun in _arriving(record).items() if other != name}
        changes = {**facts, "arriving": arriving, **({"updated_at": self._clock()} if facts else {})}
        at = self._store.commit([Update(path, changes, record.update_time)])
        data = {**record.data, **changes}
        # Whoever changes the record before this is done removes what is left. New content is announced there first.
        with suppress(Fenced, PreconditionFailed, NotFound):
            self._files.delete(path, _Others({*arriving, data["content"]}), Fence(self._store, path, at))
            if not arriving and not data["content"]:  # the first content broke off
                self._store.commit([Delete(path, at)])
        return KeptFile._of(Document(path, data, record.create_time, at))

    def _empty(self, path: str) -> datetime | None:
        """Have the record name no content, and return when that was; None if there is no record."""
        record = self._store.get(path)
        if record is None:
            return None
        return self._store.commit([Update(path, {"content": None, "arriving": {}}, record.update_time)])


class KeptFileTraces:
    """The files that an app keeps for users, in the form of :class:`~firelaunch.worker.tasks.erase.Traces`."""

    def __init__(self, store: ScopedStore, files: ScopedFiles) -> None:
        self._store = store
        self._files = files

    def count(self, user: Scope) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """Return nothing: the files' records are counted with the user's documents."""
        return {}

    def erase(self, user: Scope) -> None:
        """Remove the records, so that no content arrives any more, and then the contents."""
        files = self._files.within(user)
        for file_id in list(self._store.ids(user.kept_files())):
            self._store.commit([Delete(user.kept_file(file_id))])
            files.delete(user.kept_file(file_id))


class _Measured:
    """Content that counts its bytes while it is read, and stops at ``most``."""

    def __init__(self, content: bytes | IO[bytes], most: int) -> None:
        self._file = io.BytesIO(content) if isinstance(content, bytes | bytearray | memoryview) else content
        self._most = most
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes, as :meth:`io.BufferedIOBase.read` does."""
        data = self._file.read(size)
        self.size += len(data)
        if self.size > self._most:
            raise TooLarge(f"A file has at most {size_text(self._most)}.")
        return data

    def seekable(self) -> bool:
        """Return False, as :meth:`io.IOBase.seekable` does: the content is read once."""
        return False


class _Others(Container[str]):
    """All names but those of ``kept``. On a laptop, a file that is arriving has a name of its own: ".name.part"."""

    def __init__(self, kept: Container[object]) -> None:
        self._kept = kept

    def __contains__(self, name: object) -> bool:
        return str(name).removeprefix(".").partition(".")[0] not in self._kept


def _arriving(record: Document) -> Mapping[str, datetime]:
    """Return the contents that the record announces, with the times at which they began to arrive."""
    return record.data.get("arriving") or {}
