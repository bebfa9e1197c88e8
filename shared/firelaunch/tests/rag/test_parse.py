"""Each format gives its text in reading order, with the place of each block."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from firelaunch.rag.parse import Block, document_text, links, parse
from firelaunch.testing.documents import lines_of, pdf

Read = Callable[..., list[Block]]
TEXT = "The quick brown fox jumps over the lazy dog, and does so again every morning. " * 4
CHAPTER = f"# Chapter One\n\n{TEXT}\n\n## Part A\n\n{TEXT}\n\n{TEXT}"


def shape(blocks: list[Block]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(block.kind, block.headings, block.text) for block in blocks]


def test_a_pdf_gives_paragraphs_and_headings_with_their_pages(read: Read) -> None:
    blocks = read("a.pdf", pdf([lines_of(CHAPTER), lines_of(TEXT)]))
    assert [(block.kind, block.page, block.headings) for block in blocks] == [
        ("heading", 1, ("Chapter One",)),
        ("paragraph", 1, ("Chapter One",)),
        ("heading", 1, ("Chapter One", "Part A")),
        ("paragraph", 1, ("Chapter One", "Part A")),
        ("paragraph", 1, ("Chapter One", "Part A")),
        ("paragraph", 2, ("Chapter One", "Part A")),
    ]
    assert " ".join(blocks[1].text.split()) == TEXT.strip()


def test_a_word_that_a_pdf_parts_at_a_line_end_is_whole_again(read: Read) -> None:
    (block,) = read("a.pdf", pdf([[("It was an extra-", 11), ("ordinary day for all.", 11)]]))
    assert block.text == "It was an extraordinary day for all."


def test_a_word_document_gives_headings_lists_and_tables(read: Read, made: dict[str, bytes]) -> None:
    top = ("Handbook", "One")
    assert shape(read("a.docx", made["docx"])) == [
        ("heading", ("Handbook",), "Handbook"),
        ("heading", top, "One"),
        ("paragraph", top, "hello"),
        ("list", top, "- first"),
        ("list", top, "- second"),
        ("heading", (*top, "One and a half"), "One and a half"),
        ("table", (*top, "One and a half"), "r0c0 | r0c1\nr1c0 | r1c1\nr2c0 | r2c1"),
        ("heading", ("Handbook", "Two"), "Two"),
        ("paragraph", ("Handbook", "Two"), "مرحبا 漢字"),
    ]


def test_text_inserted_under_tracked_changes_is_read_and_deleted_text_is_not(
    read: Read, made: dict[str, bytes], part: Callable[..., bytes]
) -> None:
    tracked = (
        b'hello</w:t></w:r><w:ins w:id="1"><w:r><w:t> inserted</w:t></w:r></w:ins>'
        b'<w:del w:id="2"><w:r><w:delText> deleted</w:delText></w:r></w:del><w:r><w:t>'
    )
    changed = part(made["docx"], "word/document.xml", lambda xml: xml.replace(b"hello", tracked))
    assert "hello inserted" in [block.text for block in read("a.docx", changed)]


def test_slides_have_their_number_as_page_and_their_title_as_heading(read: Read, made: dict[str, bytes]) -> None:
    blocks = read("a.pptx", made["pptx"])
    assert {(block.page, block.headings) for block in blocks} == {(1, ("Plan",))}
    assert [block.text for block in blocks] == ["Plan", "one\ntwo", "r0c0 | r0c1\nr1c0 | r1c1", "Say hello."]


def test_a_workbook_gives_its_sheets_as_tables_whose_header_stands_in_each_block(
    read: Read, made: dict[str, bytes]
) -> None:
    blocks = read("a.xlsx", made["xlsx"])
    tables = [block for block in blocks if block.kind == "table" and block.page == 1]
    assert len(tables) > 2
    assert all(table.text.startswith("name | age\nperson ") for table in tables)
    assert [line for table in tables for line in table.text.splitlines()[1:]] == [
        f"person {number} | {number}.5" for number in range(200)
    ]
    assert shape(blocks)[-2:] == [("heading", ("Other",), "Other"), ("table", ("Other",), "x |  | 3")]


PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {}</style><script>alert(1)</script></head><body>
<nav><a href="/">menu</a></nav><h1>Head <b>line</b></h1><p>Hello <b>bold</b>ly<br>there<script>x()</script>
<span hidden>secret</span><i style="display: none">secret</i></p><!-- secret --><ul><li>a<li>b<ul><li>c</ul></ul>
<pre>code\n  more</pre><table><tr><th>h1<th>h2<tr><td>1<td>2</table>
<table><tr><td><h2>In a layout</h2><p>text</table>tail &amp; &lt;end&gt;</body></html>"""


@pytest.mark.parametrize("name", ["a.html", "a.txt", "a.pdf", "a"])
def test_a_page_gives_what_a_reader_sees_whatever_it_is_called(read: Read, name: str) -> None:
    head, below = ("Head line",), ("Head line", "In a layout")
    assert shape(read(name, PAGE.encode())) == [
        ("heading", head, "Head line"),
        ("paragraph", head, "Hello boldly\nthere"),
        ("list", head, "- a\n- b\n- c"),
        ("code", head, "code\n  more"),
        ("table", head, "h1 | h2\n1 | 2"),
        ("heading", below, "In a layout"),
        ("paragraph", below, "text"),
        ("paragraph", below, "tail & <end>"),
    ]


