"""What is the embedded index's own: it is killed, shared by processes, large, and short of memory."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import IndexFailed
from firelaunch.rag.index import codes, postings, shard
from firelaunch.rag.index import vectors as vectors_room
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.vectors import Matrix, Middle, unit
from firelaunch.rag.index.words import Analyzer, QueryPart, is_word, parts_of
from firelaunch.scope import Scope

ADA = Scope("demo", "ada")
D = 16

WRITER = """
import sys
import numpy as np
from pathlib import Path
from firelaunch.rag.index import shard
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.scope import Scope

index = EmbeddedIndex(Path(sys.argv[1]))
for batch in range(10_000):
    vector = np.full(16, 1.0 + batch, np.float32)
    index.upsert(Scope("demo", "ada"), "v1", [
        Entry(f"b{batch}-{n}", f"doc{batch}", f"wing number{batch}", vector) for n in range(20)
    ])
    print(batch, flush=True)
"""


def entries(vectors: Any, first: int = 0) -> list[Entry]:
    return [Entry(f"e{first + n}", f"d{n % 2}", f"word{n}", vector) for n, vector in enumerate(vectors)]


@pytest.mark.parametrize("acknowledged", [0, 3])
def test_a_write_that_was_acknowledged_survives_kill_9_and_one_that_was_not_leaves_nothing_half(
    tmp_path: Path, acknowledged: int
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    last = [writer.stdout.readline() for _ in range(acknowledged + 1)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    heard = [last, *writer.stdout.read().split()]
    writer.wait()
    told = int(heard[-1])

    index = EmbeddedIndex(tmp_path)
    count = index.count(ADA, "v1")
    assert count % 20 == 0
    assert count >= 20 * (told + 1)
    hits = index.nearest(ADA, "v1", np.ones(D, np.float32), 1000)
    assert len(hits) == min(count, 1000) == len({hit.entry.id for hit in hits})
    assert len(index.matching(ADA, "v1", "wing", 1000)) == min(count, 1000)
    index.upsert(ADA, "v1", entries(np.eye(D, dtype=np.float32)))
    assert index.count(ADA, "v1") == count + D
    index.close()
    for path in tmp_path.rglob("*.sqlite3"):
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_readers_see_what_another_process_writes_and_only_whole_writes(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    index = EmbeddedIndex(tmp_path)
    try:
        for line in writer.stdout:
            hits = index.nearest(ADA, "v1", np.ones(D, np.float32), 1000)
            assert len(hits) >= min(20 * (int(line) + 1), 1000)
            assert len(hits) % 20 == 0
            assert index.count(ADA, "v1") >= len(hits)
            if int(line) >= 40:
                break
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
        index.close()


def test_many_readers_beside_a_writer_always_get_whole_answers(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    rng = np.random.default_rng(1)
    index.upsert(ADA, "v1", entries(rng.standard_normal((300, D), dtype=np.float32)))
    short: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found = index.nearest(ADA, "v1", rng.standard_normal(D).astype(np.float32), 50)
            if len(found) != 50:
                short.append(len(found))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for batch in range(30):
        index.upsert(ADA, "v1", entries(rng.standard_normal((50, D), dtype=np.float32), first=batch * 10))
        index.delete(ADA, "d0", version="v1", ids=[f"e{n}" for n in range(1, 300, 2)])
    done.set()
    for reader in readers:
        reader.join()
    assert short == []
    index.close()


def test_owners_beyond_the_bound_on_memory_are_read_again_and_found_again(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path, memory_bytes=10_000)
    users = [Scope("demo", f"u{n}") for n in range(8)]
    for number, user in enumerate(users):
        vectors = np.full((100, D), 1.0 + number, np.float32)
        index.upsert(user, "v1", entries(vectors))
    for _ in range(2):
        for user in users:
            assert len(index.nearest(user, "v1", np.ones(D, np.float32), 100)) == 100
            assert sum(shard.memory for shard in index._shards.values()) <= 10_000
    index.close()


def test_more_owners_than_files_may_be_open_are_all_kept(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    users = [Scope("demo", f"u{n}") for n in range(150)]
    for user in users:
        index.upsert(user, "v1", entries(np.eye(1, D, dtype=np.float32)))
    assert [index.count(user, "v1") for user in users] == [1] * 150
    assert len(list(Path("/proc/self/fd").iterdir())) < 400
    index.close()


def test_a_file_that_was_moved_to_another_owner_is_refused(tmp_path: Path) -> None:
    """So that a restored backup, or a mistake, cannot show one user's documents to another."""
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", entries(np.eye(2, D, dtype=np.float32)))
    index.close()
    (path,) = (tmp_path / "demo" / "v1").glob("*.sqlite3")
    index = EmbeddedIndex(tmp_path)
    index.upsert(Scope("demo", "ben"), "v1", entries(np.eye(1, D, dtype=np.float32)))
    index.close()
    (bens,) = [other for other in path.parent.glob("*.sqlite3") if other != path]
    path.replace(bens)
    index = EmbeddedIndex(tmp_path)
    with pytest.raises(IndexFailed, match="holds"):
        index.nearest(Scope("demo", "ben"), "v1", np.ones(D, np.float32), 5)
    index.close()


