"""The files of documents: uploads and their texts, behind one port.

:class:`LocalFiles` keeps them in a folder; :mod:`.cloud_files` in a Cloud Storage bucket.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import IO, Protocol

from ..errors import Fenced, InvalidId, NotFound, ScopeViolation, StoreError
from ..scope import Scope, split
from ..store.fence import Fence
from ..store.machine_faults import machine_fault

__all__ = [
    "CLIENTS_FOLDERS",
    "FilePieces",
    "Files",
    "LocalFiles",
    "ScopedFiles",
    "incoming_folder",
    "is_document_name",
    "upload_path",
]

_NAME_CHARACTERS = 200
_OBJECT_BYTES = 1024
"""Bytes of an object's whole name in UTF-8 (https://cloud.google.com/storage/docs/objects#naming)."""


def is_document_name(name: str) -> bool:
    """Return whether ``name`` is a valid file name: 1 to 200 printable characters, not only dots and spaces."""
    return 0 < len(name) <= _NAME_CHARACTERS and name.isprintable() and bool(name.strip(". "))


CLIENTS_FOLDERS = ("uploads", "pictures")
"""The folders of a user into which ``storage.rules`` lets their clients upload."""


def upload_path(scope: Scope, name: str) -> str:
    """Return the path to which a user's client uploads a document of this name.

    Raises:
        InvalidId: the name is not a file's, or the scope is not a user's. A file's name is one segment of a path, ends
            in neither a dot nor a space, and fits into an object's name in Cloud Storage.
    """
    if scope.uid is None or "/" in name or name.endswith((".", " ")) or not is_document_name(name):
        raise InvalidId("That file name is not valid.")
    path = f"{scope.root}/uploads/{name}"
    try:
        split(path)
    except ScopeViolation:
        raise InvalidId("That file name is not valid.") from None
    if len(path.encode()) > _OBJECT_BYTES:
        raise InvalidId("That file name is too long.")
    return path


def incoming_folder(scope: Scope) -> str:
    """Return the folder of files on their way to this app, which belong to no document yet."""
    return f"apps/{scope.app_id}/incoming"


class Files(Protocol):
    """The port to stored files. A path is that of a document in the database, and one more segment.

    Raises (every method): StoreError if the files cannot be reached.
    """

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """Keep what ``file`` holds from its position on, completely or not at all; it replaces an earlier file.

        Args:
            file: read once, in pieces; it may still be arriving, and need not be seekable. Errors of its ``read`` pass
                through.
            fence: the condition of the write.

        Raises:
            Fenced: the document's record forbids the write; nothing is kept.
        """

    def copy(self, source: str, target: str) -> None:
        """Keep the file at ``source`` at ``target``, too, without sending its bytes through this process.

        Raises:
            NotFound: there is no file at ``source``.
        """

    def open(self, path: str) -> IO[bytes]:
        """Return the kept file, as a regular file open for reading.

        Raises:
            NotFound: there is no file.
        """

    def pieces(self, path: str, start: int = 0) -> Iterator[bytes]:
        """Yield the kept file in pieces of a megabyte at most, without keeping more of it here.

        Args:
            start: the bytes of the file to leave out at its beginning.

        Raises:
            NotFound: there is no file. It is raised with the first piece.
        """

    def has(self, path: str) -> bool:
        """Return whether a file is kept at ``path``."""

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of the files that are directly in ``folder``, in order."""

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """Remove the files in ``folder``, or only those of ``names``.

        Args:
            fence: the condition of the removal. Files that arrived after it was raised stay.

        Raises:
            Fenced: the document's record forbids the removal.
        """


class ScopedFiles:
    """:class:`Files` that only reach the paths of ``scope``.

    Raises (every method): ScopeViolation for any other path.
    """

    def __init__(self, files: Files, scope: Scope, observers: list[Callable[[str], None]] | None = None) -> None:
        self.__files = files
        self.__root = split(scope.root)
        self.__observers: list[Callable[[str], None]] = [] if observers is None else observers

    def within(self, scope: Scope) -> ScopedFiles:
        """Return files that only reach the narrower ``scope``."""
        self.__check(scope.root)
        return ScopedFiles(self.__files, scope, self.__observers)

    def observe(self, observer: Callable[[str], None]) -> None:
        """Have ``observer`` called with the path of each file that was put, by these files or any :meth:`within` them.

        Raises:
            ScopeViolation: these files are not the whole app's.
        """
        if len(self.__root) != 2:
            raise ScopeViolation(reason=f"an observer of the files of {'/'.join(self.__root)!r}")
        self.__observers.append(observer)

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """Keep a file, as :meth:`Files.put` describes."""
        self.__files.put(self.__check(path), file, fence)
        for observer in self.__observers:
            observer(path)

    def has(self, path: str) -> bool:
        """Return whether a file is kept, as :meth:`Files.has` describes."""
        return self.__files.has(self.__check(path))

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of a folder's files, as :meth:`Files.names` describes."""
        return self.__files.names(self.__check(folder))

    def copy(self, source: str, target: str) -> None:
        """Keep a file at a second path, as :meth:`Files.copy` describes."""
        self.__files.copy(self.__check(source), self.__check(target))

    def open(self, path: str) -> IO[bytes]:
        """Return a kept file, as :meth:`Files.open` describes."""
        return self.__files.open(self.__check(path))

    def pieces(self, path: str, start: int = 0) -> Iterator[bytes]:
        """Yield a kept file in pieces, as :meth:`Files.pieces` describes."""
        return self.__files.pieces(self.__check(path), start)

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """Remove files, as :meth:`Files.delete` describes."""
        self.__files.delete(self.__check(folder), names, fence)

    def __check(self, path: str) -> str:
        if split(path)[: len(self.__root)] != self.__root:
            raise ScopeViolation(reason=f"{path[:200]!r} is not a file of {'/'.join(self.__root)!r}")
        return path


