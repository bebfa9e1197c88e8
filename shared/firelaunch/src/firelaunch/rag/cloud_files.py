"""Documents' files in Cloud Storage, where Firebase Storage keeps clients' uploads."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Any

from google.api_core import exceptions as google
from google.auth import exceptions as auth
from google.cloud.storage import Client
from google.cloud.storage import exceptions as storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import exceptions as requests

from ..errors import Fenced, NotFound, StoreError
from ..store.fence import Fence

__all__ = ["CloudFiles"]

log = logging.getLogger(__name__)

_SECONDS = 60.0
_PART = 1 << 20
"""Bytes of a part; two are in memory while a file is sent. A multiple of 256 KiB, as resumable uploads need."""


_FAILURES = (
    google.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    storage.InvalidResponse,
    storage.DataCorruption,
)
"""Exceptions of the client library; the last two are from uploads in parts."""


class CloudFiles:
    """:class:`~firelaunch.rag.files.Files` in one bucket. Objects have the names of paths.

    If ``STORAGE_EMULATOR_HOST`` is set, the client library uses that server.

    Args:
        project: Google Cloud project.
        bucket: the bucket's name.
        client: an existing client.
        retry_seconds: seconds for which a call with a temporary failure is retried.
    """

    def __init__(self, project: str, bucket: str, client: Client | None = None, retry_seconds: float = 20.0) -> None:
        self._project = project
        self._name = bucket
        self._client = client
        self._lock = Lock()
        self._retry = DEFAULT_RETRY.with_timeout(retry_seconds)

    @cached_property
    def _bucket(self) -> Any:
        with self._lock:
            bucket = self.__dict__.get("_bucket")
            if bucket is None:
                client = self._client or Client(project=self._project)
                bucket = client.bucket(self._name)
            return bucket

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """Keep a file, as :class:`~firelaunch.rag.files.Files` describes. An object appears with its last byte."""
        with _translate_errors():
            blob = self._bucket.blob(path, chunk_size=_PART)
            if file.seekable():
                blob.upload_from_file(file, timeout=_SECONDS, retry=self._retry)
            else:
                self._send(blob, file)
        if fence is not None:
            try:
                # A bucket cannot check a condition on the database. So remove an object that arrived too late.
                fence.check()
            except Fenced:
                self._remove(blob)
                raise

    def has(self, path: str) -> bool:
        """Return whether a file is kept, as :class:`~firelaunch.rag.files.Files` describes."""
        with _translate_errors():
            blobs = self._bucket.list_blobs(prefix=path, max_results=1, timeout=_SECONDS, retry=self._retry)
            return any(blob.name == path for blob in blobs)

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of a folder's files, as :class:`~firelaunch.rag.files.Files` describes."""
        with _translate_errors():
            blobs = self._bucket.list_blobs(prefix=f"{folder}/", delimiter="/", timeout=_SECONDS, retry=self._retry)
            for blob in blobs:
                yield blob.name.rpartition("/")[2]

    def pieces(self, path: str, start: int = 0) -> Iterator[bytes]:
        """Yield a file in pieces, as :class:`~firelaunch.rag.files.Files` describes."""
        with _translate_errors():
            blob = self._bucket.blob(path)
            while piece := self._piece(blob, start):
                yield piece
                start += len(piece)

    def _piece(self, blob: Any, start: int) -> bytes:
        """Return a part of a file from a byte on; empty at its end."""
        try:
            data: bytes = blob.download_as_bytes(
                start=start, end=start + _PART - 1, timeout=_SECONDS, retry=self._retry, checksum=None
            )
        except google.RequestRangeNotSatisfiable:
            return b""
        return data

    def _send(self, blob: Any, file: IO[bytes]) -> None:
        """Send ``file`` in parts as they can be read. A session that breaks off is ended, and leaves nothing."""
        writer = blob.open("wb", chunk_size=_PART, ignore_flush=True, timeout=_SECONDS, retry=self._retry)
        try:
            shutil.copyfileobj(file, writer, _PART)
            writer.close()
        except BaseException:
            _end_session(writer)
            raise

    def copy(self, source: str, target: str) -> None:
        """Copy a file by a rewrite, as :class:`~firelaunch.rag.files.Files` describes; no bytes leave the bucket."""
        token = None
        with _translate_errors():
            while True:
                blob, source_blob = self._bucket.blob(target), self._bucket.blob(source)
                token, _, _ = blob.rewrite(source_blob, token=token, timeout=_SECONDS, retry=self._retry)
                if token is None:
                    return

    def open(self, path: str) -> IO[bytes]:
        """Return a temporary copy of the file, as :class:`~firelaunch.rag.files.Files` describes."""
        file = TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            with _translate_errors():
                self._bucket.blob(path).download_to_file(file, timeout=_SECONDS, retry=self._retry)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """Remove files, as :class:`~firelaunch.rag.files.Files` describes."""
        with _translate_errors():
            blobs = list(self._bucket.list_blobs(prefix=f"{folder}/", timeout=_SECONDS, retry=self._retry))
        # Objects that were listed before this check are older than any write after the fence is raised again.
        if fence is not None and blobs:
            fence.check()
        for blob in blobs:
            if names is None or blob.name.rpartition("/")[2] in names:
                self._remove(blob)

    def _remove(self, blob: Any) -> None:
        """Remove this very object, and not one that has replaced it."""
        with _translate_errors(), suppress(google.NotFound, google.PreconditionFailed):
            blob.delete(if_generation_match=blob.generation, timeout=_SECONDS, retry=self._retry)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except google.NotFound as error:
        raise NotFound(reason=f"Cloud Storage: {error}"[:300]) from error
    except _FAILURES as error:
        raise StoreError(reason=f"Cloud Storage: {type(error).__name__}: {error}"[:300]) from error


def _end_session(writer: Any) -> None:
    """Make Google drop the parts of an upload that breaks off; if that fails, they expire after a week.

    The library's ``terminate`` sends its request to the address at which sessions begin, which ends none. It still
    must be called: a writer that is dropped without it sends the rest, and the object appears.
    """
    session, writer._upload_and_transport = writer._upload_and_transport, None
    writer.terminate()
    if session is not None:
        upload, transport = session
        with suppress(*_FAILURES):
            transport.delete(upload.resumable_url, timeout=_SECONDS)
