"""Store files while they arrive, under temporary names, until a document takes them. Files that none takes go.

A document keeps its file under the file's digest, which is only known after the last byte. Until then the file has to
lie outside memory, and the process may die.
"""

from __future__ import annotations

import codecs
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

from ..errors import FirelaunchError, TooLarge, size_text
from ..rag.files import ScopedFiles, incoming_folder
from ..scope import Scope

__all__ = ["IncomingFile", "IncomingFiles"]

log = logging.getLogger(__name__)

_ABANDONED_AFTER = timedelta(hours=12)
"""The age at which a file is abandoned by its process. The slowest request body takes under an hour."""

_OTHER_FORMAT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:[<{\[%]|PK|[A-Za-z-]+:|From )"
    rb"|.{0,65536}?\\(?:documentclass|documentstyle|begin|chapter|(?:sub)?section)",
    re.DOTALL,
)
"""The beginning of a file that may be read as another format than plain text, in which less text may be found."""

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
    def received(
        self, scope: Scope, file: IO[bytes], most: int, most_characters: int | None = None
    ) -> Iterator[IncomingFile]:
        """Store a file while the block runs. The file is read once, as it arrives.

        Args:
            scope: the file's owner.
            most: the most bytes that the file may have.
            most_characters: the most characters of a plain text, if the file may be one.

        Raises:
            TooLarge: the file has more of either. Errors from reading the file pass through.
        """
        # Each process removes abandoned files once, with its first upload.
        if not self._swept.is_set():
            self._swept.set()
            oldest = (self._clock() - _ABANDONED_AFTER).timestamp()
            self._remove(scope, _Names(lambda _name, at, _owner: at <= oldest))
        name = f"{int(self._clock().timestamp())}-{_owner_key(scope)}-{token_hex(8)}"
        path = f"{incoming_folder(scope)}/{name}"
        measured = _Measured(file, most, None if most_characters is None else _Characters(most_characters))
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
    """A file that measures its size and digest while it is read, and stops at ``most`` bytes or too many characters."""

    def __init__(self, file: IO[bytes], most: int, characters: _Characters | None) -> None:
        self._file, self._most, self._characters = file, most, characters
        self._hash = sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes, as :meth:`io.BufferedIOBase.read` does."""
        data = self._file.read(size)
        self.size += len(data)
        if self.size > self._most:
            raise TooLarge(f"A file has at most {size_text(self._most)}. Split it and upload the parts.")
        if self._characters is not None:
            self._characters.count(data)
        self._hash.update(data)
        return data

    def seekable(self) -> bool:
        """Return False, as :meth:`io.IOBase.seekable` does: the file is read once."""
        return False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _Characters:
    """The characters of a plain text that arrives: at least as many as reading it will give.

    What may be another format, or has another encoding than UTF-8, is not counted: reading the file tells its length.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0
        self._decoder: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
        self._begun = False

    def count(self, data: bytes) -> None:
        """Count the characters of the next bytes.

        Raises:
            TooLarge: there are too many.
        """
        if not self._begun and data:
            self._begun = True
            if _OTHER_FORMAT.match(data) or b"\0" in data:
                self._decoder = None
        if self._decoder is None:
            return
        try:
            text = self._decoder.decode(data)
        except UnicodeDecodeError:
            self._decoder = None
            return
        self._number += len(text) - text.count("\n") - text.count("\r")  # some line ends are not kept
        if self._number > self._most:
            raise TooLarge(f"A document has at most {self._most:,} characters of text. Split it and upload the parts.")


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
