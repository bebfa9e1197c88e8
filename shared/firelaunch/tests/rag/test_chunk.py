"""Chunks: nothing of a document is lost, nothing is over the limit, and cuts fall where the document has breaks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from firelaunch.rag.chunk import Chunking, DocumentChunk, chunks
from firelaunch.rag.parse.base import KINDS, MAX_BLOCK, Block, Draft, document_text, place
from firelaunch.rag.parse.text import MAX_GAP, paragraphs
from firelaunch.rag.tokens import count_tokens, token_bound
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = st.sampled_from(
    [
        *(
            "word",
            "Sentence ends here. ",
            "Dr. Who said so! ",
            "第一章。",
            "漢字かな",
            "مرحبا؟ ",
            "שלום ",
            "\n",
            "\n\n",
        ),
        *(" ", "\t", "| a | b |\n", "x" * 40, "aGVsbG8gd29ybGQ", "1234567890", "e\u0301" * 9, "-----", "1.5"),
        "\U0001f468\u200d\U0001f469",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, min_size=1, max_size=60).map("".join), st.text(max_size=80))
DRAFTS = st.builds(
    Draft,
    TEXTS,
    st.sampled_from(KINDS),
    st.none() | st.integers(1, 9),
    st.lists(st.sampled_from(["One", "Two"]), max_size=2).map(tuple),
    st.none() | st.integers(0, 3),
)
CHUNKINGS = st.builds(
    lambda method, size, part: Chunking(method, size, int(size * part)),
    st.sampled_from(["structure", "fixed"]),
    st.integers(16, 120),
    st.floats(0, 0.5),
)


def blocks_of(text: str) -> list[Block]:
    return list(place(paragraphs(iter([text]))))


def cut(text: str, *settings: object) -> list[DocumentChunk]:
    return list(chunks(blocks_of(text), Chunking(*settings)))  # type: ignore[arg-type]


@settings(max_examples=150)
@given(st.lists(DRAFTS, max_size=8), CHUNKINGS)
def test_every_character_of_every_block_is_in_a_chunk_and_spans_are_exact(
    drafts: list[Draft], chunking: Chunking
) -> None:
    blocks = list(place(drafts))
    text = document_text(blocks)
    covered: set[int] = set()
    end = 0
    for chunk in chunks(blocks, chunking):
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.end > end, "each chunk brings something new"
        end = chunk.end
        covered.update(range(chunk.start, chunk.end))
    assert covered >= {at for block in blocks for at in range(block.start, block.end)}


@settings(max_examples=150)
@given(st.lists(DRAFTS, max_size=8), CHUNKINGS)
def test_no_chunk_is_over_the_limit_and_no_overlap_over_its_own(drafts: list[Draft], chunking: Chunking) -> None:
    blocks = list(place(drafts))
    text = document_text(blocks)
    last: DocumentChunk | None = None
    for chunk in chunks(blocks, chunking):
        assert chunk.tokens <= chunking.size
        assert count_tokens(chunk.text) <= chunk.tokens
        if last is not None:
            assert count_tokens(text[chunk.start : last.end]) <= chunking.overlap
        last = chunk


@settings(max_examples=150)
@given(st.lists(DRAFTS, max_size=8), CHUNKINGS)
def test_a_chunk_has_the_place_of_the_block_in_which_it_begins(drafts: list[Draft], chunking: Chunking) -> None:
    blocks = list(place(drafts))
    for chunk in chunks(blocks, chunking):
        block = next(block for block in blocks if block.start <= chunk.start < block.end)
        assert (chunk.page, chunk.headings) == (block.page, block.headings)


@settings(max_examples=150)
@given(TEXTS)
def test_blocks_of_plain_text_rebuild_it(text: str) -> None:
    text = text.replace("\x00", "x").replace("\r", "x")
    rebuilt = document_text(place(paragraphs(iter([text[:7], text[7:8], text[8:]]))))
    if text.strip():
        assert rebuilt.rstrip() == text.rstrip() or "\n" * MAX_GAP in text


@settings(max_examples=150)
@given(st.lists(DRAFTS, max_size=5))
def test_blocks_do_not_overlap_and_are_bounded(drafts: list[Draft]) -> None:
    end = 0
    for block in place(drafts):
        assert block.start >= end
        assert 0 < len(block.text) <= MAX_BLOCK
        end = block.end


@given(st.text() | st.text("ab1_ \u4e00\u0e01", max_size=60))
@settings(deadline=None)
def test_a_text_has_at_most_twice_as_many_tokens_as_characters(text: str) -> None:
    assert max(count_tokens(text), token_bound(text)) <= 2 * len(text)


def test_a_long_text_without_any_break_is_cut_by_length() -> None:
    found = cut("x" * 100_000, "structure", 64, 8)
    assert max(chunk.tokens for chunk in found) <= 64
    assert "".join(chunk.text for chunk in cut("x" * 100_000, "structure", 64, 0)) == "x" * 100_000


@pytest.mark.parametrize(
    "text", ["." * 200_000, "\n" * 9 + " " * 200_000 + "x", ". " * 50_000, "a.\n" * 50_000, "-" * 200_000]
)
def test_a_text_of_one_sign_is_cut_in_time_that_grows_with_its_length(text: str) -> None:
    """With the square of it, this test would take minutes."""
    assert sum(len(chunk.text) for chunk in cut(text, "structure", 64, 0)) > 0


def test_a_character_is_not_parted_from_its_accent() -> None:
    found = cut("e\u0301" * 3_000, "structure", 16, 0)
    assert len(found) > 2
    assert not [chunk for chunk in found if chunk.text[0] == "\u0301"]


SECTION = "Alpha is the first letter. It comes before beta. " * 3


def test_a_section_begins_a_chunk_and_keeps_its_heading() -> None:
    heading = Draft("Two", "heading", None, ("Two",))
    drafts = [Draft("One", "heading", None, ("One",)), Draft(SECTION, headings=("One",)), heading, Draft(SECTION)]
    found = list(chunks(place(drafts), Chunking("structure", 60, 10)))
    assert [chunk.text[:3] for chunk in found if chunk.headings == ("Two",)] == ["Two"]
    assert found[0].text.startswith("One\n\nAlpha")


def test_chunks_end_at_sentences_where_there_are_any() -> None:
    for text, end in ((SECTION * 20, ". "), ("这是一个句子。" * 200, "。")):
        for chunk in cut(text, "structure", 50, 0)[:-1]:
            assert chunk.text.endswith(end)


def test_an_abbreviation_ends_no_sentence() -> None:
    text = "It was Dr. Smith and J. Doe, e.g. from Acme Inc. of Ohio, who wrote to us about this matter again. " * 10
    assert {chunk.text[:7] for chunk in cut(text, "structure", 40, 0)} == {"It was "}


def test_rows_of_a_table_stay_whole() -> None:
    block = Block("\n".join(f"row {n} | a cell. Another | {n}" for n in range(100)), "table", 0)
    for chunk in chunks([block], Chunking("structure", 40, 10)):
        assert chunk.text.startswith("row ")


def test_overlap_repeats_whole_sentences() -> None:
    found = cut(SECTION * 20, "structure", 60, 20)
    for before, after in pairwise(found):
        repeated = before.text[after.start - before.start :]
        assert repeated
        assert repeated.startswith(("Alpha", "It comes"))


def test_equal_passages_under_equal_headings_hash_alike_wherever_they_stand() -> None:
    here = DocumentChunk("A passage.", 0, 1, ("Intro",), 2)
    assert here.hash == DocumentChunk("A passage.\n", 900, 7, ("Intro",), 2).hash
    assert here.hash != DocumentChunk("A passage.", 0, 1, ("Other",), 2).hash
    assert here.hash != DocumentChunk("A passage!", 0, 1, ("Intro",), 2).hash
    assert here.embedded_text == "Intro\nA passage."


def test_a_change_in_one_section_leaves_the_chunks_of_the_others_alone() -> None:
    def hashes(first: str) -> set[str]:
        drafts = []
        for number in range(10):
            title = (f"Section {number}",)
            body = first if number == 4 else SECTION + str(number)
            drafts += [Draft(title[0], "heading", None, title), Draft(body, "paragraph", None, title)]
        return {chunk.hash for chunk in chunks(place(drafts), Chunking("structure", 60, 10))}

    assert len(hashes("Changed. " * 9) - hashes(SECTION)) == 1


def test_settings_have_a_stable_name_and_each_changes_it() -> None:
    assert Chunking().fingerprint == "structure3-200-40"
    others = [Chunking("fixed"), Chunking(size=201), Chunking(overlap=41)]
    assert len({Chunking().fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    "wrong", [{"method": "clever"}, {"size": 15}, {"size": 8_193}, {"overlap": -1}, {"size": 100, "overlap": 51}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Chunking(**wrong)  # type: ignore[arg-type]


def test_chunks_come_while_blocks_still_do() -> None:
    taken = 0

    def blocks() -> object:
        nonlocal taken
        for block in blocks_of((SECTION + "\n\n") * 500):
            taken += 1
            yield block

    found = chunks(blocks(), Chunking())  # type: ignore[arg-type]
    next(found)
    assert taken < 20
