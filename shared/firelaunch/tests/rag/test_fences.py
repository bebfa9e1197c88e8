"""The fence around a document: what its record forbids is not written, on any index, however late it comes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.cloud_storage import CloudStorageServer
from firelaunch.errors import Fenced, NotFound, PreconditionFailed
from firelaunch.rag.files import LocalFiles
from firelaunch.rag.index.base import Entry, Index
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.scope import Scope
from firelaunch.store.base import Delete, Document, DocumentStore, Set
from firelaunch.store.fence import Fence
from firelaunch.store.sqlite import SQLiteStore
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

ADA = Scope("demo", "ada")
RECORD = ADA.document("d1")


@pytest.fixture
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    """The database with the record: the index's own, where the index lies in one of the store's."""
    kind = request.node.callspec.params.get("index") if hasattr(request.node, "callspec") else None
    if kind == "firestore":
        emulator, project = (request.getfixturevalue(f"firestore_{name}") for name in ("emulator", "project"))
        store: DocumentStore = emulator.store(project)
    else:
        store = SQLiteStore(tmp_path / ("texts.sqlite3" if kind == "vertex" else "records.sqlite3"))
    yield store
    store.close()


def entry(name: str, document: str = "d1") -> Entry:
    return Entry(name, document, f"text of {name}", np.array([1.0] + [0.0] * 7, dtype=np.float32))


def lives(found: Document | None) -> bool:
    return found is not None and found.data.get("generation") == "g1"


def writer(records: DocumentStore) -> Fence:
    """The fence of a writer who has read the record just now."""
    found = records.get(RECORD)
    if found is None:
        raise Fenced
    return Fence.while_it(lives, records, found)


def ids(index: ScopedIndex) -> set[str]:
    return {each.id for each in index.read(ADA, "v1", "d1")}


@pytest.mark.parametrize("raise_it", [Delete(RECORD), Set(RECORD, {"generation": "g2"})], ids=["deleted", "replaced"])
def test_nothing_is_written_and_nothing_removed_after_the_record_has_changed_hands(
    index: Index, records: DocumentStore, raise_it: Any
) -> None:
    own = ScopedIndex(index, "demo")
    records.commit([Set(RECORD, {"generation": "g1"})])
    fence = writer(records)
    own.upsert(ADA, "v1", [entry("a"), entry("b")], fence)
    records.commit([raise_it])
    with pytest.raises(Fenced):
        own.upsert(ADA, "v1", [entry("c")], fence)
    with pytest.raises(Fenced):
        own.delete(ADA, "d1", version="v1", ids=["a"], fence=fence)
    with pytest.raises(Fenced):
        own.delete(ADA, "d1", version="v1", fence=fence)
    assert ids(own) == {"a", "b"}


def test_a_record_that_only_tells_of_progress_keeps_no_writer_from_writing(
    index: Index, records: DocumentStore
) -> None:
    own = ScopedIndex(index, "demo")
    records.commit([Set(RECORD, {"generation": "g1"})])
    fence = writer(records)
    for n in range(3):
        records.commit([Set(RECORD, {"generation": "g1", "progress": n})])
        own.upsert(ADA, "v1", [entry(f"e{n}")], fence)
    own.delete(ADA, "d1", version="v1", ids=["e0"], fence=fence)
    assert ids(own) == {"e1", "e2"}


def test_a_removal_that_was_overtaken_by_a_new_upload_leaves_what_that_wrote(
    index: Index, records: DocumentStore
) -> None:
    own = ScopedIndex(index, "demo")
    records.commit([Set(RECORD, {"status": "deleting"})])
    late = Fence(records, RECORD, records.get(RECORD).update_time)  # type: ignore[union-attr]
    records.commit([Delete(RECORD)])
    records.commit([Set(RECORD, {"generation": "g1"})])
    own.upsert(ADA, "v1", [entry("new")], writer(records))
    with pytest.raises(Fenced):
        own.delete(ADA, "d1", fence=late)
    assert ids(own) == {"new"}
    absent = Fence(records, RECORD, None)
    with pytest.raises(Fenced):
        own.delete(ADA, "d1", fence=absent)
    records.commit([Delete(RECORD)])
    own.delete(ADA, "d1", fence=absent)
    assert ids(own) == set()


def test_whatever_writers_are_at_when_their_document_is_wiped_nothing_of_it_is_there_afterwards(
    index: Index, records: DocumentStore
) -> None:
    """Four writers beside a wipe, many times over."""
    own = ScopedIndex(index, "demo")
    for turn in range(6):
        records.commit([Set(RECORD, {"generation": "g1"})])
        under_way, over = threading.Event(), threading.Event()

        def write(number: int, turn: int = turn, under_way: Any = under_way, over: Any = over) -> None:
            try:
                fence = writer(records)
                for n in range(200):
                    own.upsert(ADA, "v1", [entry(f"{turn}-{number}-{n}-{m}") for m in range(5)], fence)
                    under_way.set()
            except Fenced:
                return
            finally:
                over.set()

        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for each in writers:
            each.start()
        assert under_way.wait(30)
        records.commit([Set(RECORD, {"status": "deleting"})])
        raised = records.get(RECORD)
        assert raised is not None
        own.delete(ADA, "d1", fence=Fence(records, RECORD, raised.update_time))
        if type(index).__name__ == "VectorSearchIndex":  # it knows no conditions: the writer takes back what it wrote
            for each in writers:
                each.join()
            own.delete(ADA, "d1")
        assert ids(own) == set()
        for each in writers:
            each.join()
        assert ids(own) == set()
        records.commit([Delete(RECORD)])


@pytest.fixture(params=["local", "cloud"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "local":
        yield LocalFiles(tmp_path / "files")
        return
    from firelaunch.rag.cloud_files import CloudFiles

    with CloudStorageServer("files") as server:
        options = {"api_endpoint": server.url}
        client = Client("demo", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
        yield CloudFiles("demo", "files", client, retry_seconds=0.5)


def test_no_file_is_kept_or_removed_after_the_record_has_changed_hands(files: Any, records: DocumentStore) -> None:
    records.commit([Set(RECORD, {"generation": "g1"})])
    fence = writer(records)
    files.put(f"{RECORD}/a", io.BytesIO(b"first"), fence)
    records.commit([Set(RECORD, {"generation": "g2"})])
    with pytest.raises(Fenced):
        files.put(f"{RECORD}/b", io.BytesIO(b"late"), fence)
    with pytest.raises(Fenced):
        files.delete(RECORD, fence=fence)
    with pytest.raises(NotFound):
        files.open(f"{RECORD}/b")
    with files.open(f"{RECORD}/a") as file:
        assert file.read() == b"first"


def test_a_condition_that_does_not_hold_is_told_from_other_failures(records: DocumentStore) -> None:
    records.commit([Set(RECORD, {"generation": "g1"})])
    fence = writer(records)
    records.commit([Set(RECORD, {"generation": "g1", "progress": 1})])
    with pytest.raises(PreconditionFailed):
        records.commit([fence.condition, Set(ADA.document("d2"), {})])
    fence.check()
    records.commit([fence.condition, Set(ADA.document("d2"), {})])
