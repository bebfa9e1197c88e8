"""Write and read the file: a first line with the app's id, one line for each document, and a last line as its end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from firelaunch.errors import FirelaunchError
from firelaunch.scope import Scope, split
from firelaunch.store.base import Document, Set, TreeStore
from firelaunch.store.json_values import decoded, encoded

__all__ = ["Export", "Import", "Line", "TransferError", "check_export", "export", "load"]

_VERSION = 1
_BATCH_WRITES = 400
_BATCH_BYTES = 4 * 2**20
"""Most bytes of one commit. Firestore takes 10 MiB
(https://firebase.google.com/docs/firestore/quotas#writes_and_transactions)."""

_FLUSH = 200
Progress = Callable[[int], object]


class TransferError(Exception):
    """The file is not usable. The message names the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Line:
    """A document, the number of bytes of its line, and the offset in the file at which the next line begins."""

    document: Set
    size: int
    end: int


@dataclass(frozen=True, slots=True)
class Export:
    """The result of an export: the documents in the file, and how many of them an earlier run had written."""

    documents: int
    before: int


@dataclass(frozen=True, slots=True)
class Import:
    """The result of an import: the documents written, and how many an earlier run had written."""

    documents: int
    before: int


def export(store: TreeStore, app_id: str, path: Path, progress: Progress = lambda _: None) -> Export:
    """Write every document of an app to ``path``, or continue where an earlier run was interrupted.

    A document that changes meanwhile may be in the file in its old or its new state. For a consistent copy, stop the
    app first.

    Raises:
        TransferError: the file is another app's, or not an export.
        StoreError: the database cannot be reached; another call continues.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        earlier = _earlier(file, app_id, path)
        if earlier.whole:
            return Export(earlier.count, earlier.count)
        count = earlier.count
        for document in store.walk(Scope(app_id).root, after=earlier.last):
            _write(file, _as_json(document))
            count += 1
            if count % _FLUSH == 0:
                file.flush()
                progress(count)
        _write(file, {"end": True, "documents": count})
        file.flush()
        os.fsync(file.fileno())
    return Export(count, earlier.count)


def load(store: TreeStore, app_id: str, path: Path, target: str, progress: Progress = lambda _: None) -> Import:
    """Write every document of a complete file to the app's part of ``store``, or continue an interrupted run.

    Documents with the same path are replaced, others stay as they are. A second file next to ``path`` records the
    progress for ``target``, which names the database.

    Raises:
        TransferError: the file is incomplete, another app's, or has a path outside the app.
        StoreError: the database refused or cannot be reached; another call continues.
    """
    progress_file = path.with_name(f"{path.name}.imported")
    job = {"target": target, "size": path.stat().st_size}
    begin, before = _progress_of(progress_file, job)
    count = before
    with path.open("rb") as file:
        _check_whole(file, app_id, path)
        for batch in _batches(_documents(file, app_id, path, begin)):
            try:
                store.commit([line.document for line in batch])
            except FirelaunchError as error:
                raise TransferError(
                    f"{batch[0].document.path} and what follows was not written ({error.reason}). Run it again: it "
                    f"goes on there, after {count:,} documents."
                ) from error
            count += len(batch)
            _save_progress(progress_file, {**job, "next": batch[-1].end, "documents": count})
            progress(count)
    return Import(count - before, before)


@dataclass(frozen=True, slots=True)
class _Earlier:
    count: int
    last: str | None
    whole: bool


def _earlier(file: IO[bytes], app_id: str, path: Path) -> _Earlier:
    """Return the state of an earlier run, and cut the file after its last complete line."""
    header = {"firelaunch": _VERSION, "app": app_id}
    first = file.readline()
    if not first.endswith(b"\n"):
        file.seek(0)
        file.truncate()
        _write(file, header)
        return _Earlier(0, None, whole=False)
    if _json(first, path, 1) != header:
        raise TransferError(f"{path} is no export of {app_id}; name another file.")
    count, last, end = 0, None, file.tell()
    for line in file:
        if not line.endswith(b"\n"):
            break
        entry = _json(line, path, count + 2)
        if entry.get("end"):
            return _Earlier(count, last, whole=True)
        count, last, end = count + 1, str(entry["path"]), end + len(line)
    file.seek(end)
    file.truncate()
    return _Earlier(count, last, whole=False)


def check_export(app_id: str, path: Path) -> None:
    """Look whether a file is a whole export of an app.

    Raises:
        TransferError: it isn't; or it can't be read.
    """
    try:
        with path.open("rb") as file:
            _check_whole(file, app_id, path)
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error.strerror}.") from None


def _check_whole(file: IO[bytes], app_id: str, path: Path) -> None:
    if _json(file.readline(), path, 1) != {"firelaunch": _VERSION, "app": app_id}:
        raise TransferError(f"{path} is no export of {app_id}: import it into the app of the same id.")
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 200))
    last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    if not last.startswith(b'{"end":'):
        raise TransferError(f"{path} is not whole: run the export again, which goes on where it was interrupted.")


def _documents(file: IO[bytes], app_id: str, path: Path, begin: int) -> Iterator[Line]:
    file.seek(0)
    end = begin or len(file.readline())
    file.seek(end)
    for number, line in enumerate(file, 2):
        end += len(line)
        entry = _json(line, path, number)
        if "end" not in entry:
            yield Line(_as_write(entry, app_id, path), len(line), end)


def _as_json(document: Document) -> dict[str, Any]:
    return {"path": document.path, "fields": {key: encoded(value) for key, value in document.data.items()}}


def _as_write(entry: dict[str, Any], app_id: str, path: Path) -> Set:
    try:
        document_path, fields = entry["path"], entry["fields"]
        segments = split(document_path)
        if segments[:2] != ["apps", app_id] or len(segments) % 2:
            raise ValueError(f"it is no document of {app_id}")
        return Set(document_path, {key: decoded(value) for key, value in fields.items()})
    except (FirelaunchError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise TransferError(f"{path}: {str(entry.get('path'))[:200]!r} cannot be imported: {error}") from None


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        if batch and (len(batch) >= _BATCH_WRITES or sum(x.size for x in batch) + line.size > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch


def _progress_of(progress_file: Path, job: dict[str, Any]) -> tuple[int, int]:
    try:
        saved = json.loads(progress_file.read_text(encoding="utf-8"))
        return (int(saved["next"]), int(saved["documents"])) if job.items() <= saved.items() else (0, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _save_progress(progress_file: Path, state: dict[str, Any]) -> None:
    new = progress_file.with_name(f"{progress_file.name}.new")
    new.write_text(json.dumps(state), encoding="utf-8")
    new.replace(progress_file)


def _write(file: IO[bytes], entry: dict[str, Any]) -> None:
    # In ASCII, so that strings that are not valid Unicode survive too.
    file.write(json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _json(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise TransferError(f"{path}, line {number}, is no line of an export.")
    return entry
