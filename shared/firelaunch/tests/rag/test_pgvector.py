"""What is PostgreSQL's own: row-level security, HNSW, and a database that is away."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from firelaunch.errors import IndexFailed, IndexUnavailable
from firelaunch.rag.index import pgvector
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.pgvector import PgvectorIndex
from firelaunch.scope import Scope

ADA, SHOP = Scope("demo", "ada"), Scope("shop", "ada")
ONE = np.array([1.0, 0.0, 0.0], np.float32)


@pytest.fixture
def index(pgvector_index: PgvectorIndex) -> Any:
    yield pgvector_index
    pgvector_index.close()


def test_a_statement_with_a_wrong_filter_reads_and_writes_no_other_apps_rows(index: PgvectorIndex) -> None:
    """Even for a role that is a superuser, as the tests' is."""
    index.upsert(ADA, "v1", [Entry("a", "d", "mine", ONE)])
    index.upsert(SHOP, "v1", [Entry("b", "d", "theirs", ONE)])
    with index._transaction(ADA) as run:
        assert run("SELECT id FROM firelaunch_chunks", []) == [("a",)]
        assert run("SELECT id FROM firelaunch_chunks WHERE app = 'shop'", []) == []
        run("UPDATE firelaunch_chunks SET body = 'changed'", [])
        run("DELETE FROM firelaunch_chunks WHERE app = 'shop'", [])
    assert [hit.entry.text for hit in index.read(SHOP, "v1", "d")] == ["theirs"]
    with pytest.raises(IndexFailed, match="row-level security"), index._transaction(ADA) as run:
        run("UPDATE firelaunch_chunks SET app = 'shop'", [])
    with index._transaction(ADA) as run:
        run("SELECT set_config('firelaunch.app', '', true)", [])
        assert run("SELECT id FROM firelaunch_chunks", []) == []


def test_no_app_is_left_named_when_a_connection_goes_back_to_the_pool(index: PgvectorIndex) -> None:
    index.upsert(ADA, "v1", [Entry("a", "d", "mine", ONE)])
    with index._pool.connection() as connection:
        assert connection.execute("SELECT current_setting('firelaunch.app', true)").fetchone()[0] in {"", None}


def test_a_large_owners_search_goes_through_hnsw_and_a_small_ones_misses_nothing(
    index: PgvectorIndex, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((400, 3)).astype(np.float32)
    index.upsert(SHOP, "v1", [Entry(f"e{n}", "d", "t", v) for n, v in enumerate(vectors)])
    index.upsert(ADA, "v1", [Entry(f"a{n}", "d", "t", -v) for n, v in enumerate(vectors[:5])])
    with psycopg.connect(postgres) as connection:
        found = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'firelaunch_hnsw%'").fetchall()
    assert len(found) == 1
    monkeypatch.setattr(pgvector, "_EXACT_ROWS", 3)
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1)
    wanted = {f"e{n}" for n in np.argsort(-cosines)[:10]}
    assert {hit.entry.id for hit in index.nearest(SHOP, "v1", vectors[7], 10)} == wanted
    assert len(index.nearest(ADA, "v1", vectors[0], 5)) == 5


def test_text_with_a_nul_is_kept_without_it(index: PgvectorIndex) -> None:
    index.upsert(ADA, "v1", [Entry("a", "d", "one\x00two", ONE)])
    assert index.read(ADA, "v1", "d")[0].entry.text == "one\ufffdtwo"


def test_a_long_text_with_one_word_many_times_is_kept_and_found(index: PgvectorIndex) -> None:
    index.upsert(ADA, "v1", [Entry("a", "d", "it's \\wing " * 20_000 + "rare", ONE)])
    assert len(index.matching(ADA, "v1", "rare wing", 5)) == 1


def test_several_processes_may_make_the_table_at_once(index: PgvectorIndex, postgres: str) -> None:
    import threading

    others = [PgvectorIndex(postgres) for _ in range(4)]
    threads = [threading.Thread(target=other.count, args=(ADA, "v1")) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.count(ADA, "v1") == 0
    for other in others:
        other.close()


def test_a_database_that_is_away_is_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgvector, "_WAIT_SECONDS", 1.0)
    away = PgvectorIndex("postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(IndexUnavailable) as raised:
        away.count(ADA, "v1")
    assert "secret" not in str(raised.value)
