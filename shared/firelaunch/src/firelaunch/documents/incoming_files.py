"""Store files while they arrive, under temporary names, until a document takes them. Files that none takes go.

A document keeps its file under the file's digest, which is only known after the last byte. Until then the file has to
lie outside memory, and the process may die.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_hex
from typing import IO

from ..errors import FirelaunchError, TooLarge
from ..rag.files import ScopedFiles, incoming_folder
from ..scope import Scope

__all__ = ["IncomingFile", "IncomingFiles"]

log = logging.getLogger(__name__)

_ABANDONED_AFTER = timedelta(hours=12)
"""The age at which a file is abandoned by its process. The slowest request body takes under an hour."""

_NAME = re.compile(r"\.?(\d{10,12})-([0-9a-f]{16})-")


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file that has arrived completely: its path, its size in bytes, and its SHA-256 in hexadecimal."""

    path: str
    size: int
    digest: str


class IncomingFiles:
    """The files that are arriving for one app.

    Args:
        files: the app's files.
        clock: returns the current time, with its time zone.
    """

    def __init__(self, files: ScopedFiles, clock: Callable[[], datetime]) -> None:
        self._files = files
        self._clock = clock
        self._swept = threading.Event()

    @contextmanager
    def received(self, scope: Scope, file: IO[bytes], most: int) -> Iterator[IncomingFile]:
        """Store a file while the block runs. The file is read once, as it arrives.

        Args:
            scope: the file's owner.
            most: the most bytes that the file may have.

        Raises:
            TooLarge: the file has more bytes. Errors from reading the file pass through.
        """
        # Each process removes abandoned files once, with its first upload.
        if not self._swept.is_set():
            self._swept.set()
            oldest = (self._clock() - _ABANDONED_AFTER).timestamp()
            self._remove(scope, _Names(lambda _name, at, _owner: at <= oldest))
        name = f"{int(self._clock().timestamp())}-{_owner_key(scope)}-{token_hex(8)}"
        path = f"{incoming_folder(scope)}/{name}"
        measured = _Measured(file, most)
        try:
            self._files.put(path, measured)  # type: ignore[arg-type]  # it is only read
            yield IncomingFile(path, measured.size, measured.digest)
        finally:
            self._remove(scope, _Names(lambda other, _at, _owner: other == name))

    def erase(self, user: Scope) -> None:
        """Remove the files that a user's requests left behind."""
        user_key = _owner_key(user)
        self._files.delete(incoming_folder(user), _Names(lambda _name, _at, owner: owner == user_key))

    def _remove(self, scope: Scope, names: _Names) -> None:
        try:
            self._files.delete(incoming_folder(scope), names)
        except FirelaunchError as error:
            log.warning("files that came in could not be removed, and will be later: %s", error)


class _Measured:
    """A file that measures its size and digest while it is read, and stops at ``most`` bytes."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self._hash = sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes, as :meth:`io.BufferedIOBase.read` does."""
        data = self._file.read(size)
        self.size += len(data)
        if self.size > self._most:
            raise TooLarge(f"A file has at most {self._most} bytes. Split it and upload the parts.")
        self._hash.update(data)
        return data

    def seekable(self) -> bool:
        """Return False, as :meth:`io.IOBase.seekable` does: the file is read once."""
        return False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _Names:
    """A set of incoming files' names, selected by their parts.

    Args:
        selects: returns whether a file belongs to the set, from its name, its time of arrival in seconds since 1970,
            and its owner's key.
    """

    def __init__(self, selects: Callable[[str, int, str], bool]) -> None:
        self._selects = selects

    def __contains__(self, name: object) -> bool:
        parts = _NAME.match(str(name))
        return parts is not None and self._selects(str(name), int(parts[1]), parts[2])


def _owner_key(scope: Scope) -> str:
    return sha256(scope.root.encode()).hexdigest()[:16]