def test_terms_of_another_language_need_another_version(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path, Analyzer("english"))
    index.upsert(ADA, "v1", [Entry("a", "d", "wings")])
    index.close()
    with pytest.raises(IndexFailed, match="another version"):
        EmbeddedIndex(tmp_path, Analyzer("german")).matching(ADA, "v1", "wings", 5)


def test_what_was_erased_is_not_in_the_files_any_more(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [Entry("a", "d", "confidential xyzzy", np.ones(D, np.float32))])
    index.delete(ADA)
    index.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"xyzzy" in path.read_bytes()]


def test_entries_without_vectors_are_found_by_words_alone(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [Entry("a", "d", "wings")])
    assert index.nearest(ADA, "v1", np.ones(D, np.float32), 5) == []
    assert len(index.matching(ADA, "v1", "wing", 5)) == 1
    index.close()


TOPICS = ("aspirin dose fever the", "wing lift flow", "refund policy the order", "die versicherung zahlt den schaden")


def ranked_by_formula(index: EmbeddedIndex, scope: Scope, question: str) -> dict[str, float]:
    """Return the entries that BM25 finds for a question, computed from the texts alone, with their scores."""
    k1, b = 1.2, 0.75
    (path,) = (index._folder / scope.app_id / "v1").glob("*.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, text, place FROM entries").fetchall()
        present = [name for (name,) in connection.execute("SELECT name FROM languages")]
    analyzed = {name: Analyzer().analyze(text, "", json.loads(place)["language"]) for name, text, place in rows}
    average = max(1.0, sum(text.length for text in analyzed.values()) / max(1, len(analyzed)))
    scores: Counter[str] = Counter()
    for part in parts_of(Analyzer().question(question, present)):
        fragments = len(part.fragments)
        for term in (*part.forms, *part.fragments):
            having = sum(term in text.terms for text in analyzed.values())
            idf = max(1e-6, math.log((len(analyzed) - having + 0.5) / (having + 0.5)))
            share = (4 if is_word(term) else 1) / (4 + fragments)
            for name, text in analyzed.items():
                times = text.terms.count(term)
                if times and (not part.languages or text.language in part.languages):
                    norm = k1 * (1 - b + b * text.length / average)
                    scores[name] += part.weight * share * idf * (k1 + 1) * times / (times + norm)
    return dict(scores)


