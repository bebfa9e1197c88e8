"""The size of a PDF: its pages, and no fewer bytes of text than any reader finds."""

from __future__ import annotations

from io import BytesIO
from tempfile import TemporaryFile

import pytest
from firelaunch.errors import DocumentUnreadable
from firelaunch.rag.parse import ParseLimits, pdf_size
from firelaunch.testing.documents import Line, lines_of, pdf


def size(data: bytes, limits: ParseLimits | None = None) -> tuple[int, int]:
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        return pdf_size(file, limits=limits)


def test_pages_and_the_bytes_of_their_text_are_counted() -> None:
    assert size(pdf([[], []])) == (2, 0)
    pages, text = size(pdf([lines_of("The first page."), lines_of("The s\u00e9cond page.")]))
    assert pages == 2
    assert text >= len("The first page.") + len("The s\u00e9cond page.".encode())


@pytest.mark.parametrize("between", [0, 1, 3])
def test_text_that_is_drawn_over_itself_counts_each_time(between: int) -> None:
    times = 200
    drawn = [b"(Hello) Tj", *[b"(other%d) Tj" % number for number in range(between)]]
    content = b"BT /F1 12 Tf 72 700 Td " + b" ".join(b"1 0 0 1 72 700 Tm " + each for each in drawn * times) + b" ET"
    lines: list[Line] = []
    plain = pdf([lines])
    start = plain.index(b"stream\n") + 7
    head = plain[: plain.rindex(b"<<", 0, start)]
    data = head + b"<< /Length %d >>\nstream\n%s\nendstream\nendobj\ntrailer\n<< /Root 1 0 R >>\n" % (
        len(content),
        content,
    )
    pages, text = size(data)
    assert pages == 1
    assert text >= times * len("Hello")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 and no more", "damaged"),
        (pdf([lines_of("A page.")], protected=True), "encrypted"),
        (pdf([lines_of("A page.")])[:200], "damaged"),
    ],
    ids=["empty", "no pages", "protected", "cut"],
)
def test_what_cannot_be_read_says_why(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentUnreadable) as refused:
        size(data)
    assert refused.value.problem == problem


def test_more_text_than_allowed_ends_the_reading() -> None:
    bomb = pdf([[("x" * 90, 11)] * 2_000] * 20)
    assert len(bomb) < 100_000
    with pytest.raises(DocumentUnreadable) as refused:
        size(bomb, ParseLimits(text_characters=100_000))
    assert refused.value.problem == "too_much_text"


def test_only_a_file_of_its_own_is_read() -> None:
    with pytest.raises(OSError, match="fileno"):
        pdf_size(BytesIO(b"%PDF"))
