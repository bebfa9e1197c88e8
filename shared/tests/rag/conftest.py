"""One index after another, for the suite that all of them must pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firelaunch.rag.index.base import Index
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.vector_search import VectorSearchServer
from firelaunch.testing.vertex_index import VertexIndexServer
from google.auth.credentials import AnonymousCredentials

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
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL with pgvector, and the URL of its superuser."""
    import pgserver

    folder = tmp_path_factory.mktemp("postgres")
    with pgserver.get_server(folder, cleanup_mode="delete") as server:
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
        AnonymousCredentials(),  # type: ignore[no-untyped-call]
        vertex_server.base_url,
        vertex_server.base_url,
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
