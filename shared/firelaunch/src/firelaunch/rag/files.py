"""The files of documents: what was uploaded, and its text. One port; a folder or a Cloud Storage bucket behind it."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import IO, Protocol

from ..errors import InvalidId, NotFound, ScopeViolation, StoreError
from ..scope import Scope, split
from ..store.fence import Fence

__all__ = ["Files", "LocalFiles", "ScopedFiles", "incoming_folder", "is_document_name", "upload_path"]

_NAME_CHARACTERS = 200
_OBJECT_BYTES = 1024
"""Of an object's whole name in UTF-8 (https://cloud.google.com/storage/docs/objects#naming)."""


def is_document_name(name: str) -> bool:
    """Whether a file may be known by ``name``: 1 to 200 printable characters that are not all dots and spaces."""
    return 0 < len(name) <= _NAME_CHARACTERS and name.isprintable() and bool(name.strip(". "))


def upload_path(scope: Scope, name: str) -> str:
    """Where a user's client puts a file of this name; ``storage.rules`` lets it write there alone.

    Raises:
        InvalidId: the name is no file's, or the scope no user's. A file's name is one segment of a path, ends in
            neither a dot nor a space, and fits into an object's name in Cloud Storage.
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
    """Where files lie that are on their way to this app, and nobody's document yet."""
    return f"apps/{scope.app_id}/incoming"


class Files(Protocol):
    """What every adapter does. A path is that of a document in the database, and one more segment.

    Raises (every method): StoreError where the files cannot be reached.
    """

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """Keep what ``file`` holds from its position on; all of it or nothing, in place of what was there.

        Args:
            file: it may be on its way, and no seekable one: it is read once, in pieces. What its ``read`` raises
                passes through.
            fence: what the write depends on.

        Raises:
            Fenced: the document's record forbids it; nothing is kept.
        """

    def copy(self, source: str, target: str) -> None:
        """Keep what is kept at ``source`` at ``target`` as well, without its bytes coming through this process.

        Raises:
            NotFound: there is nothing.
        """

    def open(self, path: str) -> IO[bytes]:
        """What is kept, as a regular file open for reading.

        Raises:
            NotFound: there is nothing.
        """

    def has(self, path: str) -> bool:
        """Whether anything is kept there."""

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """Remove what lies in ``folder``, or those of ``names`` alone.

        Args:
            fence: what the removal depends on. What came after it was raised stays.

        Raises:
            Fenced: the document's record forbids it.
        """


class ScopedFiles:
    """:class:`Files` in which only the paths of ``scope`` exist.

    Raises (every method): ScopeViolation for any other path.
    """

    def __init__(self, files: Files, scope: Scope) -> None:
        self.__files = files
        self.__root = split(scope.root)

    def within(self, scope: Scope) -> ScopedFiles:
        """The same behind the narrower wall of ``scope``."""
        self.__check(scope.root)
        return ScopedFiles(self.__files, scope)

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """See :meth:`Files.put`."""
        self.__files.put(self.__check(path), file, fence)

    def has(self, path: str) -> bool:
        """See :meth:`Files.has`."""
        return self.__files.has(self.__check(path))

    def copy(self, source: str, target: str) -> None:
        """See :meth:`Files.copy`."""
        self.__files.copy(self.__check(source), self.__check(target))

    def open(self, path: str) -> IO[bytes]:
        """See :meth:`Files.open`."""
        return self.__files.open(self.__check(path))

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """See :meth:`Files.delete`."""
        self.__files.delete(self.__check(folder), names, fence)

    def __check(self, path: str) -> str:
        if split(path)[: len(self.__root)] != self.__root:
            raise ScopeViolation(reason=f"{path[:200]!r} is not a file of {'/'.join(self.__root)!r}")
        return path


_LOCK_SECONDS = 30.0


def _lock(handle: int) -> None:
    """Wait for a lock, which ends with its process; but not for a process that was stopped."""
    give_up = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise StoreError(reason="another process keeps a document's files locked", retry_after=1) from None
            time.sleep(0.01)


class LocalFiles:
    """Files in a folder of the machine, for a laptop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """See :class:`Files`."""
        folder, _, name = path.rpartition("/")
        if not file.seekable():
            self._receive(folder, name, file)
            return
        with self._locked(folder) as place:
            part = place / f".{token_hex(8)}"
            try:
                with part.open("xb") as into:
                    shutil.copyfileobj(file, into)
                # Whoever raised the fence gets this lock before they remove what is there.
                if fence is not None:
                    fence.check()
                part.replace(place / name)
            finally:
                part.unlink(missing_ok=True)

    def _receive(self, folder: str, name: str, file: IO[bytes]) -> None:
        """Keep a file that is on its way. Its folder is not locked for as long as it takes."""
        with self._locked(folder) as place:
            part = place / f".{name}"
            into = part.open("xb")
        try:
            with into:
                shutil.copyfileobj(file, into)
            part.replace(place / name)
        finally:
            part.unlink(missing_ok=True)

    def has(self, path: str) -> bool:
        """See :class:`Files`."""
        return self._place(path).is_file()

    def copy(self, source: str, target: str) -> None:
        """See :class:`Files`."""
        with self.open(source) as file:
            self.put(target, file)

    def open(self, path: str) -> IO[bytes]:
        """See :class:`Files`."""
        try:
            return self._place(path).open("rb")
        except OSError:  # not there, or its name is longer than any that could be
            raise NotFound(reason=f"no file at {path[:200]!r}") from None

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """See :class:`Files`."""
        if not self._folder_of(folder).is_dir():
            return
        with self._locked(folder) as place:
            if fence is not None:
                fence.check()
            for found in place.iterdir():
                if names is None or found.name in names:
                    found.unlink(missing_ok=True)
            with suppress(OSError):
                place.rmdir()

    @contextmanager
    def _locked(self, folder: str) -> Iterator[Path]:
        """The folder, which nobody else writes to or removes meanwhile, in this process or another."""
        place = self._folder_of(folder)
        while True:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileNotFoundError):
                handle = os.open(place, os.O_RDONLY)
                try:
                    _lock(handle)
                    # The folder may have been removed while this waited, and be another one by now.
                    if place.is_dir() and os.fstat(handle).st_ino == place.stat().st_ino:
                        yield place
                        return
                finally:
                    os.close(handle)

    def _place(self, path: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self._folder_of(folder) / name

    def _folder_of(self, folder: str) -> Path:
        # A user id may hold what no file name can; its hash holds nothing else.
        return self._folder / sha256(folder.encode()).hexdigest()[:40]
