"""Make the zip of the data of one user, or of one group, while it is read, piece by piece."""

from __future__ import annotations

import io
import json
import re
import zipfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from itertools import chain, islice
from typing import IO, Any, cast

from ...errors import NotFound
from ...paging import iso_time
from ...rag.files import CLIENTS_FOLDERS, ScopedFiles
from ...scope import Scope
from ...store.base import Document, GeoPoint, Order, Query, Reference, Vector
from ...store.scoped import ScopedStore
from .. import JobRun
from .group_messages import group_chats, written_in
from .user_data import HIDDEN, HIDDEN_OF_GROUPS, KeptDocuments, groups_of, kept_elsewhere, pages

__all__ = ["UserArchive", "user_archive"]

_PAGE = 25
"""Documents in memory at a time; each has a megabyte at most."""

_PIECE = 256 * 1024
_NAME_CHARACTERS = 100
_OLDEST = (Order("created_at"),)

Entry = tuple[str, Iterable[bytes]]
"""A file in the zip: its name, and its content in pieces."""


class UserArchive(io.RawIOBase):
    """The zip as a file that is read once, from start to end.

    Attributes:
        size: the bytes that were read so far.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.size = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, as :meth:`io.RawIOBase.readinto` does."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        self.size += len(taken)
        return len(taken)


def user_archive(run: JobRun, app: ScopedStore) -> UserArchive:
    """Return the zip of the data of the job's user. Reading it raises what should end the job.

    Args:
        app: the app's store, since some of what is kept about a user is outside their part of the database.
    """
    return UserArchive(_zipped(run, _entries(run, app)))


class _Sink:
    """Where the zip is written to until a piece of it is taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing, as there is nothing behind this."""

    def take(self) -> bytes:
        taken, self._parts, self.size = b"".join(self._parts), [], 0
        return taken


def _zipped(run: JobRun, entries: Iterator[Entry]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w") as archive:
        for number, (name, pieces) in enumerate(entries):
            run.check()
            run.progress(number, None, name[:200])
            with archive.open(_info(name, run.services.clock()), "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    if sink.size >= _PIECE:
                        run.check()
                        yield sink.take()
    yield sink.take()


def _info(name: str, at: datetime) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, at.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _entries(run: JobRun, app: ScopedStore) -> Iterator[Entry]:
    """Yield what the user's part of the database holds, what the app's own collections have on them, and the files."""
    store, user = run.services.store, run.scope
    yield from _about(run, app)
    for name in store.collections(user.root):
        hidden = (HIDDEN_OF_GROUPS if user.group is not None else HIDDEN).get(name, ())
        if name == "chats":
            yield "chats.json", _array(_chats(store, user))
        elif hidden is not None:
            # A collection of the app's own may have the name of a file above.
            folder = "records/" if name in {"about", "user", "group"} else ""
            yield f"{folder}{name}.json", _array(_below(store, f"{user.root}/{name}", hidden))
    groups = groups_of(app, user)
    in_chats = (each for chat in group_chats(app, user, groups) for each in written_in(user, *chat, "delete"))
    for kept in chain(kept_elsewhere(user, app.user_fields, groups), _not_empty(app, in_chats)):
        if kept.exported:
            found = (document for page in pages(app, kept, _PAGE) for document in page)
            name = kept.name if kept.field == "uid" else f"{kept.name}.{kept.field}"
            file = f"of_the_app/{name}" if kept.group is None else f"of_groups/{kept.group}/{kept.folder}{name}"
            yield f"{file}.json", _array([_row(document, HIDDEN.get(file) or (), kept.shown)] for document in found)
    yield from _files(run)


def _not_empty(app: ScopedStore, each_kept: Iterable[KeptDocuments]) -> Iterator[KeptDocuments]:
    return (kept for kept in each_kept if app.query(replace(kept.query, limit=1)))


def _about(run: JobRun, app: ScopedStore) -> Iterator[Entry]:
    """Yield what says whose export it is, and the owner's own document."""
    owner, at = run.scope, run.services.clock()
    if owner.group is not None:
        yield "about.json", [_json({"app": owner.app_id, "group": owner.group, "exported_at": at})]
        group = app.get(owner.root)
        yield "group.json", [_json({} if group is None else group.data)]
        return
    yield "about.json", [_json({"app": owner.app_id, "user": owner.uid, "exported_at": at})]
    root, member = app.get_many([owner.root, owner.member()])
    own = {"user": None if root is None else root.data, "membership": None if member is None else member.data}
    yield "user.json", [_json(own)]


