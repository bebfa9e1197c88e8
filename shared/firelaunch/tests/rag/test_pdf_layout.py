"""PDFs: tables without rules, values of forms, Arabic as browsers draw it, and what is a heading."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from firelaunch.rag.parse import Block
from firelaunch.rag.parse.pdf import is_heading
from firelaunch.rag.parse.pdf_layout import PdfLine, PdfTable, PdfWord, find_tables
from firelaunch.rag.parse.right_to_left import line_in_reading_order, visual_words
from firelaunch.testing.documents import pdf, pdf_of_objects

Read = Callable[..., list[Block]]
Cell = tuple[float, str]


def placed(rows: list[list[Cell]], top: int = 700, step: int = 20, size: int = 11) -> bytes:
    """Return a PDF of texts at their places from the left, a row below the other."""
    content = "".join(
        f"BT /F1 {size} Tf {x} {top - step * at} Td ({text}) Tj ET\n" for at, row in enumerate(rows) for x, text in row
    )
    return pdf([content.encode()])


STOCK: list[list[Cell]] = [
    [(72, "SKU"), (200, "Bin"), (300, "Stock"), (400, "Change")],
    [(72, "SKU-8847"), (200, "A-12"), (300, "450")],
    [(200, "B-07"), (300, "289"), (400, "-23")],
    [(72, "SKU-9001"), (300, "12"), (400, "4")],
]
ROWS = ["SKU | Bin | Stock | Change", "SKU-8847 | A-12 | 450 |", " | B-07 | 289 | -23", "SKU-9001 |  | 12 | 4"]


@pytest.mark.parametrize("step", [13, 20, 35])
def test_a_table_without_rules_keeps_its_columns_and_its_empty_cells(read: Read, step: int) -> None:
    blocks = read("stock.pdf", placed(STOCK, step=step))
    assert [(block.kind, block.text.split("\n")) for block in blocks] == [("table", ROWS)]


def test_a_table_that_goes_on_on_the_next_page_has_its_header_there(read: Read) -> None:
    rows = [[(72.0, f"SKU-{n}"), (200.0, f"A-{n}"), (300.0, str(n)), (400.0, "1")] for n in range(100, 130)]
    pages = [
        "".join(
            f"BT /F1 11 Tf {x} {760 - 20 * at} Td ({text}) Tj ET\n" for at, row in enumerate(page) for x, text in row
        )
        for page in ([STOCK[0], *rows], rows)
    ]
    blocks = read("stock.pdf", pdf([page.encode() for page in pages]))
    assert {block.page for block in blocks} == {1, 2}
    assert all(block.text.startswith("SKU | Bin | Stock | Change\n") for block in blocks)


def test_a_page_with_the_end_of_a_table_has_all_of_its_columns(read: Read) -> None:
    rows = [[(72.0, f"SKU-{n}"), (200.0, f"A-{n}"), (300.0, str(n)), (400.0, "1")] for n in range(100, 110)]
    last = [[(72.0, "SKU-200"), (200.0, "A-200"), (300.0, "9")]]
    pages = [
        "".join(
            f"BT /F1 11 Tf {x} {760 - 20 * at} Td ({text}) Tj ET\n" for at, row in enumerate(page) for x, text in row
        )
        for page in ([STOCK[0], *rows], last)
    ]
    blocks = read("stock.pdf", pdf([page.encode() for page in pages]))
    assert blocks[-1].text == "SKU | Bin | Stock | Change\nSKU-200 | A-200 | 9 |"


def test_a_name_of_two_columns_stands_above_the_left_one() -> None:
    found = tables(
        line(700, (187, "2023"), (387, "2024")),
        line(680, (50, "Region"), (150, "Q1"), (250, "Q2"), (350, "Q1"), (450, "Q2")),
        line(660, (50, "North"), (150, "10"), (250, "20"), (350, "30"), (450, "40")),
    )
    assert found[0][0] == ["", "2023", "", "2024", ""]


def line(baseline: float, *cells: tuple[float, str]) -> PdfLine:
    words = []
    for left, text in cells:
        for word in text.split():
            words.append(PdfWord(word, left, left + 6 * len(word)))
            left += 6 * len(word) + 3
    return PdfLine(" ".join(text for _, text in cells), 10, baseline, tuple(words))


def tables(*lines: PdfLine) -> list[list[list[str]]]:
    return [item.rows for item in find_tables(lines) if isinstance(item, PdfTable)]


def test_a_wrapped_cell_is_one_cell_in_whatever_order_its_lines_are_drawn() -> None:
    found = tables(
        line(700, (50, "Item"), (150, "About"), (400, "Price")),
        line(664, (50, "Lamp")),
        line(676, (150, "A brass lamp with a linen shade")),
        line(664, (150, "and two metres of cord, and a")),
        line(652, (150, "spare bulb.")),
        line(664, (400, "89.00")),
        line(616, (50, "Chair"), (150, "Oak."), (400, "140.50")),
    )
    about = "A brass lamp with a linen shade and two metres of cord, and a spare bulb."
    assert found == [[["Item", "About", "Price"], ["Lamp", about, "89.00"], ["Chair", "Oak.", "140.50"]]]


def test_a_title_across_columns_is_one_cell() -> None:
    found = tables(
        line(700, (50, "Region"), (150, "Revenue in thousands of euros")),
        line(680, (50, "."), (150, "Q1"), (250, "Q2")),
        line(660, (50, "North"), (150, "10"), (250, "20")),
        line(640, (50, "South"), (150, "30"), (250, "40")),
    )
    assert found[0][0] == ["Region", "Revenue in thousands of euros", ""]
    assert found[0][2] == ["North", "10", "20"]


def test_prose_in_columns_lists_and_contents_are_no_tables() -> None:
    prose = [
        line(700 - 12 * n, (50, "words go on and on in the column"), (300, "and so they do in this")) for n in range(9)
    ]
    bullets = [line(500 - 12 * n, (50, "\u2022"), (80, f"point {n} of the list")) for n in range(5)]
    contents = [line(300 - 12 * n, (50, f"Chapter {n}"), (150, ". . . . . ."), (400, str(n))) for n in range(5)]
    assert tables(*prose) == tables(*bullets) == tables(*contents) == []


def test_values_of_a_filled_form_are_read_with_the_names_that_readers_see(read: Read) -> None:
    fields = [
        "/FT /Tx /T (f1_01) /TU (Full name) /V (Ada Lovelace)",
        "/FT /Tx /T (City) /V (London)",
        "/FT /Tx /T (Empty)",
        "/FT /Ch /Ff 131072 /T (Country) /Opt [(UK) (FR)] /V (UK)",
        "/FT /Btn /T (Newsletter) /V /Yes /AS /Yes /AP << /N << /Yes 9 0 R /Off 9 0 R >> >>",
        "/FT /Btn /T (Adverts) /V /Off /AS /Off /AP << /N << /Yes 9 0 R /Off 9 0 R >> >>",
    ]
    blocks = read("form.pdf", form(fields))
    assert [block.text for block in blocks] == [
        "Application",
        "Full name: Ada Lovelace\nCity: London\nCountry: UK\nNewsletter: yes\nSeen by Bob.",
    ]


def form(fields: list[str]) -> bytes:
    """Return a PDF with form fields, and a note that someone typed onto its page."""
    first = 10
    widgets = [
        f"<< /Type /Annot /Subtype /Widget /Rect [100 {600 - 30 * n} 300 {620 - 30 * n}] /P 3 0 R {field} >>"
        for n, field in enumerate(fields)
    ]
    widgets.append("<< /Type /Annot /Subtype /FreeText /Rect [50 50 200 80] /Contents (Seen by Bob.) /DA (/F1 9 Tf) >>")
    names = " ".join(f"{first + n} 0 R" for n in range(len(widgets)))
    content = "BT /F1 11 Tf 72 700 Td (Application) Tj ET"
    empty = "<< >>"
    return pdf_of_objects(
        [
            f"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [{names}] /DR << /Font << /F1 5 0 R >> >> >> >>",
            "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            f" /Resources << /Font << /F1 5 0 R >> >> /Annots [{names}] >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            *[empty] * 3,
            "<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] /Length 0 >>\nstream\n\nendstream",
            *widgets,
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "1 Introduction",
        "2.3 Cusps and Cosets",
        "How do I reset it?",
        "User\u2019s Guide",
        "Tom and Jerry",
        "3 \u65b9\u6cd5",
        "\u0646\u0638\u0627\u0645",
    ],
)
def test_titles_are_headings(text: str) -> None:
    assert is_heading(text, front=False)


@pytest.mark.parametrize(
    "text",
    [
        "f(x) = x + 1",
        "(X \u2212 \u03c4)",
        "Z s2",
        "(convert a vector",
        "9",
        "\u2211 a i",
        "see the following,",
        "Keywords: lamps, light",
    ],
)
def test_formulas_parts_of_sentences_and_keywords_are_no_headings(text: str) -> None:
    assert not is_heading(text, front=False)


@pytest.mark.parametrize(
    "text",
    ["Ada Lovelace, Charles Babbage", "Ada Lovelace\u2217 and John von Neumann\u2020", "By Ada Lovelace",
     "University of London", "A. M. Turing1, K. G\u00f6del2", "ada@example.com"],
)  # fmt: skip
def test_authors_on_the_first_page_are_no_headings(text: str) -> None:
    assert not is_heading(text, front=True)


def drawn(line: str, size: float = 10) -> list[tuple[str, float, float]]:
    """Return the characters of a line as a browser places them, for a line whose first character is the rightmost."""
    places = []
    right = 500.0
    for character in line:
        width = 0 if character == "\u0651" else 3 if character == " " else 5
        places.append((character, right - width, right))
        right -= width
    return [place for place in places if place[0] != " "]


@pytest.mark.parametrize(
    "line",
    [
        "\u0633\u064a\u0627\u0633\u0629 \u0627\u0644\u0625\u0631\u062c\u0627\u0639",
        "\u05de\u05d3\u05d9\u05e0\u05d9\u05d5\u05ea \u05d4\u05d7\u05d6\u05e8\u05d5\u05ea",
        "\u0627\u0644\u0634\u0651\u0631\u0648\u0637 (\u0627\u0644\u0645\u0627\u062f\u0629)",
    ],
)
@pytest.mark.parametrize("reverse", [True, False])
def test_a_line_from_right_to_left_is_read_by_place_whatever_order_it_is_drawn_in(line: str, reverse: bool) -> None:
    characters = drawn(line)
    words = visual_words(characters[::-1] if reverse else characters, 10)
    assert line_in_reading_order(words) == line


def test_latin_words_in_a_line_from_right_to_left_keep_their_order() -> None:
    arabic = drawn("\u0642\u0627\u0644 ")
    left = min(place[1] for place in arabic) - 3
    latin = [(c, left - 60 + 5 * at, left - 55 + 5 * at) for at, c in enumerate("Hello Ada") if c != " "]
    more = [(c, a - 100, b - 100) for c, a, b in drawn("\u0641\u064a \u0627\u0644\u0628\u064a\u062a")]
    words = visual_words([*arabic, *latin, *more], 10)
    assert line_in_reading_order(words) == "\u0642\u0627\u0644 Hello Ada \u0641\u064a \u0627\u0644\u0628\u064a\u062a"
