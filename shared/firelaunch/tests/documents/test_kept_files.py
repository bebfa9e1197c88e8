"""Files that an app keeps: whole or not at all, their scope's alone, and gone with their user."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.cloud_storage import CloudStorageServer
from fakes.jobs import Site, embedded_site
from firelaunch.api.base import Path as FilePath
from firelaunch.api.base import app_services, caller_services, file_response
from firelaunch.api.routes import Routes
from firelaunch.documents.kept_files import KeptFiles, KeptFileTraces
from firelaunch.errors import BadRequest, Conflict, Fenced, InvalidId, NotFound, ScopeViolation, TooLarge
from firelaunch.metering.retries import Retries
from firelaunch.rag.cloud_files import CloudFiles
from firelaunch.rag.files import Files, LocalFiles, ScopedFiles
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.base import DocumentStore, Set
from firelaunch.store.fence import begun_at
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import sign_in
from firelaunch.testing.documented import watch
from firelaunch.worker.tasks.erase import erasure_of
from firelaunch.worker.tasks.export import archive_of, start_export
from flask import Response
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

APP, ADA, BOB = Scope("demo"), Scope("demo", "ada"), Scope("demo", "bob")


@pytest.fixture(params=["local", "cloud"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "local":
        yield LocalFiles(tmp_path / "files")
        return
    with CloudStorageServer("files") as server:
        client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": server.url})  # type: ignore[no-untyped-call]
        yield CloudFiles("demo", "files", client, retry_seconds=0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DocumentStore]:
    made = SQLiteStore(tmp_path / "data.sqlite3")
    yield made
    made.close()


@pytest.fixture
def kept(files: Files, store: DocumentStore) -> KeptFiles:
    return KeptFiles(
        ScopedStore(store, APP), ScopedFiles(files, APP), APP, Retries(), lambda: datetime.now(UTC), most=1_000
    )


def content(files: KeptFiles, name: str) -> bytes:
    with files.open(name) as file:
        return file.read()


def stored(files: Files, scope: Scope, name: str) -> list[str]:
    return list(files.names(scope.kept_file(name)))


class Arriving(io.RawIOBase):
    """Content that arrives while something else happens."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def readable(self) -> bool:
        return True

    def read(self, _: int = -1) -> bytes:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is None:
            return b""
        meanwhile()
        return b"late"


def test_what_was_put_is_read_with_its_type_and_size_and_new_content_replaces_it(kept: KeptFiles, files: Files) -> None:
    ada = kept.within(ADA)
    first = ada.put("meal 1", b"first", "image/png")
    second = ada.put("meal 1", io.BytesIO(b"second"), "image/jpeg")
    assert (second.id, second.content_type, second.bytes) == ("meal 1", "image/jpeg", 6)
    assert second.version != first.version
    assert second.created_at == first.created_at < second.updated_at
    assert ada.get("meal 1") == second
    assert content(ada, "meal 1") == b"second"
    assert len(stored(files, ADA, "meal 1")) == 1, "the first content is removed"
    file, pieces = ada.read("meal 1")
    assert (file, b"".join(pieces)) == (second, b"second")


def test_a_scopes_files_are_its_own(kept: KeptFiles) -> None:
    kept.within(ADA).put("x", b"ada", "text/plain")
    kept.put("x", b"app", "text/plain")
    assert content(kept.within(ADA), "x") == b"ada"
    assert content(kept, "x") == b"app"
    assert kept.within(BOB).find("x") is None
    with pytest.raises(ScopeViolation):
        kept.within(ADA).within(BOB)
    with pytest.raises(ScopeViolation):
        kept.within(Scope("other"))


def test_a_deleted_file_leaves_nothing_and_deleting_it_again_does_no_harm(
    kept: KeptFiles, files: Files, store: DocumentStore
) -> None:
    ada = kept.within(ADA)
    ada.put("x", b"content", "text/plain")
    for _ in range(2):
        ada.delete("x")
    with pytest.raises(NotFound):
        ada.open("x")
    assert stored(files, ADA, "x") == []
    assert list(store.tree(ADA.root)) == []


