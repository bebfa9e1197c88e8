"""Files that clients put up before they send them in a message, for a day.

They lie among the user's files (:class:`~firelaunch.documents.kept_files.KeptFiles`), under ids that begin with the
time at which they came. So the user's oldest are found without an index, and go with each of the user's next uploads.
A message has a copy of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import IO, Final

from ..documents.kept_files import KeptFile, KeptFiles
from ..errors import NotFound, TooManyUploads

__all__ = ["UploadedFiles", "is_upload_id"]

_KEPT: Final = timedelta(days=1)
"""The time for which an upload can be sent. A message that is sent again needs it, too."""

_MOST: Final = 50
"""Uploads of a user at a time."""

_PREFIX: Final = "upload_"
_ID = re.compile(rf"{_PREFIX}(\d{{10}})_[0-9a-f]{{32}}")


def is_upload_id(file_id: str) -> bool:
    """Return whether the id may be that of an upload."""
    return _ID.fullmatch(file_id) is not None


class UploadedFiles:
    """One user's uploads.

    Args:
        files: the user's.
        clock: returns the current time, with its time zone.
    """

    def __init__(self, files: KeptFiles, clock: Callable[[], datetime]) -> None:
        self.files = files
        self._clock = clock

    def put(self, content: IO[bytes], media_type: str, most: int) -> tuple[KeptFile, datetime]:
        """Keep a file for a day, and remove the user's older ones.

        Args:
            content: the file, which is read once, as it arrives.
            most: the most bytes that it may have.

        Returns:
            the file, and until when it can be sent.

        Raises:
            TooManyUploads: the user has as many as one may have.
            TooLarge: the file has more bytes. Errors from reading the file pass through.
        """
        now = self._clock()
        waiting = self.files.following(_PREFIX, _MOST)
        times = {file.id: _time_of(file.id) for file in waiting if is_upload_id(file.id)}
        for file_id, came_at in times.items():
            if came_at + _KEPT <= now:
                self.files.delete(file_id)
        oldest = min((came_at for came_at in times.values() if came_at + _KEPT > now), default=now)
        if sum(came_at + _KEPT > now for came_at in times.values()) >= _MOST:
            wait = (oldest + _KEPT - now).total_seconds()
            raise TooManyUploads(
                f"A user can put up {_MOST} files in a day. Send files in the message.", retry_after=wait
            )
        file_id = f"{_PREFIX}{int(now.timestamp()):010d}_{token_hex(16)}"
        return self.files.put(file_id, content, media_type, most=most), _time_of(file_id) + _KEPT

    def get(self, file_id: str) -> KeptFile:
        """Return an upload.

        Raises:
            NotFound: the user has no such upload, or its day is over.
        """
        if not is_upload_id(file_id) or _time_of(file_id) + _KEPT <= self._clock():
            raise NotFound("There is no such upload, or its day is over. Put the file up again.")
        return self.files.get(file_id)


def _time_of(file_id: str) -> datetime:
    match = _ID.fullmatch(file_id)
    return datetime.fromtimestamp(int(match[1]) if match else 0, UTC)
