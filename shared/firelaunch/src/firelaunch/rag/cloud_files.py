"""Documents' files in Cloud Storage, where Firebase Storage keeps what clients upload."""

from __future__ import annotations

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

_SECONDS = 60.0
_PART = 1 << 20
"""Bytes of a part; two are held of a file while it is sent. A multiple of 256 KiB, as resumable uploads want."""


_FAILURES = (
    google.GoogleAPIError,
    auth.GoogleAuthError,
    requests.RequestException,
    storage.InvalidResponse,
    storage.DataCorruption,
)
"""What the client library raises; the last two are those of uploads in parts."""


class CloudFiles:
    """:class:`~firelaunch.rag.files.Files` in one bucket; objects are named as paths are.

    ``STORAGE_EMULATOR_HOST``, where it is set, leads to another server; the client library reads it.

    Args:
        project: Google Cloud project.
        bucket: the bucket's name.
        client: a client made elsewhere.
        patience: seconds for which a call that fails in passing is tried again.
    """

    def __init__(self, project: str, bucket: str, client: Client | None = None, patience: float = 20.0) -> None:
        self._project = project
        self._name = bucket
        self._given = client
        self._lock = Lock()
        self._retry = DEFAULT_RETRY.with_timeout(patience)

    @cached_property
    def _bucket(self) -> Any:
        with self._lock:
            made = self.__dict__.get("_bucket")
            if made is None:
                client = self._given or Client(project=self._project)
                made = client.bucket(self._name)
            return made

    def put(self, path: str, file: IO[bytes], fence: Fence | None = None) -> None:
        """See :class:`~firelaunch.rag.files.Files`. An object is there when its last byte is."""
        with _translated():
            blob = self._bucket.blob(path, chunk_size=_PART)
            if file.seekable():
                blob.upload_from_file(file, timeout=_SECONDS, retry=self._retry)
            else:
                self._send(blob, file)
        if fence is not None:
            try:
                # A bucket knows no condition on what lies elsewhere. So what came too late is taken back.
                fence.check()
            except Fenced:
                self._remove(blob)
                raise

    def has(self, path: str) -> bool:
        """See :class:`~firelaunch.rag.files.Files`."""
        with _translated():
            found = self._bucket.list_blobs(prefix=path, max_results=1, timeout=_SECONDS, retry=self._retry)
            return any(blob.name == path for blob in found)

    def _send(self, blob: Any, file: IO[bytes]) -> None:
        """Send parts of ``file`` as they can be read; a session that breaks off is ended, and leaves nothing."""
        writer = blob.open("wb", chunk_size=_PART, ignore_flush=True, timeout=_SECONDS, retry=self._retry)
        try:
            shutil.copyfileobj(file, writer, _PART)
            writer.close()
        except BaseException:
            _end_session(writer)
            raise

    def copy(self, source: str, target: str) -> None:
        """See :class:`~firelaunch.rag.files.Files`: a rewrite, which moves no bytes within a bucket."""
        token = None
        with _translated():
            while True:
                blob, there = self._bucket.blob(target), self._bucket.blob(source)
                token, _, _ = blob.rewrite(there, token=token, timeout=_SECONDS, retry=self._retry)
                if token is None:
                    return

    def open(self, path: str) -> IO[bytes]:
        """See :class:`~firelaunch.rag.files.Files`: a temporary copy."""
        file = TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            with _translated():
                self._bucket.blob(path).download_to_file(file, timeout=_SECONDS, retry=self._retry)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def delete(self, folder: str, names: Container[str] | None = None, fence: Fence | None = None) -> None:
        """See :class:`~firelaunch.rag.files.Files`."""
        with _translated():
            found = list(self._bucket.list_blobs(prefix=f"{folder}/", timeout=_SECONDS, retry=self._retry))
        # What was listed before the fence was checked is older than whoever raised it anew.
        if fence is not None and found:
            fence.check()
        for blob in found:
            if names is None or blob.name.rpartition("/")[2] in names:
                self._remove(blob)

    def _remove(self, blob: Any) -> None:
        """Remove this very object, and not one that was put in its place."""
        with _translated(), suppress(google.NotFound, google.PreconditionFailed):
            blob.delete(if_generation_match=blob.generation, timeout=_SECONDS, retry=self._retry)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except google.NotFound as error:
        raise NotFound(reason=f"Cloud Storage: {error}"[:300]) from error
    except _FAILURES as error:
        raise StoreError(reason=f"Cloud Storage: {type(error).__name__}: {error}"[:300]) from error


def _end_session(writer: Any) -> None:
    """Have Google drop the parts of an upload that breaks off; where that fails, they go by themselves in a week.

    The library's ``terminate`` sends this to the address at which sessions begin, which ends none. It still has to be
    called: a writer that is let go of without it sends the rest, and the object is there.
    """
    begun, writer._upload_and_transport = writer._upload_and_transport, None
    writer.terminate()
    if begun is not None:
        upload, transport = begun
        with suppress(*_FAILURES):
            transport.delete(upload.resumable_url, timeout=_SECONDS)