def _chats(store: ScopedStore, user: Scope) -> Iterator[Iterable[bytes]]:
    """Yield each chat with its messages, oldest first. A chat that is gone may have left messages."""
    for chat_id in store.ids(user.chats()):
        chat = store.get(user.chat(chat_id))
        yield _chat(store, user, chat_id, {} if chat is None else chat.data)


def _chat(store: ScopedStore, user: Scope, chat_id: str, fields: Mapping[str, Any]) -> Iterator[bytes]:
    yield _json({"id": chat_id, "data": fields})[:-1] + b', "messages": '
    yield from _array(_messages(store, user, chat_id))
    yield b"}"


def _messages(store: ScopedStore, user: Scope, chat_id: str) -> Iterator[Iterable[bytes]]:
    after: list[Any] | None = None
    while True:
        messages = store.query(Query(user.messages(chat_id), order=_OLDEST, limit=_PAGE, after=after))
        yield from ([_row(message)] for message in messages)
        if len(messages) < _PAGE:
            return
        after = [messages[-1].data["created_at"], messages[-1].id]


def _below(store: ScopedStore, collection: str, hidden: Sequence[str]) -> Iterator[Iterable[bytes]]:
    """Yield every document of a collection, and below it, with its path under the collection as its id."""
    paths = store.tree(collection)
    while page := list(islice(paths, _PAGE)):
        for document in store.get_many(page):
            if document is not None:
                shown = {name: value for name, value in document.data.items() if name not in hidden}
                yield [_json({"id": document.path.removeprefix(f"{collection}/"), "data": shown})]


def _files(run: JobRun) -> Iterator[Entry]:
    """Yield the files that the user's clients uploaded, those that the app keeps, and those of the user's documents."""
    user, files = run.scope, run.services.documents.files(run.scope)
    for folder in CLIENTS_FOLDERS:
        for number, name in enumerate(files.names(f"{user.root}/{folder}"), start=1):
            # Two names may become the same name in the zip, so each has a number.
            yield from _file(files, f"{user.root}/{folder}/{name}", f"{folder}/{number}/{_file_name(name)}")
    for number, name in enumerate(run.services.store.ids(user.kept_files()), start=1):
        with suppress(NotFound):  # it was deleted meanwhile
            yield f"kept_files/{number}/{_file_name(name)}", run.services.files.read(name)[1]
    ids = run.services.store.ids(user.documents())
    while page := list(islice(ids, _PAGE)):
        for record in run.services.store.get_many([user.document(document) for document in page]):
            if record is None or not record.data.get("hash"):
                continue
            name = _file_name(str(record.data.get("name", "")))
            yield from _file(files, f"{record.path}/{record.data['hash']}", f"files/{record.id}/{name}")


def _file(files: ScopedFiles, path: str, name: str) -> Iterator[Entry]:
    pieces = files.pieces(path)
    try:
        first = next(pieces, b"")
    except NotFound:  # it was deleted meanwhile
        return
    yield name, chain([first], pieces)


def _file_name(text: str) -> str:
    """Return ``text`` as a file's name that leads nowhere when the zip is unpacked."""
    name = re.sub(r"[^\w.() -]", "_", text).strip(". ")
    return name[-_NAME_CHARACTERS:] or "file"


def _array(rows: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield b"["
    for number, row in enumerate(rows):
        yield b",\n" if number else b"\n"
        yield from row
    yield b"\n]\n"


def _row(document: Document, hidden: Sequence[str] = (), shown: Sequence[str] | None = None) -> bytes:
    names = [name for name in document.data if name not in hidden and (shown is None or name in shown)]
    return _json({"id": document.id, "data": {name: document.data[name] for name in names}})


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(_plain(fields), ensure_ascii=False).encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """Return a stored value as JSON has it: times in ISO 8601, bytes in base64."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, GeoPoint | Reference | Vector):
        return _plain(asdict(value))
    return value