def test_content_that_breaks_off_or_is_too_large_changes_nothing(
    kept: KeptFiles, files: Files, store: DocumentStore
) -> None:
    ada = kept.within(ADA)

    def break_off() -> None:
        raise ConnectionError

    for name in ("new", "old"):
        if name == "old":
            ada.put("old", b"content", "text/plain")
        with pytest.raises(ConnectionError):
            ada.put(name, Arriving(break_off), "text/plain")
        with pytest.raises(TooLarge):
            ada.put(name, b"x" * 1_001, "text/plain")
        with pytest.raises(TooLarge):
            ada.put(name, b"xx", "text/plain", most=1)
    assert ada.find("new") is None
    assert stored(files, ADA, "new") == []
    assert [path for path in store.tree(ADA.root) if path.endswith("/new")] == []
    assert content(ada, "old") == b"content"
    assert len(stored(files, ADA, "old")) == 1


def test_a_file_that_is_deleted_or_replaced_while_content_arrives(kept: KeptFiles, files: Files) -> None:
    ada = kept.within(ADA)
    ada.put("x", b"content", "text/plain")
    with pytest.raises(Conflict):
        ada.put("x", Arriving(lambda: ada.delete("x")), "text/plain")
    assert ada.find("x") is None
    assert stored(files, ADA, "x") == []
    ada.put("x", Arriving(lambda: ada.put("x", b"other", "text/plain")), "text/plain")
    assert content(ada, "x") == b"late", "the one that ends last stands"
    assert len(stored(files, ADA, "x")) == 1


def test_writers_at_one_time_leave_one_of_their_contents_whole(kept: KeptFiles, files: Files) -> None:
    ada, start = kept.within(ADA), threading.Barrier(4)

    def write(number: int) -> None:
        start.wait()
        ada.put("x", bytes([number]) * 500, "text/plain")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(ada, "x") in {bytes([number]) * 500 for number in range(4)}
    assert len(stored(files, ADA, "x")) == 1


def test_an_erased_users_files_go_and_none_that_was_arriving_comes_after(
    kept: KeptFiles, files: Files, store: DocumentStore
) -> None:
    ada, whole = kept.within(ADA), ScopedStore(store, APP)
    ada.put("x", b"content", "text/plain")

    def erase() -> None:
        whole.commit([Set(ADA.erasure(), {})])
        KeptFileTraces(whole, ScopedFiles(files, APP)).erase(ADA)

    began = datetime.now(UTC)
    with begun_at(began):
        with pytest.raises(Conflict):
            ada.put("x", Arriving(erase), "text/plain")
        with pytest.raises(Fenced):
            ada.put("x", b"later", "text/plain")
    assert stored(files, ADA, "x") == []
    assert list(store.tree(ADA.root)) == []


def test_files_are_listed_in_pages_those_that_changed_last_first(kept: KeptFiles) -> None:
    ada = kept.within(ADA)
    for name in "abc":
        ada.put(name, b"", "text/plain")
    ada.put("a", b"again", "text/plain")
    page = ada.list(2)
    assert [file.id for file in page.items] == ["a", "c"]
    assert [file.id for file in ada.list(2, page.next_cursor).items] == ["b"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "__x__", "x" * 1_100, "a\nb"])
def test_an_id_that_is_no_name_for_a_file_is_refused(kept: KeptFiles, name: str) -> None:
    with pytest.raises(InvalidId):
        kept.within(ADA).put(name, b"", "text/plain")


@pytest.mark.parametrize("kind", ["", "png", "image/", "image/png\r\nX: y", "text/html; charset=utf-8", "IMAGE/PNG"])
def test_a_content_type_that_is_none_is_refused(kept: KeptFiles, kind: str) -> None:
    with pytest.raises(BadRequest):
        kept.within(ADA).put("x", b"", kind)


routes = Routes("avatars")


@routes.get("/avatars/mine")
def mine() -> Response:
    return file_response(caller_services().files, "avatar")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path, declared=Declared(routes=(routes,)), started=False) as made:
        yield made


