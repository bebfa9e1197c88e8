"""Tell the faults of the machine from all others: a disk that is full or takes no writes, no file left to open.

They end by themselves or by an operator's hand, and the same request succeeds after that. So clients are told to come
again, whichever part of the app met the fault first: the database, the index, or a file.
"""

from __future__ import annotations

import errno
from typing import Final

from ..errors import StoreUnavailable

__all__ = ["machine_fault"]

_ERRNOS: Final = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),  # the disk
        *(errno.EMFILE, errno.ENFILE),  # descriptors of the process, and of the machine
    }
)

_SQLITE_CODES: Final = frozenset({8, 10, 13, 14})
"""SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN, the last of which is also that of a file too many
(https://www.sqlite.org/rescode.html). By number, since an app in the cloud starts without SQLite."""

_RETRY_SECONDS = 10


def machine_fault(error: BaseException) -> StoreUnavailable | None:
    """Return what to tell clients if ``error`` is the machine's fault, or None if it is not."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to tell cases of one code apart
    if code not in _SQLITE_CODES and not (isinstance(error, OSError) and error.errno in _ERRNOS):
        return None
    return StoreUnavailable(reason=f"{type(error).__name__}: {error}", retry_after=_RETRY_SECONDS)
