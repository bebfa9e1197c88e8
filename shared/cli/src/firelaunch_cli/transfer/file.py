"""The file: a first line that says whose data it is, a line a document, and a last line that says that it is whole."""

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

from .values import decoded, encoded

__all__ = ["Export", "Import", "Line", "TransferError", "export", "load"]

_VERSION = 1
_BATCH_WRITES = 400
_BATCH_BYTES = 4 * 2**20
"""Of one commit; Firestore takes 10 MiB (https://firebase.google.com/docs/firestore/quotas#writes_and_transactions)."""

_FLUSH = 200
Progress = Callable[[int], object]


class TransferError(Exception):
    """The file will not do; the message names the line and the mend."""


@dataclass(frozen=True, slots=True)
class Line:
    """A document, its line's bytes, and where in the file the next line begins."""

    document: Set
    size: int
    end: int


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did: documents in the file, and how many of them an earlier run had brought there."""

    documents: int
    before: int


@dataclass(frozen=True, slots=True)
class Import:
    """What an import did: documents written, and how many an earlier run had written."""

    documents: int
    before: int


def export(store: TreeStore, app_id: str, path: Path, progress: Progress = lambda _: None) -> Export:
    """Write every document of an app to ``path``, or go on where an earlier run was interrupted.

    What changes meanwhile may be in the file as it was or as it is: stop the app first for a copy of one moment.

    Raises:
        TransferError: the file is another app's, or none of ours.
        StoreError: the database cannot be reached; the same call goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        begun = _begun(file, app_id, path)
        if begun.whole:
            return Export(begun.count, begun.count)
        count = begun.count
        for document in store.walk(Scope(app_id).root, after=begun.last):
            _write(file, _as_json(document))
            count += 1
            if count % _FLUSH == 0:
                file.flush()
                progress(count)
        _write(file, {"end": True, "documents": count})
        file.flush()
        os.fsync(file.fileno())
    return Export(count, begun.count)


def load(store: TreeStore, app_id: str, path: Path, target: str, progress: Progress = lambda _: None) -> Import:
    """Write every document of a whole file to the app's place in ``store``, or go on where a run was interrupted.

    A document that is there is replaced; others are let be. How far it came is kept beside the file, by ``target``,
    which names the database.

    Raises:
        TransferError: the file is not whole, another app's, or leads out of the app.
        StoreError: the database refused or cannot be reached; the same call goes on.
    """
    place = path.with_name(f"{path.name}.imported")
    whose = {"target": target, "size": path.stat().st_size}
    begin, before = _place(place, whose)
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
            _keep(place, {**whose, "next": batch[-1].end, "documents": count})
            progress(count)
    return Import(count - before, before)


@dataclass(frozen=True, slots=True)
class _Begun:
    count: int
    last: str | None
    whole: bool


def _begun(file: IO[bytes], app_id: str, path: Path) -> _Begun:
    """What an earlier run left; the file is cut behind its last whole line, and ready to go on."""
    header = {"firelaunch": _VERSION, "app": app_id}
    first = file.readline()
    if not first.endswith(b"\n"):
        file.seek(0)
        file.truncate()
        _write(file, header)
        return _Begun(0, None, whole=False)
    if _json(first, path, 1) != header:
        raise TransferError(f"{path} is no export of {app_id}; name another file.")
    count, last, end = 0, None, file.tell()
    for line in file:
        if not line.endswith(b"\n"):
            break
        found = _json(line, path, count + 2)
        if found.get("end"):
            return _Begun(count, last, whole=True)
        count, last, end = count + 1, str(found["path"]), end + len(line)
    file.seek(end)
    file.truncate()
    return _Begun(count, last, whole=False)


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
        found = _json(line, path, number)
        if "end" not in found:
            yield Line(_as_write(found, app_id, path), len(line), end)


def _as_json(document: Document) -> dict[str, Any]:
    return {"path": document.path, "fields": {key: encoded(value) for key, value in document.data.items()}}


def _as_write(found: dict[str, Any], app_id: str, path: Path) -> Set:
    try:
        where, fields = found["path"], found["fields"]
        segments = split(where)
        if segments[:2] != ["apps", app_id] or len(segments) % 2:
            raise ValueError(f"it is no document of {app_id}")
        return Set(where, {key: decoded(value) for key, value in fields.items()})
    except (FirelaunchError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise TransferError(f"{path}: {str(found.get('path'))[:200]!r} cannot be imported: {error}") from None


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        if batch and (len(batch) >= _BATCH_WRITES or sum(x.size for x in batch) + line.size > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch


def _place(place: Path, whose: dict[str, Any]) -> tuple[int, int]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return (int(found["next"]), int(found["documents"])) if whose.items() <= found.items() else (0, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _keep(place: Path, state: dict[str, Any]) -> None:
    aside = place.with_name(f"{place.name}.new")
    aside.write_text(json.dumps(state), encoding="utf-8")
    aside.replace(place)


def _write(file: IO[bytes], entry: dict[str, Any]) -> None:
    # In ASCII, so that a string which is no Unicode survives, too.
    file.write(json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _json(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransferError(f"{path}, line {number}, is no line of an export.")
    return found
