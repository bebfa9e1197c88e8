"""Firestore's own index finds words as the embedded one does: in bounded reads, beside others, and after crashes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import FirelaunchError, IndexUnavailable
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.rag.index import firestore_words, segments
from firelaunch.rag.index.base import Entry, Hit, Index
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.firestore import FirestoreIndex
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.retrieve import RetrievalLimits, Retriever
from firelaunch.scope import Scope
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.firestore_reads import FirestoreReads

ADA, BEN, LIBRARY = Scope("demo", "ada"), Scope("demo", "ben"), Scope("demo")
V1 = "v1"
WORDS = [f"word{n}" for n in range(300)]
QUERIES = ("word1 word2 word3", "word7 word250", "word40 word0 word0 word5 word299")
Make = Callable[[], FirestoreIndex]


@pytest.fixture
def make(firestore_emulator: Emulator, firestore_project: str) -> Iterator[Make]:
    """Indexes of one database, each with a client of its own, as processes have."""
    made: list[FirestoreIndex] = []

    def one() -> FirestoreIndex:
        made.append(FirestoreIndex(firestore_project, client=firestore_emulator.client(firestore_project)))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def index(make: Make) -> FirestoreIndex:
    return make()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedIndex]:
    made = EmbeddedIndex(tmp_path / "index")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few chunks make what thousands make."""
    monkeypatch.setattr(segments, "INLINE_BYTES", 4_000)
    monkeypatch.setattr(segments, "_BLOCK_BYTES", 4_000)


def entries(document: str, count: int, seed: int) -> list[Entry]:
    some = random.Random(seed)  # noqa: S311 - keeps no secret
    return [
        Entry(f"{document}-{n}", document, " ".join(some.choices(WORDS, range(300, 0, -1), k=some.randint(3, 30))))
        for n in range(count)
    ]


def scores(index: Index, scope: Scope = ADA) -> list[dict[str, float]]:
    found = [index.matching(scope, V1, query, 500, library=False) for query in QUERIES]
    return [{hit.entry.id: hit.score for hit in hits} for hits in found]


def same(index: Index, other: Index, scope: Scope = ADA) -> bool:
    return all(one == pytest.approx(two) for one, two in zip(scores(index, scope), scores(other, scope), strict=True))


def postings(index: FirestoreIndex, scope: Scope = ADA) -> list[Any]:
    return list(index._client.collection(scope.postings()).stream())


def left_over(index: FirestoreIndex) -> set[str]:
    """What belongs to no segment that is searched."""
    found = postings(index)
    live = {each.id for each in found if each.get("kind") == "live"}
    return {each.id for each in found} - live - {e.id for e in found if e.id.rpartition(".")[0] in live}


def test_scores_are_the_embedded_indexs_through_uploads_replacements_and_deletions(
    index: FirestoreIndex, embedded: EmbeddedIndex
) -> None:
    for n in range(24):
        for each in (index, embedded):
            each.upsert(ADA, V1, entries(f"d{n}", 7, n))
    kinds = [each.get("kind") for each in postings(index)]
    assert "block" in kinds
    assert kinds.count("live") <= 9
    assert set(kinds) == {"live", "block"}
    assert same(index, embedded)

    for each in (index, embedded):
        each.upsert(ADA, V1, [Entry(e.id, e.document, "word1 word299") for e in entries("d3", 7, 3)])
        each.delete(ADA, "d5", version=V1)
        each.delete(ADA, "d7", version=V1, ids=[f"d7-{n}" for n in (0, 3, 4, 5, 6)])
    assert same(index, embedded)
    names = {chunk.name for found in postings(index) if found.get("kind") == "live"
             for chunk in segments.Roster.of(found.get("data")).chunks}  # fmt: skip
    assert "d5-0" not in names
    assert "d7-0" not in names, "what is deleted leaves no posting"

    for each in (index, embedded):
        each.delete(ADA, version=V1)
    assert postings(index) == []