@pytest.mark.parametrize("seed", range(4))
def test_words_are_scored_as_the_formula_says_after_each_write_and_removal(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_MOST_ADDED", 30)  # so that postings are both appended and read again
    dice = random.Random(seed)  # noqa: S311 - the same dice each time
    languages = ("english", "german") if seed % 2 else ("english",)
    index = EmbeddedIndex(tmp_path)

    def entry(number: int) -> Entry:
        language = dice.choice(languages)
        words = " ".join(TOPICS).split() if language == "english" else [*TOPICS[3].split(), "Schadenfall", "zahlung"]
        text = " ".join(dice.choice(words) for _ in range(dice.randrange(1, 60)))
        return Entry(f"e{number}", f"d{number % 7}", text, place={"language": language})

    for step in range(12):
        index.upsert(ADA, "v1", [entry(dice.randrange(120)) for _ in range(dice.choice([1, 3, 40]))])
        if dice.random() < 0.4:
            index.delete(ADA, f"d{dice.randrange(7)}")
        for question in (*TOPICS, "the order", "Schaden", "aspirin aspirin wing"):
            wanted = ranked_by_formula(index, ADA, question)
            found = {hit.entry.id: hit.score for hit in index.matching(ADA, "v1", question, 200)}
            assert found == pytest.approx(wanted, rel=1e-5), (step, question)
    index.close()


def words_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the terms whose postings are read from a file."""
    read: list[str] = []
    original = shard._Terms.postings
    monkeypatch.setattr(shard._Terms, "postings", lambda terms, term: read.append(term) or original(terms, term))
    return read


def test_the_first_search_reads_no_postings_of_common_words_that_cannot_change_what_is_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_FEW", 20)
    monkeypatch.setattr(postings, "_READ_AT_ONCE", 200)
    read = words_read(monkeypatch)
    index = EmbeddedIndex(tmp_path)
    rare = [4 * letter for letter in "bcdfghjklmnpqrtvwxz"]
    texts = [f"aspirin dose {n % 8 * 'dose '} {rare[n % len(rare)]}" for n in range(10 * len(rare))]
    index.upsert(ADA, "v1", [Entry(f"e{n}", "d", text, place={"language": "english"}) for n, text in enumerate(texts)])
    wanted = ranked_by_formula(index, ADA, "aspirin dose cccc")
    best = {f"e{n}": wanted[f"e{n}"] for n in range(1, len(texts), len(rare))}
    for words in (["cccc"], ["aspirin"], ["dose"], []):
        hits = index.matching(ADA, "v1", "aspirin dose cccc", 10)
        assert {hit.entry.id: hit.score for hit in hits} == pytest.approx(best, rel=1e-5)
        assert [hit.score for hit in hits] == pytest.approx(sorted(best.values(), reverse=True))
        assert read == words, "and later ones read few words at a time"
        read.clear()
    index.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_best_without_postings_of_common_words_are_those_that_the_formula_puts_first(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_FEW", 3)
    read = words_read(monkeypatch)
    dice = random.Random(seed)  # noqa: S311 - the same dice each time
    languages = ("english", "german") if seed % 2 else ("english",)
    words = [f"{word}{n}" for n, word in enumerate(3 * " ".join(TOPICS).split())]
    spared = 0

    def entry(number: int) -> Entry:
        text = " ".join(words[int(dice.paretovariate(0.7)) % len(words)] for _ in range(dice.randrange(1, 60)))
        return Entry(f"e{number}", f"d{number % 7}", text, place={"language": dice.choice(languages)})

    index = EmbeddedIndex(tmp_path)
    for step in range(6):
        index.upsert(ADA, "v1", [entry(dice.randrange(300)) for _ in range(150)])
        if step % 2:
            index.delete(ADA, f"d{dice.randrange(7)}")
        index.close()
        index = EmbeddedIndex(tmp_path)
        for question in (" ".join(dice.sample(words[:40], 4)) for _ in range(4)):
            read.clear()
            wanted = ranked_by_formula(index, ADA, question)
            hits = index.matching(ADA, "v1", question, 5)
            best = sorted(wanted.values(), reverse=True)[:5]
            assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-5), (step, question)
            assert [hit.score for hit in hits] == pytest.approx([wanted[hit.entry.id] for hit in hits], rel=1e-5)
            spared += len({*Analyzer("english").query(question)} - {*read})
    assert spared > 10
    index.close()


def test_a_search_reads_each_term_from_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = words_read(monkeypatch)
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [Entry(f"e{n}", "d", f"wing number {n}") for n in range(50)])
    for number in range(3):
        assert len(index.matching(ADA, "v1", "wing numbers", 60)) == 50 + number
        index.upsert(ADA, "v1", [Entry(f"more{number}", "d", "another wing")])
    assert sorted(read) == ["number", "wing"]
    index.close()


@pytest.mark.parametrize("k", [1, 3, 9, 50])
def test_the_best_of_many_texts_are_those_that_a_search_for_all_puts_first(tmp_path: Path, k: int) -> None:
    dice = random.Random(k)  # noqa: S311 - the same dice each time
    words = ["aspirin", "dose", "fever", "wing", "lift", "flow", "order"]
    index = EmbeddedIndex(tmp_path)
    texts = [" ".join(dice.choice(words) for _ in range(dice.randrange(2, 9))) for _ in range(2_700)]
    index.upsert(ADA, "v1", [Entry(f"e{n}", f"d{n}", text) for n, text in enumerate(texts)])
    index.delete(ADA, "d7")
    best = [hit.entry.id for hit in index.matching(ADA, "v1", "aspirin wing", k)]
    assert best == [hit.entry.id for hit in index.matching(ADA, "v1", "aspirin wing", 2_000)][:k]
    assert len(best) == k
    index.close()


def test_postings_beyond_the_bound_on_memory_are_read_again_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_MOST_POSTINGS", 30)
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [Entry(f"e{n}", "d", f"wing flow{n}") for n in range(40)])
    for _ in range(2):
        assert len(index.matching(ADA, "v1", "wing", 60)) == 40
        assert next(hit.entry.id for hit in index.matching(ADA, "v1", "flow7", 60)) == "e7"
    index.close()


class OfTwoTexts:
    """The terms of a file in which two of three texts have each word."""

    def postings(self, term: str) -> list[tuple[int, float]]:  # noqa: ARG002
        return [(1, 0.5), (3, 0.25)]

    def having(self, word: str) -> int:  # noqa: ARG002
        return 2

    def terms_of(self, rows: Sequence[int]) -> list[dict[str, int]]:
        raise NotImplementedError


def test_a_file_of_few_texts_keeps_few_of_the_words_that_were_asked_for() -> None:
    """However many different questions come: an app has a file for each user who has documents."""
    words = [f"flow{n}" for n in range(2_000)]
    lexicon = postings.Lexicon(1, 0, postings.Texts.of([1, 2, 3], [2_000] * 3))
    sizes = []
    for word in words:
        best = lexicon.best([QueryPart((), (word,))], 3, OfTwoTexts())
        assert [row for row, _ in best] == [1, 3]
        sizes.append(lexicon.nbytes)
    assert sizes[-1] == sizes[100] < 64_000


@pytest.fixture(scope="module")
def many() -> Any:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((20_000, 64), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def matrix_of(vectors: Any, size: int = 3_000) -> Matrix:
    matrix = Matrix(vectors.shape[1], Middle(len(vectors), vectors.mean(axis=0)))
    for begin in range(0, len(vectors), size):
        part = vectors[begin : begin + size]
        matrix = matrix.add(range(begin + 1, begin + 1 + len(part)), [row.tobytes() for row in part])
    return matrix


def exact(vectors: Any, query: Any, k: int, usable: Any = None) -> set[int]:
    cosines = vectors @ unit(query)
    if usable is not None:
        cosines[~usable] = -9
    return set((np.argsort(-cosines)[:k] + 1).tolist())


def recall(found: list[tuple[int, float]], wanted: set[int]) -> float:
    return len({row for row, _ in found} & wanted) / len(wanted)


@pytest.mark.parametrize("count", [0, 1, 9_000])
def test_vectors_that_are_read_when_they_are_compared_are_found_as_those_that_were_there_at_once(
    many: Any, count: int
) -> None:
    vectors, middle = many[:count], Middle(count, many.mean(axis=0))
    blocks = [
        (np.arange(first + 1, first + 1 + len(part)), middle.codes(part).tobytes())
        for first in range(0, count, 700)
        if len(part := vectors[first : first + 700])
    ]
    asked: list[int] = []

    def read(rows: Sequence[int]) -> list[tuple[int, bytes]]:
        asked.extend(rows)
        return [(row, many[row - 1].tobytes()) for row in rows]

    coded = Matrix.coded(64, middle, blocks, count + 5)
    at_once = Matrix(64, middle).add(range(1, count + 1), [vector.tobytes() for vector in vectors])
    assert coded.last == at_once.last == count
    for query in many[7:10]:
        assert coded.nearest(query, 20, None, read) == at_once.nearest(query, 20)
    assert len(asked) == len(set(asked)), "no vector is read twice"
    assert coded.nbytes <= at_once.nbytes
    more = coded.add([count + 9], [many[7].tobytes()])
    assert more.nearest(many[7], 1, None, read)[0][0] in {8, count + 9}


def test_rows_whose_vectors_are_gone_are_not_found(many: Any) -> None:
    middle = Middle(9_000, many.mean(axis=0))
    coded = Matrix.coded(64, middle, [(np.arange(1, 9_001), middle.codes(many[:9_000]).tobytes())], 9_000)
    found = coded.nearest(
        many[3], 500, None, lambda rows: [(row, many[row - 1].tobytes()) for row in rows if row % 2 == 0]
    )
    assert len(found) == 500
    assert all(row % 2 == 0 for row, _ in found)


def test_the_short_list_holds_nearly_all_of_the_nearest(many: Any) -> None:
    matrix = matrix_of(many)
    queries = np.random.default_rng(4).standard_normal((20, 64), dtype=np.float32)
    assert np.mean([recall(matrix.nearest(q, 10), exact(many, q, 10)) for q in queries]) >= 0.95


def test_vectors_that_all_point_the_same_way_are_told_apart(many: Any) -> None:
    shifted = many + 0.5
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    matrix = matrix_of(shifted)
    assert np.mean([recall(matrix.nearest(q, 10), exact(shifted, q, 10)) for q in shifted[:20]]) >= 0.95


@pytest.mark.parametrize("removed", [0.1, 0.6])
def test_removed_and_filtered_rows_are_never_found_and_the_rest_is(many: Any, removed: float) -> None:
    rng = np.random.default_rng(5)
    there = rng.random(len(many)) > removed
    rows = np.flatnonzero(there) + 1
    before = matrix_of(many)
    matrix = before.without((np.flatnonzero(~there) + 1).tolist())
    query = many[0] + many[1]
    assert recall(matrix.nearest(query, 10), exact(many, query, 10, there)) >= 0.9
    assert {row for row, _ in matrix.nearest(query, 500)} <= set(rows.tolist())
    allowed = rows[:40]
    assert {row for row, _ in matrix.nearest(query, 500, allowed)} == set(allowed.tolist())
    more = matrix.add([20_001], [unit(query).tobytes()])
    assert more.nearest(query, 1)[0][0] == 20_001
    assert matrix.nearest(query, 1)[0][0] != 20_001, "an older matrix does not see what was added after it"
    assert len(before.nearest(query, 1_000)) == 1_000


def of_tables(path: Path, sql: str) -> Any:
    (file,) = path.rglob("*.sqlite3")
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def soon_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare few vectors, so that files have codes soon, in small blocks."""
    for module, name, value in ((codes, "COMPARED", 60), (codes, "_BLOCK", 8), (vectors_room, "COMPARED", 60)):
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("soon_coded")
def test_the_first_search_by_vectors_reads_codes_and_the_vectors_of_its_short_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_room, "_COMPARED_FACTOR", 1)
    rng = np.random.default_rng(3)
    index = EmbeddedIndex(tmp_path)
    for first in range(0, 1_000, 100):
        index.upsert(ADA, "v1", entries(rng.standard_normal((100, D), dtype=np.float32), first=first))
    index.close()
    read: list[int] = []
    of_rows, behind = shard._vectors_of, shard._vectors

    def vectors_of(connection: Any, rows: Sequence[int]) -> Any:
        read.extend(rows)
        return of_rows(connection, rows)

    def vectors(connection: Any, after: int) -> Any:
        for rows, found in behind(connection, after):
            read.extend(rows)
            yield rows, found

    monkeypatch.setattr(shard, "_vectors_of", vectors_of)
    monkeypatch.setattr(shard, "_vectors", vectors)
    index = EmbeddedIndex(tmp_path)
    assert len(index.nearest(ADA, "v1", rng.standard_normal(D).astype(np.float32), 10)) == 10
    assert 60 <= len(read) < 200
    index.close()


