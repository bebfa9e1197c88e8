"""Postings in segments give the scores of SQLite's own BM25, however the chunks came in and whatever went since."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
from firelaunch.rag.index import segments
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.segments import Roster, Segment, block_of, merged, of_entries, rank, unpacked
from firelaunch.rag.index.typos import Vocabulary, corrected
from firelaunch.rag.index.words import Analyzer, QueryPart, parts_of
from firelaunch.scope import Scope
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
ANALYZER = Analyzer("english")

texts = st.lists(
    st.sampled_from(
        [
            "wing",
            "flow",
            "lift",
            "drag",
            "heat",
            "shock",
            "plate",
            "流体",
            "the",
            "Rückgabefristen",
            "für",
            "und",
            "remboursement des articles dans les quatorze jours",
        ]
    ),
    max_size=12,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.tuples(st.integers(0, 12), texts), min_size=1, max_size=6)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 12), max_size=4)),
        st.tuples(st.just("merge"), st.integers(0, 5)),
    ),
    max_size=12,
)


def entry(number: int, words: Sequence[str]) -> Entry:
    return Entry(f"c{number}", f"d{number % 3}", " ".join(words), None, {"lang": "de"} if number % 2 else {})


def kept(segment: Segment) -> Segment:
    """The segment after it was written and read."""
    packed = segment.pack()
    roster = Roster.of(packed.head)
    if not packed.blocks:
        return Segment(segment.order, roster, unpacked(packed.head), languages=segment.languages)
    postings = [unpacked(block) for block in packed.blocks]
    for n, block in enumerate(postings):
        assert {block_of(term, len(postings)) for term in block} <= {n}
    return Segment(
        segment.order, roster, {t: p for block in postings for t, p in block.items()}, len(postings), segment.languages
    )


class Terms(Vocabulary):
    """The terms of the chunks that are left, as the embedded index has them."""

    def __init__(self, held: Sequence[Segment]) -> None:
        postings = merged(held).postings if held else {}
        self._counts = {term: len(posting.chunks) for term, posting in postings.items()}

    def has(self, term: str) -> bool:
        return term in self._counts

    def beginning(self, letter: str) -> dict[str, int]:
        return {term: count for term, count in self._counts.items() if term.startswith(letter)}


@pytest.mark.parametrize("analyzer", [ANALYZER, Analyzer()], ids=["english", "auto"])
@given(steps, st.sampled_from([0, 40, 10_000]))
def test_scores_are_those_of_the_embedded_index_after_any_writes_deletions_and_merges(
    analyzer: Analyzer, todo: list[tuple[str, list[object]]], inline: int
) -> None:
    clock = count()
    held: list[Segment] = []
    languages: set[str] = set()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(segments, "INLINE_BYTES", inline)
        patch.setattr(segments, "_BLOCK_BYTES", 50)
        index = EmbeddedIndex(Path(folder), analyzer)
        for kind, about in todo:
            if kind == "write":
                entries = list({e.id: e for e in (entry(n, words) for n, words in about)}.values())  # type: ignore[misc]
                index.upsert(ADA, "v1", entries)
                held.append(kept(of_entries(next(clock), entries, analyzer)))
                languages |= held[-1].languages
            elif kind == "delete":
                gone = {f"c{n}" for n in about}
                for document in ("d0", "d1", "d2"):
                    index.delete(ADA, document, version="v1", ids=gone)
                held = [kept(merged([s], lambda chunk: chunk.name not in gone)) for s in held]  # noqa: B023
            else:
                some = int(about)  # type: ignore[call-overload]
                held = [kept(merged(held[:some])), *held[some:]] if held[:some] else held
        for query in ("wing", "flow drag heat", "流体 shock", "plate the plate wing", "Fristen rembourser"):
            for where in ({}, {"document": ["d1"]}, {"lang": ["de"], "document": ["d0", "d1"]}):
                wanted = {h.entry.id: h.score for h in index.matching(ADA, "v1", query, 50, where)}
                terms = parts_of(corrected(analyzer.question(query, languages), Terms(held)))
                found = {r.chunk.name: r.score for r in rank(held, terms, 50, where)}
                assert found == pytest.approx(wanted)
        index.close()


def test_the_best_come_first_and_no_more_than_were_asked_for() -> None:
    made = of_entries(0, [entry(n, ["wing"] * (n % 7) + ["plate"] * 9) for n in range(40)], ANALYZER)
    found = rank([made], [QueryPart((), ("wing",))], 5)
    assert len(found) == 5
    assert [r.score for r in found] == sorted(
        (r.score for r in rank([made], [QueryPart((), ("wing",))], 40)), reverse=True
    )[:5]


def test_a_large_segment_lies_in_blocks_that_a_firestore_document_holds() -> None:
    """Of the longest lists that can be: 32,768 chunks that all have the same terms, and thousands that few have."""
    words = [f"w{n}" for n in range(60)]
    entries = [entry(n, [*words, f"rare{n}", f"odd{n % 500}"]) for n in range(segments.MAX_CHUNKS)]
    packed = of_entries(0, entries, ANALYZER).pack()
    sizes = [sum(map(len, block.values())) for block in packed.blocks]
    assert max(sizes) < 900_000
    assert sum(map(len, packed.head.values())) < 900_000
    assert len(sizes) < 60


def test_times_and_lengths_that_are_too_large_for_their_bytes_are_bounded() -> None:
    made = kept(of_entries(0, [entry(1, ["wing"] * 70_000), entry(2, ["plate"])], ANALYZER))
    (best,) = rank([made], [QueryPart((), ("wing",))], 5)
    assert (best.chunk.name, best.chunk.length) == ("c1", 65_535)
