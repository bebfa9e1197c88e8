"""Word documents: the numbers that Word shows, notes, text boxes, charts, and tables with merged cells."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import docx
import pytest
from firelaunch.rag.parse import Block, Omission

Read = Callable[..., list[Block]]
Omitted = Callable[[str, bytes], list[Omission]]


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TYPE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml"


def with_part(archive: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return an archive with one of its parts changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            new.writestr(part.filename, change(content) if part.filename == name else content)
    return out.getvalue()


def saved(document: docx.document.Document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def with_footnotes(document: bytes, notes: str) -> bytes:
    """Return a document with a part of footnotes."""
    relation = f'<Relationship Id="rNotes" Type="{TYPE}/footnotes" Target="footnotes.xml"/></Relationships>'
    override = f'<Override PartName="/word/footnotes.xml" ContentType="{MAIN}.footnotes+xml"/></Types>'
    added = {
        "word/_rels/document.xml.rels": ("</Relationships>", relation),
        "[Content_Types].xml": ("</Types>", override),
    }
    for name, (end, more) in added.items():
        document = with_part(document, name, lambda xml, end=end, more=more: xml.replace(end.encode(), more.encode()))
    out = io.BytesIO(document)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("word/footnotes.xml", notes)
    return out.getvalue()


def numbering(*levels: str, more: str = "") -> str:
    own = "".join(f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/>{level}</w:lvl>' for at, level in enumerate(levels))
    return (
        f'<w:numbering {W}><w:abstractNum w:abstractNumId="1">{own}</w:abstractNum>'
        f'<w:num w:numId="7"><w:abstractNumId w:val="1"/></w:num>{more}</w:numbering>'
    )


def level(form: str, text: str, more: str = "") -> str:
    return f'<w:numFmt w:val="{form}"/>{more}<w:lvlText w:val="{text}"/>'


def numbered(*items: tuple[int, str], number: int = 7) -> str:
    return "".join(
        f'<w:p><w:pPr><w:numPr><w:ilvl w:val="{at}"/><w:numId w:val="{number}"/></w:numPr></w:pPr>'
        f"<w:r><w:t>{text}</w:t></w:r></w:p>"
        for at, text in items
    )


def numbered_document(definitions: str, body: str) -> bytes:
    """Return a document with these definitions of lists in the place of the template's."""
    document = with_part(saved(docx.Document()), "word/numbering.xml", lambda _: definitions.encode())
    return with_body(document, body)


def with_body(document: bytes, body: str) -> bytes:
    return with_part(
        document, "word/document.xml", lambda xml: xml.replace(b"<w:sectPr", body.encode() + b"<w:sectPr", 1)
    )


def lines(blocks: list[Block]) -> list[str]:
    return [block.text for block in blocks]


def test_clauses_have_the_numbers_that_word_shows(read: Read) -> None:
    levels = (level("decimal", "%1."), level("lowerLetter", "(%2)"), level("lowerRoman", "%1.%2.%3"))
    body = numbered((0, "Scope"), (0, "Payment"), (1, "in euros"), (1, "in time"), (2, "within a month"))
    body += "<w:p><w:r><w:t>Between.</w:t></w:r></w:p>"
    body += numbered((0, "Term"), (1, "one year"))
    document = numbered_document(numbering(*levels), body)
    assert lines(read("contract.docx", document)) == [
        "1. Scope",
        "2. Payment",
        "  (a) in euros",
        "  (b) in time",
        "    2.b.i within a month",
        "Between.",
        "3. Term",
        "  (a) one year",
    ]


def test_a_list_that_starts_anew_and_a_legal_one_count_as_word_does(read: Read) -> None:
    levels = (level("upperRoman", "Article %1"), level("decimal", "%1.%2", "<w:isLgl/>"))
    anew = (
        '<w:num w:numId="8"><w:abstractNumId w:val="1"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>'
    )
    body = numbered((0, "One"), (1, "first"), (0, "Two"), (1, "second")) + numbered((0, "Five"), (0, "Six"), number=8)
    document = numbered_document(numbering(*levels, more=anew), body)
    assert lines(read("articles.docx", document)) == [
        "Article I One",
        "  1.1 first",
        "Article II Two",
        "  2.1 second",
        "Article V Five",
        "Article VI Six",
    ]


def test_lists_by_style_are_numbered_and_bullets_are_not(read: Read) -> None:
    document = docx.Document()
    for text in ("first", "second"):
        document.add_paragraph(text, style="List Number")
    document.add_paragraph("point", style="List Bullet")
    assert lines(read("a.docx", saved(document))) == ["1. first", "2. second", "- point"]


def note(name: int, text: str, more: str = "") -> str:
    return f'<w:footnote w:id="{name}"{more}><w:p><w:r><w:footnoteRef/><w:t> {text}</w:t></w:r></w:p></w:footnote>'


def test_a_footnote_stands_below_its_paragraph_with_the_mark_of_its_reference(read: Read) -> None:
    notes = f"<w:footnotes {W}>{note(0, '---', ' w:type=' + chr(34) + 'separator' + chr(34))}"
    notes += f"{note(5, 'Except on Sundays.')}{note(2, 'In euros.')}</w:footnotes>"
    body = "".join(
        f'<w:p><w:r><w:t>{text}</w:t></w:r><w:r><w:footnoteReference w:id="{name}"/></w:r></w:p>'
        for text, name in (("We deliver daily.", 5), ("It costs ten.", 2))
    )
    document = with_footnotes(with_body(saved(docx.Document()), body), notes)
    assert lines(read("a.docx", document)) == [
        "We deliver daily.[^1]",
        "[^1]: Except on Sundays.",
        "It costs ten.[^2]",
        "[^2]: In euros.",
    ]


def test_headers_and_footers_are_read_once_and_page_numbers_are_not(read: Read) -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Contract C-7781"
    document.sections[0].footer.paragraphs[0].text = "Page 1 of 3"
    document.add_paragraph("Body.")
    section = document.add_section()
    section.header.is_linked_to_previous = False
    section.header.paragraphs[0].text = "Contract C-7781"
    section.footer.is_linked_to_previous = False
    section.footer.paragraphs[0].text = "Confidential"
    assert lines(read("a.docx", saved(document))) == ["Contract C-7781", "Body.", "Confidential"]


def test_text_boxes_are_paragraphs_of_their_own_and_moved_text_is_read_once(read: Read) -> None:
    box = (
        f'<w:p {W} xmlns:wps="wps" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        '<w:r><w:t>Around the box.</w:t></w:r><w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing>'
        "<wps:txbx><w:txbxContent><w:p><w:r><w:t>In the box.</w:t></w:r></w:p></w:txbxContent></wps:txbx>"
        "</w:drawing></mc:Choice><mc:Fallback><w:pict><w:txbxContent><w:p><w:r><w:t>In the box.</w:t></w:r></w:p>"
        "</w:txbxContent></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
        "<w:p><w:moveFrom><w:r><w:t>Moved.</w:t></w:r></w:moveFrom></w:p>"
        "<w:p><w:moveTo><w:r><w:t>Moved.</w:t></w:r></w:moveTo></w:p>"
    )
    document = with_body(saved(docx.Document()), box)
    assert lines(read("a.docx", document)) == ["Around the box.", "In the box.", "Moved."]


def test_comments_are_left_out_and_counted(read: Read, omitted: Omitted) -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("Agreed.")
    document.add_comment(paragraph.runs, text="Really?", author="Ada")
    assert lines(read("a.docx", saved(document))) == ["Agreed."]
    assert omitted("a.docx", saved(document)) == [Omission("comments", 1)]


def test_merged_cells_keep_the_columns_and_are_in_each_of_their_rows(read: Read) -> None:
    document = docx.Document()
    table = document.add_table(4, 3)
    for at, row in enumerate(
        (("Region", "City", "Sales"), ("North", "Oslo", "5"), ("", "Bergen", "6"), ("All", "", "11"))
    ):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    table.cell(3, 0).merge(table.cell(3, 1))
    assert lines(read("a.docx", saved(document))) == [
        "Region | City | Sales\nNorth | Oslo | 5\nNorth | Bergen | 6\nAll |  | 11"
    ]


@pytest.mark.parametrize("header", [0, 1])
def test_a_table_whose_first_row_word_repeats_has_it_as_header(read: Read, header: int) -> None:
    document = docx.Document()
    table = document.add_table(60, 2)
    for at, row in enumerate(table.rows):
        row.cells[0].text, row.cells[1].text = str(at), str(at * at)
    if header:
        table.rows[0]._tr.get_or_add_trPr().append(docx.oxml.parse_xml(f"<w:tblHeader {W}/>"))
    blocks = lines(read("a.docx", saved(document)))
    assert len(blocks) > 1
    assert all(text.startswith("0 | 0\n") == bool(header) for text in blocks[1:])
