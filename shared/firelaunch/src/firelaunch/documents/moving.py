"""Move a document, or a file that the app keeps, from one user to another: first its content, then its record.

One commit makes the record of the new owner and removes the old one, so there is always exactly one. What is copied
before it may be copied again: it keeps its names.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from secrets import token_hex
from typing import Any

from ..errors import NotFound
from ..jobs import Jobs, Prepared
from ..rag.index.base import GENERATION
from ..rag.versions import State
from ..scope import Scope
from ..store.base import Create, Delete, Document, Set, Write
from .catalog import INGEST, Documents, Ingest, document_id, is_complete

__all__ = ["DocumentMove", "copy_content"]

Commit = Callable[[list[Write]], object]


def copy_content(documents: Documents, app: Scope, record: Document, target: str) -> None:
    """Copy the content of a file that the app keeps to the path of another record.

    Raises:
        NotFound: the content was replaced since the record was read.
    """
    name = str(record.data["content"])
    documents.files(app).copy(f"{record.path}/{name}", f"{target}/{name}")


@dataclass(frozen=True, slots=True)
class DocumentMove:
    """Moves documents between users of one app.

    Args:
        documents, jobs: those of the app.
        find: reads a document of the database.
        commit: applies writes, all or none.
    """

    documents: Documents
    jobs: Jobs
    app: Scope
    find: Callable[[str], Document | None]
    commit: Commit

    def move(self, source: Scope, target: Scope, document: str) -> bool:
        """Move one document, and return whether it is the target's by now.

        The target's own document of the same source stays. A page, or a file with the same content, is then there
        already, and a file with other content moves under another name.

        Raises:
            AlreadyExists, PreconditionFailed: somebody changed one of the documents meanwhile. Move it again.
        """
        record = self.find(source.document(document))
        if record is None:
            return False
        if record.data.get("status") == "deleting":
            self.documents.finish_deletion(source, document)
            return False
        twin = self.find(target.document(document))
        if twin is None:
            return self._move(record, source, target)
        if record.data.get("source") == "url" or twin.data.get("hash") == record.data.get("hash"):
            return False
        return self._move_renamed(record, source, target)

    def _move(self, record: Document, source: Scope, target: Scope) -> bool:
        state = self.documents.versions.state()
        self._copy_files(record, target.document(record.id))
        for version in state.all if state is not None else ():
            index = self.documents.engine(version).index
            index.upsert(target, version.id, index.read(source, version.id, record.id))
        if record.data.get("status") == "failed" or _is_whole(record, state):
            self._commit(record, source, target, record.id, dict(record.data))
        else:
            self._commit_with_job(record, source, target, record.id, {})
        return True

    def _move_renamed(self, record: Document, source: Scope, target: Scope) -> bool:
        """Move a document under a name that depends on its owner alone, and have it indexed anew."""
        name = PurePath(str(record.data.get("name", "")))
        mark = sha256(record.path.encode()).hexdigest()[:8]
        renamed = f"{name.stem[:150]} ({mark}){name.suffix[:20]}"
        new_id = document_id(renamed)
        if self.find(target.document(new_id)) is not None:
            return False
        self._copy_files(record, target.document(new_id))
        content: dict[str, Any] = {GENERATION: token_hex(8), "shown": None, "stale": [], "indexed": {}, "chunks": 0}
        self._commit_with_job(record, source, target, new_id, {"name": renamed, **content})
        return True

    def _copy_files(self, record: Document, target: str) -> None:
        files = self.documents.files(self.app)
        for name in list(files.names(record.path)):
            with suppress(NotFound):  # its job removed it meanwhile
                files.copy(f"{record.path}/{name}", f"{target}/{name}")

    def _commit_with_job(
        self, record: Document, source: Scope, target: Scope, new_id: str, changes: dict[str, Any]
    ) -> None:
        prepared = self.jobs.prepare(target, INGEST, Ingest(document=new_id))
        work = {"status": "queued", "progress": 0.0, "error": None, "job": prepared.job_id}
        self._commit(record, source, target, new_id, {**record.data, **changes, **work}, prepared)
        self.jobs.send(prepared)

    def _commit(
        self,
        record: Document,
        source: Scope,
        target: Scope,
        new_id: str,
        data: dict[str, Any],
        prepared: Prepared | None = None,
    ) -> None:
        self.commit(
            [
                Create(target.document(new_id), data),
                Set(target.source(new_id), {"uid": target.uid, "document": new_id}),
                Delete(record.path, record.update_time),
                Delete(source.source(record.id)),
                *([] if prepared is None else [prepared.write]),
            ]
        )


def _is_whole(record: Document, state: State | None) -> bool:
    """Return whether every index version that documents are written to holds all of the document."""
    ready = record.data.get("status") == "ready" and state is not None
    return ready and state is not None and all(is_complete(record, version) for version in state.written)
