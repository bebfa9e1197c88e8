"""Tables in all formats: each passage names its columns, and each value stands in its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.jobs import embedded_site
from firelaunch.rag.chunk import Chunking, chunks
from firelaunch.rag.parse import Block
from firelaunch.rag.parse.base import Draft, place
from firelaunch.rag.parse.tables import TABLE_TOKENS, pieces, table
from firelaunch.rag.tokens import count_tokens
from firelaunch.testing.apps import sign_in
from hypothesis import given
from hypothesis import strategies as st

Read = Callable[..., list[Block]]
HEADER = ["Customer", "Region", "Q1", "Q2"]
BODY = [[f"Customer {n}", "North", str(n * 1013 % 9973), str(n * 1117 % 9973)] for n in range(100)]


def texts(rows: list[list[str]], header_rows: int | None = None) -> list[str]:
    return [draft.text for draft in table(rows, header_rows=header_rows)]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def passages(drafts: list[Draft]) -> list[str]:
    return [chunk.text for chunk in chunks(place(iter(drafts)), Chunking())]


def test_each_passage_of_a_long_table_begins_with_the_names_of_its_columns() -> None:
    found = passages(
        [Draft("A few words about the sales of the year. " * 6), *table([HEADER, *BODY]), Draft("The end.")]
    )
    for text in found[1:]:
        assert text.startswith("Customer | Region | Q1 | Q2\n") or not any(
            cell in text for cell in ("North", "Customer")
        )
    for row in BODY:
        assert sum(" | ".join(row) in text for text in found) == 1


def test_the_header_is_found_below_titles_which_are_headings_of_its_rows() -> None:
    drafts = list(table([["Sales report 2024"], [], ["All regions", ""], HEADER, *BODY]))
    assert [(draft.kind, draft.text) for draft in drafts[:2]] == [
        ("heading", "Sales report 2024"),
        ("paragraph", "All regions"),
    ]
    assert all(draft.text.startswith("Customer | Region | Q1 | Q2\n") for draft in drafts[2:])
    assert all(draft.headings == ("Sales report 2024",) for draft in drafts)


def test_empty_cells_keep_their_place() -> None:
    rows = [
        ["SKU", "Bin", "Stock", "Change"],
        ["SKU-8847", "A-12", "450"],
        ["", "B-07", "289", "-23"],
        ["X", "", "", "1"],
    ]
    lines = texts(rows)[0].split("\n")
    assert [cells(line) for line in lines] == [
        ["SKU", "Bin", "Stock", "Change"],
        ["SKU-8847", "A-12", "450", ""],
        ["", "B-07", "289", "-23"],
        ["X", "", "", "1"],
    ]


def test_numbers_are_no_header_and_years_are() -> None:
    numbers = [[str(n), str(n * 7)] for n in range(3, 200)]
    assert all(text.count("3 | 21\n") == (at == 0) for at, text in enumerate(texts(numbers)))
    years = [["", "2023", "2024"], *[[f"Item {n}", str(n), str(2 * n)] for n in range(100)]]
    assert all(text.startswith(" | 2023 | 2024\n") for text in texts(years))


def test_a_header_of_groups_and_names_is_one_line() -> None:
    rows = [["", "2023", "", "2024", ""], ["Region", "Q1", "Q2", "Q1", "Q2"], ["North", "1", "2", "3", "4"]]
    assert texts(rows)[0].split("\n") == ["Region | 2023 Q1 | 2023 Q2 | 2024 Q1 | 2024 Q2", "North | 1 | 2 | 3 | 4"]


def test_a_second_table_below_a_gap_has_its_own_header() -> None:
    rows = [["Name", "Age"], ["Ann", "30"], [], ["Cities"], ["City", "People"], ["Bern", "140"], [], ["Uster", "35"]]
    assert texts(rows) == ["Name | Age\nAnn | 30", "Cities", "City | People\nBern | 140\nUster | 35"]


def test_a_long_cell_continues_below_its_column_s_name_and_beside_its_row_s_first_cell() -> None:
    answer = " ".join(f"Sentence number {n} says a little." for n in range(60))
    found = texts([["Question", "Answer"], ["May I return it?", answer], ["Who pays?", "We do."]])
    assert len(found) > 3
    assert all(text.startswith("Question | Answer\nMay I return it? | ") for text in found[:-1])
    assert found[-1] == "Question | Answer\nWho pays? | We do."
    assert " ".join(text.split(" | ")[-1] for text in found[:-1]) == answer


def test_a_wide_table_is_cut_between_columns_and_each_part_has_the_first_one() -> None:
    names = ["Key", *(f"Measure {n}" for n in range(60))]
    rows = [names, *[[f"row{r}", *(f"{r}{n:02}" for n in range(60))] for r in range(1, 30)]]
    seen = set()
    for text in texts(rows):
        top, *lines = (cells(line) for line in text.split("\n"))
        assert top[0] == "Key"
        seen |= {(line[0], name, value) for line in lines for name, value in zip(top[1:], line[1:], strict=True)}
    assert seen == {(row[0], name, value) for row in rows[1:] for name, value in zip(names[1:], row[1:], strict=True)}


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="|\x00"), max_size=30)


@given(st.lists(st.lists(_CELLS, max_size=6), max_size=30), st.sampled_from([None, 0, 1, 2]))
def test_every_word_of_every_cell_is_in_the_text(rows: list[list[str]], header_rows: int | None) -> None:
    words = set("\n".join(texts(rows, header_rows)).split())
    assert all(word in words for row in rows for cell in row for word in cell.split())


@given(st.text(st.sampled_from("ab .!?\u3002\u4e00"), max_size=3_000))
def test_parts_of_a_long_cell_fit_and_lose_nothing(text: str) -> None:
    text = " ".join(text.split())
    parts = pieces(text, TABLE_TOKENS)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(count_tokens(part) <= TABLE_TOKENS for part in parts)


@pytest.mark.parametrize("size", [150, 200, 400, 1_000])
def test_no_chunk_that_can_hold_a_block_cuts_it(size: int) -> None:
    blocks = list(place(table([HEADER, *BODY])))
    for chunk in chunks(blocks, Chunking(size=size)):
        assert chunk.text.startswith("Customer | Region")
        assert chunk.end in {block.end for block in blocks}


def test_a_long_table_of_markdown_repeats_its_header_and_a_short_one_is_its_source(read: Read) -> None:
    rows = "\n".join(f"| SKU-{n} | {'' if n % 3 else n} | {n * 7} |" for n in range(60))
    source = f"# Stock\n\n| SKU | Bin | Count |\n|---|---|---|\n{rows}\n\nAfter."
    found = [chunk.text for chunk in chunks(read("a.md", source.encode()), Chunking())]
    assert all("| SKU | Bin | Count |\n|---|---|---|\n" in text for text in found if "SKU-" in text)
    assert sum(text.count("\n| SKU-") for text in found) == 60
    short = "| a | b |\n|---|---|\n| 1 |  |"
    assert [block.text for block in read("a.md", short.encode())] == [short]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_may_have_a_title_above_its_table(read: Read, delimiter: str) -> None:
    lines = [
        "Sales, all regions" if delimiter == ";" else "Sales 2024",
        "",
        *(delimiter.join(row) for row in [HEADER, *BODY]),
    ]
    blocks = read("a.csv", "\n".join(lines).encode())
    assert blocks[0].text == lines[0]
    assert all(block.text.startswith("Customer | Region | Q1 | Q2\n") for block in blocks[1:])


def test_a_question_about_one_cell_finds_its_row_with_the_names_of_the_columns(tmp_path: Path) -> None:
    with embedded_site(tmp_path) as site:
        ada = sign_in(site.app, "ada")
        lines = ["Sales report 2024", "", *(",".join(row) for row in [HEADER, *BODY])]
        ada.document(ada.upload("sales.csv", "\n".join(lines).encode()).get_json()["id"])
        found = ada.post("/v1/search", {"query": "What was Q2 of Customer 57?"}).get_json()["passages"][0]
        top, *rows = found["text"].split("\n")
        row = next(cells(row) for row in rows if row.startswith("Customer 57 |"))
        assert dict(zip(cells(top), row, strict=True)) == dict(zip(HEADER, BODY[57], strict=True))
        query = f"start={found['start']}&end={found['end']}&chunk_id={found['chunk_id']}"
        opened = ada.get(f"/v1/documents/{found['document_id']}/text?{query}").get_json()
        assert opened["text"] == found["text"]