def test_a_page_that_marks_its_main_part_gives_that_part(read: Read) -> None:
    page = f"<html><body><div>Cookies!</div><main><p>{TEXT}</main><footer>Imprint</footer></body></html>"
    assert document_text(read("a.html", page.encode())) == TEXT.strip()


def test_links_of_a_page_come_with_its_base(tmp_path: Path) -> None:
    page = b'<html><base href="/b/"><a href="x">x</a><a href="y" rel="nofollow">y</a><a>none</a><area href=" z ">'
    (tmp_path / "page").write_bytes(page)
    with (tmp_path / "page").open("rb") as file:
        assert links(file) == ["/b/", "x", " z "]


MARKDOWN = """---
title: x
---
# One

Some *text*
over lines.

- a
- b

```py
# no heading
```

Two
---

[link]: https://example.com

| a | b |
|---|---|
| 1 | 2 |
"""


def test_markdown_keeps_its_source_and_its_headings(read: Read) -> None:
    blocks = read("a.md", MARKDOWN.encode())
    assert document_text(blocks) == MARKDOWN.rstrip("\n")
    assert [(block.kind, block.headings) for block in blocks] == [
        ("code", ()),
        ("heading", ("One",)),
        ("paragraph", ("One",)),
        ("list", ("One",)),
        ("code", ("One",)),
        ("heading", ("One", "Two")),
        ("paragraph", ("One", "Two")),
        ("table", ("One", "Two")),
    ]


def test_markdown_longer_than_a_window_is_rebuilt_exactly_and_keeps_its_headings(read: Read) -> None:
    section = f"## Section\n\n{TEXT}\n\n```\n\n\n# no heading\n\n```\n\n* list\n\n"
    source = "# Top\n\n" + section * 1_000
    blocks = read("a.md", source.encode())
    assert document_text(blocks) == source.rstrip("\n")
    assert {block.headings for block in blocks} == {("Top",), ("Top", "Section")}


def test_plain_text_is_its_own_text(read: Read) -> None:
    text = "\n\nOne.\nStill one.\n\n\n\nTwo. # no heading\n  \nStill two."
    blocks = read("a.txt", text.encode())
    assert document_text(blocks) == text
    assert [block.text[:4] for block in blocks] == ["One.", "Two."]


@pytest.mark.parametrize("text", ["name;born\nÁda;1815\n", "name,born\nÁda,1815\n", "name\tborn\nÁda\t1815\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_with_any_delimiter_is_a_table(read: Read, text: str, encoding: str) -> None:
    assert shape(read("a.csv", text.encode(encoding))) == [("table", (), "name | born\nÁda | 1815")]


def test_json_gives_each_value_with_its_place(read: Read) -> None:
    value = {"a": [1, 2.5, {"b": "x", "c": None}], "t": True, "e": {}, "n": [[3]]}
    expected = "a[0]: 1\na[1]: 2.5\na[2].b: x\nt: true\nn[0][0]: 3"
    assert shape(read("a.json", json.dumps(value).encode())) == [("code", (), expected)]


def test_records_of_json_lines_stay_whole(read: Read) -> None:
    lines = "\n".join(json.dumps({"id": number, "text": "word " * 60}) for number in range(50))
    blocks = read("a.jsonl", lines.encode())
    assert len(blocks) > 5
    assert all(block.text.startswith("id: ") for block in blocks)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße aus Köln, überall schön. Das ist ein deutscher Text über Straßen und Plätze.", "cp1252"),
        ("これは日本語のテキストです。文字コードの判定を試します。漢字とひらがな。" * 3, "shift_jis"),
        ("Hello world שלום", "utf-16"),
        ("Hello world, hello again שלום", "utf-16-le"),
        ("Hello world, hello again שלום", "utf-16-be"),
        ("مرحبا بالعالم. هذا نص عربي؟ نعم.", "utf-8"),
    ],
)
def test_text_in_any_encoding_is_read(read: Read, text: str, encoding: str) -> None:
    assert document_text(read("a.txt", text.encode(encoding))) == text


def test_a_few_bytes_of_another_encoding_do_not_spoil_a_text(read: Read) -> None:
    content = "Grüße aus Köln, überall ünd. ".encode() * 3 + "Straße".encode("cp1252") + " Ärger".encode()
    assert document_text(read("a.txt", content)).endswith("Straße Ärger")


def test_a_page_is_read_in_the_encoding_that_it_names(read: Read) -> None:
    page = '<html><head><meta charset="iso-8859-2"></head><body>zażółć gęślą</body></html>'
    assert document_text(read("a.html", page.encode("iso-8859-2"))) == "zażółć gęślą"


def test_progress_rises_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pdf([lines_of(TEXT)] * 30))
    seen: list[float] = []
    with (tmp_path / "a").open("rb") as file:
        assert list(parse(file, progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5


def test_only_a_regular_file_is_parsed() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"), pytest.raises(ValueError, match="regular"):
        list(parse(pipe))