class FilePieces(Iterator[bytes]):
    """A file's content in pieces. The first is read at once, so that a file that is not there is known at once.

    Args:
        pieces_from: gives the pieces from a byte on.

    Attributes:
        beginning: the first bytes of the file.
    """

    beginning: bytes = b""

    def __init__(self, pieces_from: Callable[[int], Iterator[bytes]]) -> None:
        self._pieces_from = pieces_from
        self._rest: Iterator[bytes] = iter(())
        self.seek(0)

    def __next__(self) -> bytes:
        return next(self._rest)

    def seekable(self) -> bool:
        """Return True, as :meth:`io.IOBase.seekable` does."""
        return True

    def seek(self, start: int) -> int:
        """Go on from byte ``start``."""
        rest = self._pieces_from(start)
        first = next(rest, b"")
        if start == 0:
            self.beginning = first[:_BEGINNING]
        self._rest = chain([first], rest)
        self._start = start
        return start

    def tell(self) -> int:
        """Return the byte that was sought last."""
        return self._start


_BEGINNING = 1_024
_PIECE = 1 << 20
_LOCK_SECONDS = 30.0


def _lock(handle: int) -> None:
    """Wait for a lock, which ends with its process; give up after 30 seconds, since its holder may be suspended."""
    give_up = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise StoreError(reason="another process keeps a document's files locked", retry_after=1) from None
            time.sleep(0.01)


class LocalFiles:
    """Files in a folder of this machine, for a laptop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """Keep a file, as :class:`Files` describes."""
        folder, _, name = path.rpartition("/")
        if not file.seekable():
            self._put_arriving(folder, name, file, fence)
            return
        with self._locked(folder) as place:
            part = place / f".{token_hex(8)}"
            try:
                with part.open("xb") as target:
                    shutil.copyfileobj(file, target)
                # The process that raises the fence needs this lock before it removes files: the check is in time.
                if fence is not None:
                    fence.check()
                part.replace(place / name)
            finally:
                part.unlink(missing_ok=True)

    def _put_arriving(self, folder: str, name: str, file: IO[bytes], fence: Fence | None) -> None:
        """Keep a file that is still arriving, without locking its folder for as long as that takes."""
        with self._locked(folder) as place:
            part = place / f".{name}.{token_hex(4)}"
            target = part.open("xb")
        try:
            with target:
                shutil.copyfileobj(file, target)
            with self._locked(folder) as place:
                if fence is not None:
                    fence.check()
                try:
                    part.replace(place / name)
                except FileNotFoundError:
                    raise Fenced(reason=f"the folder of {name} was emptied while its file arrived") from None
        finally:
            part.unlink(missing_ok=True)

    def has(self, path: str) -> bool:
        """Return whether a file is kept, as :class:`Files` describes."""
        return self._place(path).is_file()

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of a folder's files, as :class:`Files` describes."""
        place = self._folder_of(folder)
        # A file that is still arriving has a name that begins with a dot and is not there under its own yet.
        names = [path.name for path in place.iterdir() if not path.name.startswith(".")] if place.is_dir() else []
        yield from sorted(names)

    def copy(self, source: str, target: str) -> None:
        """Keep a file at a second path, as :class:`Files` describes."""
        with self.open(source) as file:
            self.put(target, file)

    def open(self, path: str) -> IO[bytes]:
        """Return a kept file, as :class:`Files` describes."""
        try:
            return self._place(path).open("rb")
        except OSError as error:  # there is no such file, its name is too long, or none can be opened
            if machine_fault(error) is not None:
                raise
            raise NotFound(reason=f"no file at {path[:200]!r}") from None

    def pieces(self, path: str, start: int = 0) -> Iterator[bytes]:
        """Yield a kept file in pieces, as :class:`Files` describes."""
        with self.open(path) as file:
            file.seek(start)
            while piece := file.read(_PIECE):
                yield piece

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """Remove files, as :class:`Files` describes."""
        if not self._folder_of(folder).is_dir():
            return
        with self._locked(folder) as place:
            if fence is not None:
                fence.check()
            for path in place.iterdir():
                if names is None or path.name in names:
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                place.rmdir()

    @contextmanager
    def _locked(self, folder: str) -> Iterator[Path]:
        """Yield the folder, which no other thread or process writes to or removes meanwhile."""
        place = self._folder_of(folder)
        while True:
            # `exist_ok` looks again whether it is a folder, and by then another thread may have removed it.
            with suppress(FileExistsError):
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileNotFoundError):
                handle = os.open(place, os.O_RDONLY)
                try:
                    _lock(handle)
                    # The folder may have been removed and created again while this waited. Then lock the new one.
                    if place.is_dir() and os.fstat(handle).st_ino == place.stat().st_ino:
                        yield place
                        return
                finally:
                    os.close(handle)

    def _place(self, path: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self._folder_of(folder) / name

    def _folder_of(self, folder: str) -> Path:
        # A user id may hold characters that file names cannot; its hash does not.
        return self._folder / sha256(folder.encode()).hexdigest()[:40]
