"""The files of documents: what was uploaded, and its text. One port; a folder or a Cloud Storage bucket behind it."""

from __future__ import annotations

import shutil
from collections.abc import Container
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import IO, Protocol

from ..errors import InvalidId, NotFound, ScopeViolation
from ..scope import Scope, split

__all__ = ["Files", "LocalFiles", "ScopedFiles", "incoming_folder", "is_document_name", "upload_path"]

_NAME_CHARACTERS = 200
_NAMED = 40
"""Characters of a file's name that the name of its unfinished copy begins with, behind a dot."""

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

    def put(self, path: str, file: IO[bytes]) -> None:
        """Keep what ``file`` holds from its position on; all of it or nothing, in place of what was there.

        The file may be on its way: it is read once, in pieces. What its ``read`` raises passes through.
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

    def delete(self, folder: str, keep: Container[str] = ()) -> None:
        """Remove what lies in ``folder``, but for the names to keep."""


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

    def put(self, path: str, file: IO[bytes]) -> None:
        """See :meth:`Files.put`."""
        self.__files.put(self.__check(path), file)

    def copy(self, source: str, target: str) -> None:
        """See :meth:`Files.copy`."""
        self.__files.copy(self.__check(source), self.__check(target))

    def open(self, path: str) -> IO[bytes]:
        """See :meth:`Files.open`."""
        return self.__files.open(self.__check(path))

    def delete(self, folder: str, keep: Container[str] = ()) -> None:
        """See :meth:`Files.delete`."""
        self.__files.delete(self.__check(folder), keep)

    def __check(self, path: str) -> str:
        if split(path)[: len(self.__root)] != self.__root:
            raise ScopeViolation(reason=f"{path[:200]!r} is not a file of {'/'.join(self.__root)!r}")
        return path


class LocalFiles:
    """Files in a folder of the machine, for a laptop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, file: IO[bytes]) -> None:
        """See :class:`Files`."""
        target = self._place(path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = target.with_name(f".{target.name[:_NAMED]}-{token_hex(8)}")
        try:
            with part.open("xb") as into:
                shutil.copyfileobj(file, into)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

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

    def delete(self, folder: str, keep: Container[str] = ()) -> None:
        """See :class:`Files`."""
        place = self._folder_of(folder)
        for found in place.iterdir() if place.is_dir() else ():
            if found.name not in keep:
                found.unlink(missing_ok=True)
        with suppress(OSError):
            place.rmdir()

    def _place(self, path: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self._folder_of(folder) / name

    def _folder_of(self, folder: str) -> Path:
        # A user id may hold what no file name can; its hash holds nothing else.
        return self._folder / sha256(folder.encode()).hexdigest()[:40]