def test_two_documents_of_one_owner_that_come_and_go_at_once_lose_no_posting_and_no_statistic(
    make: Make, embedded: EmbeddedIndex
) -> None:
    failed: list[BaseException] = []

    def work(process: FirestoreIndex, number: int) -> None:
        try:
            for n in range(8):
                process.upsert(ADA, V1, entries(f"d{number}-{n}", 5, 10 * number + n))
                if n % 3 == 2:
                    process.delete(ADA, f"d{number}-{n - 1}", version=V1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(make(), number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(4):
        for n in range(8):
            if n not in {1, 4}:
                embedded.upsert(ADA, V1, entries(f"d{number}-{n}", 5, 10 * number + n))
    assert same(make(), embedded)


class Killed(BaseException):
    """The process dies."""


def test_a_crash_at_any_commit_leaves_nothing_wrong_and_the_next_try_makes_it_whole(  # noqa: C901 - one story of a crash at each commit
    make: Make, embedded: EmbeddedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an upload that ends in a merge with blocks, and of a deletion from a large segment."""
    from google.cloud.firestore_v1.batch import WriteBatch

    monkeypatch.setattr(firestore_words, "_LEFT_BEHIND", firestore_words.timedelta(0))
    commit, left = WriteBatch.commit, [10_000]

    def dying(batch: WriteBatch, *args: Any, **more: Any) -> Any:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return commit(batch, *args, **more)

    monkeypatch.setattr(WriteBatch, "commit", dying)
    index = make()
    for n in range(7):
        for each in (index, embedded):
            each.upsert(ADA, V1, entries(f"d{n}", 40, n))

    def settled(work: Callable[[Index], None]) -> int:
        """Do it with a death at each commit in turn, then to its end; how many deaths there were."""
        for deaths in range(60):
            left[0] = deaths
            try:
                work(make())
            except Killed:
                left[0] = 10_000
                held = {e.id for n in range(9) for e in make().read(ADA, V1, f"d{n}") for e in [e.entry]}
                for found in scores(make()):
                    assert set(found) <= held, "no chunk is found that is not there"
            else:
                left[0] = 10_000
                return deaths
        raise AssertionError

    more = entries("d7", 40, 7)
    embedded.upsert(ADA, V1, more)
    assert settled(lambda each: each.upsert(ADA, V1, more)) > 3
    assert same(make(), embedded)
    embedded.delete(ADA, "d2", version=V1)
    assert settled(lambda each: each.delete(ADA, "d2", version=V1)) > 2
    assert same(make(), embedded)
    assert left_over(index) == set(), "what the dead left is taken away"

    for n in range(8, 24):
        for each in (index, embedded):
            each.upsert(ADA, V1, entries(f"d{n}", 2, n))
    assert left_over(index) == set()
    assert same(make(), embedded)


def test_a_question_that_meets_merges_finds_what_is_there_all_the_time(make: Make) -> None:
    index, asking = make(), make()
    index.upsert(ADA, V1, [Entry("first", "first", "unusual word1")])
    stop = threading.Event()
    missed: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                if [hit.entry.id for hit in asking.matching(ADA, V1, "unusual", 5)] != ["first"]:
                    missed.append("not found")
            except IndexUnavailable as error:
                missed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for n in range(30):
        index.upsert(ADA, V1, entries(f"d{n}", 12, n))
    stop.set()
    thread.join()
    assert missed == []


def test_an_owners_words_and_their_statistics_are_no_other_owners(index: FirestoreIndex) -> None:
    index.upsert(ADA, V1, entries("d1", 20, 1))
    before = scores(index)
    index.upsert(BEN, V1, entries("d2", 40, 2))
    index.upsert(LIBRARY, V1, entries("d3", 40, 3))
    assert scores(index) == before
    found = index.matching(ADA, V1, "word1 word2", 50)
    assert {hit.owner for hit in found} == {"user:ada", "library"}
    index.drop("demo", V1)
    assert [postings(index, scope) for scope in (ADA, BEN, LIBRARY)] == [[], [], []]


def test_a_hit_whose_chunk_is_gone_is_not_given(index: FirestoreIndex) -> None:
    """As between the two halves of a deletion that was broken off."""
    index.upsert(ADA, V1, [Entry("a", "d", "word1 one"), Entry("b", "d", "word1 two")])
    index._chunk(ADA, V1, "a").delete()
    unread = index.matching(ADA, V1, "word1", 5, texts=False)
    assert {(hit.entry.id, hit.unread, hit.entry.text) for hit in unread} == {("a", True, ""), ("b", True, "")}
    (hit,) = index.texts(ADA, unread)
    assert (hit.entry.id, hit.entry.text, hit.unread) == ("b", "word1 two", False)


class Axis:
    """A model without a network."""

    id, batch_texts, batch_tokens = "axis", 100, 100_000

    def request(self, texts: Any, *, query: bool, seconds: float) -> Embedded:  # noqa: ARG002 - of the port
        return Embedded(np.ones((len(texts), 4), np.float32), tokens=1)


def test_a_hybrid_search_reads_what_it_shows_and_no_more_whatever_the_number_of_chunks(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    client = firestore_emulator.client(firestore_project)
    index = FirestoreIndex(firestore_project, client=client)
    for scope in (ADA, LIBRARY):
        for n in range(12):
            made = [Entry(e.id, e.document, e.text, np.ones(4, np.float32)) for e in entries(f"d{n}", 90, n)]
            index.upsert(scope, V1, made)
    retriever = Retriever(ScopedIndex(index, "demo"), lambda: V1, Embedder(Axis()), RetrievalLimits())  # type: ignore[arg-type]
    retriever.search(ADA, "warm up")
    reads = FirestoreReads(client, lambda *_: 1_080)
    for query in (QUERIES[0], " ".join(WORDS[:12])):
        reads.reset()
        found = retriever.search(ADA, query)
        assert len(found.passages) == 8
        assert all(passage.hit.entry.text and not passage.hit.unread for passage in found.passages)
        assert reads.documents <= 150
        assert reads.entries == 2 * 11, "the entries of the vector index are paid for as well"
    index.close()


def test_an_app_without_an_embedder_is_searched_by_words_alone_on_firestore(index: FirestoreIndex) -> None:
    scoped = ScopedIndex(index, "demo")
    scoped.upsert(ADA, V1, [Entry("a", "d1", "the lift of a wing"), Entry("b", "d2", "heat in slabs")])
    found = Retriever(scoped, lambda: V1, None).search(ADA, "wings lift")
    assert [(p.hit.entry.id, p.hit.entry.text) for p in found.passages] == [("a", "the lift of a wing")]
    assert found.mode == "lexical"
    assert isinstance(found.passages[0].hit, Hit)


def test_the_longest_texts_of_the_densest_script_fit_into_firestores_documents(index: FirestoreIndex) -> None:
    some = random.Random(3)  # noqa: S311 - keeps no secret
    dense = ["".join(chr(some.randint(0x4E00, 0x9FFF)) for _ in range(30_000)) for _ in range(3)]
    try:
        index.upsert(ADA, V1, [Entry(f"c{n}", "d", text) for n, text in enumerate(dense)])
    except FirelaunchError as error:
        raise AssertionError(error.reason) from error
    assert [h.entry.id for h in index.matching(ADA, V1, dense[1][:4], 1)] == ["c1"]