def test_a_route_answers_with_a_file_of_its_caller_which_no_browser_runs(site: Site) -> None:
    site.services.files.within(ADA).put("avatar", b"<svg/>", "image/svg+xml")
    answer = sign_in(site.app, "ada").get("/api/avatars/mine")
    assert (answer.status_code, answer.data, answer.content_type) == (200, b"<svg/>", "image/svg+xml")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == "inline"
    assert sign_in(site.app, "bob").get("/api/avatars/mine").status_code == 404
    ada = sign_in(site.app, "ada")
    again = ada.get("/api/avatars/mine", If_None_Match=answer.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    site.services.files.within(ADA).put("avatar", b"<p>", "text/html")
    answer = ada.get("/api/avatars/mine", If_None_Match=answer.headers["ETag"])
    assert (answer.status_code, answer.headers["Content-Disposition"]) == (200, "attachment")


@routes.get("/films/<id>", public=True, produces=["video/mp4"])
def film(path: FilePath) -> Response:
    return file_response(caller_services().files, path.id, max_age=60)


@routes.get("/kept/<id>", produces=["video/mp4"])
def kept_film(path: FilePath) -> Response:
    return file_response(app_services().files, path.id, max_age=60)


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=1500000-1500009", 206, slice(1_500_000, 1_500_010)),
        ("bytes=1499990-", 206, slice(1_499_990, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=0-", 206, slice(0, None)),
        *(
            (whole, 200, slice(0, None))
            for whole in ("bytes=0-1,4-5", "lines=0-1", "bytes=9-1", "bytes=x", "bytes=5000000-", "")
        ),
    ],
)
def test_a_range_of_a_file_is_sent_alone(site: Site, wanted: str, status: int, expected: slice) -> None:
    problems = watch(site.app)
    content = b"".join(number.to_bytes(4) for number in range(375_005))
    site.services.files.put("film", content, "video/mp4")
    ada = sign_in(site.app, "ada")
    answer = ada.get("/api/films/film", Range=wanted)
    assert answer.status_code == status
    assert answer.data == content[expected]
    assert answer.content_length == len(answer.data)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert problems == []


def test_a_range_is_read_without_what_is_before_it_and_of_the_same_content_alone(site: Site) -> None:
    problems = watch(site.app)
    site.services.files.put("film", b"0123456789", "video/mp4")
    ada = sign_in(site.app, "ada")
    etag = ada.get("/api/films/film").headers["ETag"]
    assert ada.get("/api/films/film", Range="bytes=2-3", If_Range=etag).data == b"23"
    assert ada.get("/api/films/film", If_None_Match=etag).status_code == 304
    assert problems == []
    site.services.files.put("film", b"abcdefghij", "video/mp4")
    changed = ada.get("/api/films/film", Range="bytes=2-3", If_Range=etag)
    assert (changed.status_code, changed.data) == (200, b"abcdefghij")


def test_a_file_is_kept_by_caches_between_only_if_its_route_is_public(site: Site) -> None:
    site.services.files.put("film", b"0123456789", "video/mp4")
    ada = sign_in(site.app, "ada")
    assert ada.get("/api/films/film").headers["Cache-Control"] == "public, max-age=60"
    assert ada.get("/api/kept/film").headers["Cache-Control"] == "private, max-age=60"


def test_pieces_begin_where_they_are_asked_to(kept: KeptFiles) -> None:
    kept.put("a", b"x" * 500 + b"end", "text/plain")
    for start, expected in ((0, b"x" * 500 + b"end"), (500, b"end"), (503, b"")):
        _, pieces = kept.read("a")
        pieces.seek(start)  # type: ignore[attr-defined]
        assert b"".join(pieces) == expected


def test_a_users_files_are_in_their_export_and_go_with_an_erasure(site: Site) -> None:
    site.services.files.within(ADA).put("avatar", b"ada's picture", "image/png")
    site.services.files.within(BOB).put("avatar", b"bob's picture", "image/png")
    job = start_export(site.services, ADA)
    site.runner.run(job.id)
    archive = b"".join(archive_of(site.services, ADA, job.id))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    assert contents["kept_files/1/avatar"] == b"ada's picture"
    assert b"image/png" in contents["kept_files.json"]
    assert not any(b"bob's" in each for each in contents.values())
    erasure_of(site.services).run("ada")
    assert site.services.files.within(ADA).find("avatar") is None
    folder = site.services.documents.files(APP)
    assert list(folder.names(ADA.kept_file("avatar"))) == []
    assert content(site.services.files.within(BOB), "avatar") == b"bob's picture"