@pytest.mark.usefixtures("soon_coded")
@pytest.mark.parametrize("seed", range(3))
def test_files_hold_codes_of_the_vectors_they_hold_and_of_no_others(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same dice each time
    rng = np.random.default_rng(seed)
    index, other = EmbeddedIndex(tmp_path), EmbeddedIndex(tmp_path)
    kept: dict[str, Any] = {}
    coded = 0
    for step in range(40):
        made = rng.standard_normal((dice.choice([1, 4, 60]), D), dtype=np.float32) + np.float32(0.5)
        first = dice.randrange(400)
        index.upsert(ADA, "v1", [Entry(f"e{first + n}", f"d{n % 3}", "word", vector) for n, vector in enumerate(made)])
        kept |= {f"e{first + n}": vector for n, vector in enumerate(made)}
        if step % 5 == 4:
            gone = dice.sample(sorted(kept), len(kept) // 3)
            index.delete(ADA, version="v1", ids=gone)
            kept = {name: vector for name, vector in kept.items() if name not in gone}
        there = {row for (row,) in of_tables(tmp_path, "SELECT row FROM vectors")}
        stored = of_tables(tmp_path, "SELECT rows, codes FROM codes ORDER BY first")
        rows = [row for numbers, _ in stored for row in np.frombuffer(numbers, np.int64).tolist()]
        assert rows == sorted(set(rows))
        assert set(rows) <= there
        assert sum(len(each) for _, each in stored) == 8 * len(rows)
        coded = max(coded, len(rows))
        for each in (index, other, EmbeddedIndex(tmp_path)):
            hits = each.nearest(ADA, "v1", rng.standard_normal(D).astype(np.float32), 500)
            assert {hit.entry.id for hit in hits} == set(kept)
    assert coded > 100
    index.delete(ADA)
    assert of_tables(tmp_path, "SELECT (SELECT count(*) FROM codes), (SELECT count(*) FROM middle)") == [(0, 0)]
    index.close()
    other.close()


@pytest.mark.usefixtures("soon_coded")
def test_a_file_of_before_codes_is_searched_and_gets_codes_with_its_next_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((300, D), dtype=np.float32)
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", entries(vectors))
    index.close()
    of_tables(tmp_path, "DROP TABLE codes")
    of_tables(tmp_path, "DROP TABLE middle")
    for count in (0, 1):
        index = EmbeddedIndex(tmp_path)
        found = [hit.entry.id for hit in index.nearest(ADA, "v1", vectors[5], 3)]
        assert found[0] == "e5"
        assert len(of_tables(tmp_path, "SELECT made_of FROM middle")) == count
        index.upsert(ADA, "v1", entries(vectors[:1]))
        index.close()


@pytest.mark.parametrize("kept", [1_000, 3], ids=["few removals", "more than are kept"])
def test_what_another_process_removed_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Two indexes of one folder know of each other what two processes do."""
    monkeypatch.setattr(shard, "_REMOVALS_KEPT", kept)
    searching, removing = EmbeddedIndex(tmp_path), EmbeddedIndex(tmp_path)
    vectors = np.random.default_rng(3).standard_normal((40, D), dtype=np.float32)
    removing.upsert(ADA, "v1", entries(vectors))

    def found() -> set[str]:
        return {hit.entry.id for hit in searching.nearest(ADA, "v1", vectors[0], 100)}

    assert len(found()) == 40
    for number in range(0, 20, 2):
        removing.delete(ADA, "d0", version="v1", ids=[f"e{number}"])
    removing.upsert(ADA, "v1", entries(vectors[:1], first=5))
    assert found() == {f"e{number}" for number in range(40)} - {f"e{number}" for number in range(0, 20, 2)}
    searching.close()
    removing.close()


def test_a_file_of_before_removals_were_logged_logs_them_from_now_on(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    vectors = np.random.default_rng(3).standard_normal((4, D), dtype=np.float32)
    index.upsert(ADA, "v1", entries(vectors))
    index.close()
    (path,) = tmp_path.rglob("*.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TRIGGER log_removal; DROP TABLE removals;")
    index = EmbeddedIndex(tmp_path)
    assert len(index.nearest(ADA, "v1", vectors[0], 10)) == 4
    index.delete(ADA, "d1", version="v1", ids=["e1"])
    assert {hit.entry.id for hit in index.nearest(ADA, "v1", vectors[0], 10)} == {"e0", "e2", "e3"}
    index.close()


def test_numpy_and_the_stemmer_wait_until_an_index_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import firelaunch.services.build\n"
        "from firelaunch.rag.index.embedded import EmbeddedIndex\n"
        "from firelaunch.rag.index.scoped import ScopedIndex\n"
        "print(*{'numpy', 'Stemmer', 'openai'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == []
