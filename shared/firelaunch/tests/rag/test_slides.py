"""Slides and workbooks: charts, numbered paragraphs, merged cells, and what of them is not read."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from typing import Any

import openpyxl
import pptx
from firelaunch.rag.parse import Block, Omission
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

Read = Callable[..., list[Block]]
Omitted = Callable[[str, bytes], list[Omission]]


BOX = (Inches(1), Inches(1), Inches(6), Inches(4))
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)


def saved(file: Any) -> bytes:
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def blank(deck: Any) -> Any:
    return deck.slides.add_slide(deck.slide_layouts[6])


def test_a_chart_is_the_table_of_its_values(read: Read) -> None:
    deck = pptx.Presentation()
    data = CategoryChartData()
    data.categories = ["2023", "2024"]
    data.add_series("North", (1.5, 0.1 + 0.2))
    data.add_series("South", (3, None))
    chart = blank(deck).shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *BOX, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Revenue by region"
    points = XyChartData()
    series = points.add_series("Height")
    for x, y in ((1, 10), (1, 12)):
        series.add_data_point(x, y)
    blank(deck).shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *BOX, points)
    blocks = read("a.pptx", saved(deck))
    assert [(block.page, block.text) for block in blocks] == [
        (1, "Revenue by region"),
        (1, " | North | South\n2023 | 1.5 | 3\n2024 | 0.3 |"),
        (2, " | Height\n1 | 10\n1 | 12"),
    ]


def test_automatic_numbers_and_notes_are_read(read: Read) -> None:
    deck = pptx.Presentation()
    slide = blank(deck)
    frame = slide.shapes.add_textbox(*BOX).text_frame
    for text, scheme, level in (("One", "arabicPeriod", 0), ("a", "alphaLcParenR", 1), ("Two", "arabicPeriod", 0)):
        paragraph = frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
        paragraph._p.get_or_add_pPr().insert(0, automatic(scheme))
    slide.notes_slide.notes_text_frame.text = "Say hello."
    assert [block.text for block in read("a.pptx", saved(deck))] == ["1. One\n  a) a\n2. Two", "Say hello."]


def automatic(scheme: str) -> Any:
    from pptx.oxml import parse_xml

    return parse_xml(f'<a:buAutoNum xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" type="{scheme}"/>')


def test_a_cell_merged_over_rows_is_in_each_of_them(read: Read) -> None:
    deck = pptx.Presentation()
    table = blank(deck).shapes.add_table(3, 2, *BOX).table
    for at, row in enumerate((("Region", "City"), ("North", "Oslo"), ("", "Bergen"))):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    assert read("a.pptx", saved(deck))[0].text == "Region | City\nNorth | Oslo\nNorth | Bergen"


def test_slides_that_are_pictures_are_counted(omitted: Omitted) -> None:
    deck = pptx.Presentation()
    blank(deck).shapes.add_textbox(*BOX).text_frame.text = "Text."
    blank(deck).shapes.add_picture(io.BytesIO(PIXEL), *BOX)
    logo = blank(deck).shapes
    logo.add_picture(io.BytesIO(PIXEL), 0, 0, Inches(1), Inches(1))
    assert omitted("a.pptx", saved(deck)) == [Omission("picture_slides", 1, 3)]


def test_formulas_that_were_never_computed_are_counted(omitted: Omitted) -> None:
    book = openpyxl.Workbook()
    for row in range(1, 4):
        book.active.append([f"Item {row}", row, f"=B{row}*2"])
    assert omitted("a.xlsx", saved(book)) == [Omission("formulas_without_values", 3)]


def test_values_are_written_as_spreadsheets_show_them(read: Read) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Day", "Hour", "Sum", "Done", "Many"])
    book.active.append(
        [datetime.fromisoformat("2026-05-04"), datetime.fromisoformat("2026-05-04 09:30"), 0.1 + 0.2, True, 4.0]
    )
    text = read("a.xlsx", saved(book))[1].text
    assert text.split("\n")[1] == "2026-05-04 | 2026-05-04 09:30:00 | 0.3 | TRUE | 4"
