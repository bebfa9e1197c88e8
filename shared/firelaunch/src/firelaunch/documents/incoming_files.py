"""Files on their way in: kept under names of their own until a document takes them, and gone soon after if none does.

A file's digest, which its document keeps it under, is known when its last byte is there. Until then it must lie
somewhere other than in memory, and a process may die meanwhile.
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

_LEFT_BEHIND = timedelta(hours=12)
"""How old a file is that no process brings to its end any more; the slowest body takes under an hour."""

_NAME = re.compile(r"\.?(\d{10,12})-([0-9a-f]{16})-")


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file that is whole: where it lies, its bytes, and its SHA-256 in hexadecimal."""

    path: str
    size: int
    digest: str


class IncomingFiles:
    """Files on their way to one app.

    Args:
        files: the app's own.
        clock: the time now, aware.
    """

    def __init__(self, files: ScopedFiles, clock: Callable[[], datetime]) -> None:
        self._files = files
        self._clock = clock
        self._swept = threading.Event()

    @contextmanager
    def received(self, scope: Scope, file: IO[bytes], most: int) -> Iterator[IncomingFile]:
        """Keep a file for as long as the block runs; it is read once, as it comes.

        Args:
            scope: whose it is.
            most: bytes that it may have.

        Raises:
            TooLarge: it has more. What reading it raises passes through.
        """
        if not self._swept.is_set():
            self._swept.set()
            than = (self._clock() - _LEFT_BEHIND).timestamp()
            self._remove(scope, _Names(lambda _name, at, _owner: at <= than))
        name = f"{int(self._clock().timestamp())}-{_owner_key(scope)}-{token_hex(8)}"
        path = f"{incoming_folder(scope)}/{name}"
        measured = _Measured(file, most)
        try:
            self._files.put(path, measured)  # type: ignore[arg-type]  # it is only read
            yield IncomingFile(path, measured.size, measured.digest)
        finally:
            self._remove(scope, _Names(lambda other, _at, _owner: other == name))

    def erase(self, user: Scope) -> None:
        """Remove what a user's requests have left behind."""
        user_key = _owner_key(user)
        self._files.delete(incoming_folder(user), _Names(lambda _name, _at, owner: owner == user_key))

    def _remove(self, scope: Scope, names: _Names) -> None:
        try:
            self._files.delete(incoming_folder(scope), names)
        except FirelaunchError as error:
            log.warning("files that came in could not be removed, and will be later: %s", error)


class _Measured:
    """A file that is counted while it is read."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self._hash = sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """See io.BufferedIOBase."""
        data = self._file.read(size)
        self.size += len(data)
        if self.size > self._most:
            raise TooLarge(f"A file has at most {self._most} bytes. Split it and upload the parts.")
        self._hash.update(data)
        return data

    def seekable(self) -> bool:
        """See io.IOBase."""
        return False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _Names:
    """Names of incoming files, by what they say of themselves.

    Args:
        wanted: whether a file is meant, by its name, the second since 1970 that it was begun in, and its owner.
    """

    def __init__(self, wanted: Callable[[str, int, str], bool]) -> None:
        self._wanted = wanted

    def __contains__(self, name: object) -> bool:
        found = _NAME.match(str(name))
        return found is not None and self._wanted(str(name), int(found[1]), found[2])


def _owner_key(scope: Scope) -> str:
    return sha256(scope.root.encode()).hexdigest()[:16]
