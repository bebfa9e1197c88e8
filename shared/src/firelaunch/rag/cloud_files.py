"""Documents' files in Cloud Storage, where Firebase Storage keeps what clients upload."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Any

from google.api_core import exceptions as google
from google.auth import exceptions as auth
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import exceptions as requests

from ..errors import Fenced, NotFound, StoreError
from ..store.fence import Fence

__all__ = ["CloudFiles"]

_SECONDS = 60.0
_PART = 8 << 20
"""Bytes that are held of a file while it is sent; a multiple of 256 KiB, as resumable uploads want."""


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
            blob.upload_from_file(file, timeout=_SECONDS, retry=self._retry)
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

    def delete(self, folder: str, names: Collection[str] | None = None, fence: Fence | None = None) -> None:
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
    except (google.GoogleAPIError, auth.GoogleAuthError, requests.RequestException) as error:
        raise StoreError(reason=f"Cloud Storage: {type(error).__name__}: {error}"[:300]) from error
