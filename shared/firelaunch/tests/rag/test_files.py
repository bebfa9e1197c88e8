"""Files of documents: a folder and a Cloud Storage bucket do the same."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes.cloud_storage import CloudStorageServer
from firelaunch.errors import Fenced, NotFound, StoreError, TooLarge
from firelaunch.rag.files import Files, LocalFiles
from firelaunch.rag.parse.base import Block
from firelaunch.rag.stored_text import read_blocks, write_blocks
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from hypothesis import given
from hypothesis import strategies as st

HERE = "apps/demo/users/ada d#1/documents/d1"


def cloud_files(server: CloudStorageServer, bucket: str = "files") -> Files:
    from firelaunch.rag.cloud_files import CloudFiles

    client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": server.url})  # type: ignore[no-untyped-call]
    return CloudFiles("demo", bucket, client, retry_seconds=0.5)


@pytest.fixture(params=["local", "cloud"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "local":
        yield LocalFiles(tmp_path)
        return
    with CloudStorageServer("files") as server:
        yield cloud_files(server)


def test_what_was_put_is_opened_as_a_regular_file_and_the_latest_stands(files: Files) -> None:
    large = os.urandom(9 * 2**20 + 3)  # in two parts
    for content in (b"", b"first", large):
        files.put(f"{HERE}/a", io.BytesIO(content))
        with files.open(f"{HERE}/a") as file:
            assert os.fstat(file.fileno()).st_size == len(content)
            assert file.read() == content


def test_a_file_is_read_in_pieces_of_a_megabyte_at_most(files: Files) -> None:
    large = os.urandom(3 * 2**20 + 3)
    for content in (b"", b"first", large):
        files.put(f"{HERE}/a", io.BytesIO(content))
        pieces = list(files.pieces(f"{HERE}/a"))
        assert b"".join(pieces) == content
        assert all(len(piece) <= 2**20 for piece in pieces)
    with pytest.raises(NotFound):
        next(files.pieces(f"{HERE}/none"))


def test_the_names_of_a_folders_files_are_those_directly_in_it(files: Files) -> None:
    assert list(files.names(HERE)) == []
    for name in ("b", "a ä?.png", "c"):
        files.put(f"{HERE}/{name}", io.BytesIO(b"x"))
    files.put(f"{HERE}/below/d", io.BytesIO(b"x"))
    files.put(f"{HERE}2/e", io.BytesIO(b"x"))
    assert list(files.names(HERE)) == ["a ä?.png", "b", "c"]


def test_a_file_that_arrives_in_a_folder_that_was_emptied_meanwhile_is_not_kept(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)

    class Arriving(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: object) -> int:
            files.delete(HERE)
            return 0

    with pytest.raises(Fenced):
        files.put(f"{HERE}/a", Arriving())  # type: ignore[arg-type]
    assert not files.has(f"{HERE}/a")


def test_files_that_come_and_go_in_one_folder_at_once_do_not_meet(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)

    def comes_and_goes(number: int) -> None:
        for _ in range(300):
            files.put(f"folder/{number}", io.BytesIO(b"content"))
            files.delete("folder", {f"{number}"})  # and with the last file the folder

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(comes_and_goes, range(8)))
    assert list(files.names("folder")) == []


def test_a_folder_is_emptied_of_names_or_of_all_and_no_other_folder_is(files: Files) -> None:
    for path in (f"{HERE}/a", f"{HERE}/b", f"{HERE}2/a", "apps/demo/library/d1/a"):
        files.put(path, io.BytesIO(b"x"))
    files.delete(HERE, ("a", "c"))
    assert files.has(f"{HERE}/b")
    assert not files.has(f"{HERE}/a")
    with pytest.raises(NotFound):
        files.open(f"{HERE}/a")
    for path in (f"{HERE}/b", f"{HERE}2/a", "apps/demo/library/d1/a"):
        files.open(path).close()
    files.delete(HERE)
    files.delete(HERE)
    with pytest.raises(NotFound):
        files.open(f"{HERE}/b")


def test_a_file_is_copied_and_both_stand_alone(files: Files) -> None:
    files.put(f"{HERE}/a", io.BytesIO(b"first"))
    files.copy(f"{HERE}/a", f"{HERE}/b")
    files.put(f"{HERE}/a", io.BytesIO(b"second"))
    with files.open(f"{HERE}/b") as file:
        assert file.read() == b"first"
    with pytest.raises(NotFound):
        files.copy(f"{HERE}/none", f"{HERE}/c")


class OnItsWay(io.RawIOBase):
    """A file that can be read once, and may break off."""

    def __init__(self, pieces: list[bytes], breaks: bool = False) -> None:
        self.pieces, self.breaks = pieces, breaks

    def seekable(self) -> bool:
        return False

    def read(self, _size: int = -1) -> bytes:
        if not self.pieces and self.breaks:
            raise TooLarge
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_file_on_its_way_is_put_as_it_comes_whatever_its_length(files: Files, size: int) -> None:
    content = os.urandom(size)
    files.put(f"{HERE}/a", OnItsWay([content[at : at + 50_000] for at in range(0, size, 50_000)]))  # type: ignore[arg-type]
    with files.open(f"{HERE}/a") as file:
        assert file.read() == content


@pytest.mark.parametrize("size", [0, 100, 3 * 2**20])
def test_of_a_file_that_breaks_off_nothing_is_kept_and_no_session_stays_open(size: int, tmp_path: Path) -> None:
    with CloudStorageServer("files") as server:
        for files in (cloud_files(server), LocalFiles(tmp_path)):
            with pytest.raises(TooLarge):
                files.put(f"{HERE}/a", OnItsWay([b"x" * size] * (size > 0), breaks=True))  # type: ignore[arg-type]
            with pytest.raises(NotFound):
                files.open(f"{HERE}/a")
        assert (server.objects, server.uploads) == ({}, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bucket_that_is_not_there_is_an_error_with_no_word_to_the_client() -> None:
    with CloudStorageServer("files") as server:
        files = cloud_files(server, "other")
        with pytest.raises((NotFound, StoreError)):
            files.put(f"{HERE}/a", io.BytesIO(b"x"))
    with pytest.raises(StoreError) as error:
        cloud_files(server).delete(HERE)
    assert "127.0.0.1" not in error.value.for_client[1]


BLOCKS = st.lists(
    st.builds(
        Block,
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
        st.sampled_from(["heading", "paragraph", "table"]),
        st.integers(0, 10**9),
        st.none() | st.integers(1, 500),
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=3).map(tuple),
    ),
    max_size=8,
)


@given(BLOCKS)
def test_a_text_that_was_stored_is_read_as_the_same_blocks(blocks: list[Block]) -> None:
    file = io.BytesIO()
    assert write_blocks(blocks, file) == (blocks[-1].end if blocks else 0)
    file.seek(0)
    assert list(read_blocks(file)) == blocks


def test_a_stored_text_that_is_damaged_says_so() -> None:
    file = io.BytesIO()
    write_blocks([Block("a" * 100, "paragraph", 0)], file)
    for damaged in (file.getvalue()[:-10], b"nothing"):
        with pytest.raises(StoreError):
            list(read_blocks(io.BytesIO(damaged)))
