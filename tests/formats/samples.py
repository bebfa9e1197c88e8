"""Sample files of every format, each with what reading it must give: made here, so that nothing is copied."""

# ruff: noqa: E501, RUF001 - samples stay in one piece

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import EmailMessage

from firelaunch.testing.documents import lines_of, pdf

from .ole import Storage, container

__all__ = ["Sample", "samples"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample file.

    Args:
        format: what it is, for people.
        name: its file name. The formats are told by the content.
        make: makes it.
        holds: texts that must be read, in this order.
        lacks: texts that must not be read, such as markup.
        warned: what its warnings say is left out, such as "picture_pages 1 of 2"; empty if it is read as a whole.
        problem: why it is refused; empty if it is read.
    """

    format: str
    name: str
    make: Callable[[], bytes]
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    warned: str = ""
    problem: str = ""


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for family in (_office, _open_document, _mails, _texts, _warned, _refused):
        yield from family()


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a zip file of parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def rewritten(package: bytes, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """Return a zip file with each part's name and content changed."""
    with zipfile.ZipFile(io.BytesIO(package)) as old:
        return zipped(dict(change(part.filename, old.read(part)) for part in old.infolist()))


def docx() -> bytes:
    """Return a Word document with a heading, text, a list and a table."""
    import docx as word

    document = word.Document()
    document.add_heading("Delivery terms", 1)
    document.add_paragraph("Parcels leave Rotterdam on Mondays.")
    document.add_paragraph("Pallets on request", style="List Bullet")
    table = document.add_table(2, 2)
    for at, text in enumerate(("Zone", "Days", "North", "17")):
        table.cell(at // 2, at % 2).text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def xlsx() -> bytes:
    """Return a workbook."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "Stock"
    for row in (["SKU", "Pieces"], ["SKU-8847", 450], ["SKU-9001", 12]):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def pptx() -> bytes:
    """Return a slide."""
    import pptx as power

    deck = power.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Quarter plan"
    slide.placeholders[1].text = "Open the depot in Gdansk"
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


_DOCX = ("Delivery terms", "Parcels leave Rotterdam", "Pallets on request", "Zone | Days", "North | 17")
_XLSX = ("Stock", "SKU | Pieces", "SKU-8847 | 450")
_PPTX = ("Quarter plan", "Open the depot in Gdansk")


def strict(package: bytes) -> bytes:
    """Return an Office file in the strict form of its format."""
    names = {
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/extended-properties": b"officeDocument/relationships/extendedProperties",
        b"http://schemas.openxmlformats.org/officeDocument/2006/extended-properties": b"officeDocument/extendedProperties",
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships": b"officeDocument/relationships",
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main": b"wordprocessingml/main",
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main": b"spreadsheetml/main",
        b"http://schemas.openxmlformats.org/presentationml/2006/main": b"presentationml/main",
        b"http://schemas.openxmlformats.org/drawingml/2006/main": b"drawingml/main",
    }

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name.endswith((".xml", ".rels")):
            for old, new in names.items():
                content = content.replace(old, b"http://purl.oclc.org/ooxml/" + new)
        return name, content

    return rewritten(package, change)


def renamed(package: bytes, old: str, new: str) -> bytes:
    """Return an Office file whose main part has another name, in all places that name it."""
    folder, _, file = old.rpartition("/")
    new_file = new.rpartition("/")[2]

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name in {"[Content_Types].xml", "_rels/.rels"}:
            content = content.replace(file.encode(), new_file.encode())
        return name.replace(f"{folder}/_rels/{file}", f"{folder}/_rels/{new_file}").replace(old, new), content

    return rewritten(package, change)


def typed(package: bytes, old: bytes, new: bytes) -> bytes:
    """Return an Office file whose main part has another type."""
    return rewritten(
        package, lambda name, content: (name, content.replace(old, new) if name == "[Content_Types].xml" else content)
    )


def _office() -> Iterator[Sample]:
    word, sheet, show = (
        b"wordprocessingml.document.main",
        b"spreadsheetml.sheet.main",
        b"presentationml.presentation.main",
    )
    vendor = b"openxmlformats-officedocument."
    yield Sample("DOCX", "a.docx", docx, _DOCX)
    yield Sample("XLSX", "a.xlsx", xlsx, _XLSX)
    yield Sample("PPTX", "a.pptx", pptx, _PPTX)
    yield Sample("DOCX, strict", "strict.docx", lambda: strict(docx()), _DOCX)
    yield Sample("XLSX, strict", "strict.xlsx", lambda: strict(xlsx()), _XLSX)
    yield Sample("PPTX, strict", "strict.pptx", lambda: strict(pptx()), _PPTX)
    yield Sample(
        "DOCX, other part name", "b.docx", lambda: renamed(docx(), "word/document.xml", "word/document2.xml"), _DOCX
    )
    yield Sample("XLSX, other part name", "b.xlsx", lambda: renamed(xlsx(), "xl/workbook.xml", "xl/book9.xml"), _XLSX)
    yield Sample(
        "PPTX, other part name", "b.pptx", lambda: renamed(pptx(), "ppt/presentation.xml", "ppt/deck.xml"), _PPTX
    )
    yield Sample(
        "DOCX, backslashes", "c.docx", lambda: rewritten(docx(), lambda n, c: (n.replace("/", "\\"), c)), _DOCX
    )
    yield Sample("DOCX, capitals", "d.docx", lambda: rewritten(docx(), lambda n, c: (n.upper(), c)), _DOCX)
    yield Sample("XLSX, capitals", "d.xlsx", lambda: rewritten(xlsx(), lambda n, c: (n.title(), c)), _XLSX)
    yield Sample("DOCM", "a.docm", lambda: typed(docx(), vendor + word, b"ms-word.document.macroEnabled.main"), _DOCX)
    yield Sample("DOTX", "a.dotx", lambda: typed(docx(), word, b"wordprocessingml.template.main"), _DOCX)
    yield Sample("XLSM", "a.xlsm", lambda: typed(xlsx(), vendor + sheet, b"ms-excel.sheet.macroEnabled.main"), _XLSX)
    yield Sample("XLTX", "a.xltx", lambda: typed(xlsx(), sheet, b"spreadsheetml.template.main"), _XLSX)
    yield Sample("PPSX", "a.ppsx", lambda: typed(pptx(), show, b"presentationml.slideshow.main"), _PPTX)
    yield Sample("POTX", "a.potx", lambda: typed(pptx(), show, b"presentationml.template.main"), _PPTX)
    yield Sample(
        "PPTM", "a.pptm", lambda: typed(pptx(), vendor + show, b"ms-powerpoint.presentation.macroEnabled.main"), _PPTX
    )
    yield Sample("XLS", "a.xls", xls, ("Stock", "SKU | Pieces", "SKU-8847 | 450", "grün | 0.5"))


def xls() -> bytes:
    """Return a workbook of Excel 97 ([MS-XLS])."""

    def record(number: int, data: bytes) -> bytes:
        return struct.pack("<HH", number, len(data)) + data

    def label(row: int, column: int, text: str) -> bytes:
        data = text.encode("utf-16-le")
        return record(0x0204, struct.pack("<HHHHB", row, column, 0, len(text), 1) + data)

    def number(row: int, column: int, value: float) -> bytes:
        return record(0x0203, struct.pack("<HHHd", row, column, 0, value))

    end = record(0x000A, b"")
    sheet = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0x0600))
    sheet += label(0, 0, "SKU") + label(0, 1, "Pieces") + label(1, 0, "SKU-8847") + number(1, 1, 450)
    sheet += label(2, 0, "grün") + number(2, 1, 0.5) + end
    name = b"Stock"
    start = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0x0600))
    place = len(start) + 4 + 8 + len(name) + len(end)
    book = start + record(0x0085, struct.pack("<IHBB", place, 0, len(name), 0) + name) + end
    return container({"Workbook": (book + sheet).ljust(4096, b"\0")})


_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{space}:1.0"'
    for name, space in (
        ("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("presentation", "presentation"),
    )
)  # fmt: skip
_TEXT_BODY = (
    '<office:text><text:h text:outline-level="1">Lease</text:h>'
    "<text:tracked-changes><text:p>struck out</text:p></text:tracked-changes>"
    '<text:p>Rent is due<text:s text:c="2"/>on the <text:span>third</text:span> day.'
    "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Or the next workday.</text:p>"
    "</text:note-body></text:note></text:p>"
    "<text:list><text:list-item><text:p>No dogs</text:p><text:list><text:list-item><text:p>but cats</text:p>"
    "</text:list-item></text:list></text:list-item></text:list>"
    "<table:table><table:table-row><table:table-cell><text:p>Room</text:p></table:table-cell>"
    "<table:table-cell><text:p>Area</text:p></table:table-cell></table:table-row>"
    "<table:table-row><table:table-cell><text:p>Kitchen</text:p></table:table-cell>"
    "<table:table-cell><text:p>9 m2</text:p></table:table-cell></table:table-row></table:table>"
    "<text:p><draw:frame><draw:text-box><text:p>Boxed words</text:p></draw:text-box></draw:frame></text:p></office:text>"
)
_SHEET_BODY = (
    '<office:spreadsheet><table:table table:name="Stock">'
    "<table:table-row><table:table-cell><text:p>SKU</text:p></table:table-cell>"
    "<table:table-cell><text:p>Pieces</text:p></table:table-cell></table:table-row>"
    "<table:table-row><table:table-cell><text:p>SKU-8847</text:p></table:table-cell>"
    '<table:table-cell office:value-type="float" office:value="450"><text:p>450</text:p></table:table-cell>'
    '<table:table-cell table:number-columns-repeated="16382"/></table:table-row>'
    '<table:table-row table:number-rows-repeated="1048570"><table:table-cell table:number-columns-repeated="16384"/>'
    '</table:table-row></table:table><table:table table:name="Prices"><table:table-row>'
    '<table:table-cell office:value-type="float" office:value="9.5"/></table:table-row></table:table></office:spreadsheet>'
)
_SLIDE_BODY = (
    '<office:presentation><draw:page draw:name="one"><draw:frame presentation:class="title"><draw:text-box>'
    "<text:p>Quarter plan</text:p></draw:text-box></draw:frame><draw:frame><draw:text-box><text:p>Open the depot</text:p>"
    "</draw:text-box></draw:frame><presentation:notes><draw:frame><draw:text-box><text:p>Say hello</text:p>"
    "</draw:text-box></draw:frame></presentation:notes></draw:page></office:presentation>"
)


def odf(kind: str, body: str, manifest: str = "") -> bytes:
    """Return an OpenDocument package."""
    return zipped({
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "META-INF/manifest.xml": f"<manifest>{manifest}</manifest>",
        "content.xml": flat(body, "document-content"),
    })  # fmt: skip


def flat(body: str, root: str = "document") -> str:
    """Return an OpenDocument file that is one XML file."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:{root} {_NAMESPACES}><office:body>{body}</office:body>'
        f"</office:{root}>"
    )


def _open_document() -> Iterator[Sample]:
    text = ("Lease", "Rent is due  on the third day.[1]", "Or the next workday.", "- No dogs", "- but cats", "Room | Area",
            "Kitchen | 9 m2", "Boxed words")  # fmt: skip
    yield Sample("ODT", "a.odt", lambda: odf("text", _TEXT_BODY), text, ("struck out",))
    yield Sample(
        "ODS",
        "a.ods",
        lambda: odf("spreadsheet", _SHEET_BODY),
        ("Stock", "SKU | Pieces", "SKU-8847 | 450", "Prices", "9.5"),
    )
    yield Sample(
        "ODP", "a.odp", lambda: odf("presentation", _SLIDE_BODY), ("Quarter plan", "Open the depot", "Say hello")
    )
    yield Sample("FODT", "a.fodt", lambda: flat(_TEXT_BODY).encode(), text, ("struck out", "office:"))
    yield Sample("FODS", "a.fods", lambda: flat(_SHEET_BODY).encode(), ("Stock", "SKU-8847 | 450", "Prices", "9.5"))
    yield Sample(
        "EPUB", "a.epub", epub, ("Chapter one", "It was late.", "Chapter two", "It was later."), ("body {", "Contents")
    )


def epub(encryption: str = "") -> bytes:
    """Return a book of two chapters."""
    chapter = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><style>body {{}}</style>'
        '<script src="a.js"/></head><body><h1>Chapter {0}</h1><p>It was {1}.<a id="x"/></p></body></html>'
    )
    items = (
        "".join(f'<item id="c{n}" href="text/c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in (1, 2))
        + '<item id="nav" href="nav.xhtml" properties="nav"/>'
    )
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
        '<spine><itemref idref="nav"/><itemref idref="c1"/><itemref idref="c2"/></spine></package>',
        "OEBPS/nav.xhtml": "<html><body><h1>Contents</h1></body></html>",
        "OEBPS/text/c1.xhtml": chapter.format("one", "late"),
        "OEBPS/text/c2.xhtml": chapter.format("two", "later"),
    }
    return zipped({**parts, **({"META-INF/encryption.xml": encryption} if encryption else {})})


def eml() -> EmailMessage:
    """Return a mail with two versions of its text, a table as an attachment, and a mail as another."""
    mail = EmailMessage()
    mail["Subject"] = "Angebot für Büromöbel"
    mail["From"], mail["To"] = "Zoë Example <zoe@example.com>", "sales@example.org"
    mail["Date"] = "Mon, 02 Nov 2026 10:00:00 +0100"
    mail["Message-ID"] = "<1@example.com>"
    mail.set_content("We offer 12 desks.\n\nDelivery takes three weeks.\n")
    mail.add_alternative(
        "<html><body><p>We offer 12 desks.</p><p>Delivery takes three weeks.</p></body></html>", subtype="html"
    )
    mail.add_attachment(b"item,price\ndesk,120\n", "text", "csv", filename="prices.csv")
    inner = EmailMessage()
    inner["Subject"], inner["From"] = "Earlier mail", "a@example.com"
    inner.set_content("Earlier text.")
    mail.add_attachment(inner)
    return mail


_MAIL = ("Angebot für Büromöbel", "From: Zoë Example", "To: sales@example.org", "We offer 12 desks.", "Delivery takes",
         "Attachments: prices.csv, Earlier mail.eml")  # fmt: skip


def msg() -> bytes:
    """Return a mail of Outlook's, with a file and a mail attached."""

    def properties(header: int, *numbers: tuple[int, int]) -> bytes:
        return bytes(header) + b"".join(struct.pack("<IIQ", tag, 6, value) for tag, value in numbers)

    def texts(**values: str) -> dict[str, bytes]:
        return {f"__substg1.0_{name[1:]}001F": value.encode("utf-16-le") for name, value in values.items()}

    ticks = 134_062_164_000_000_000
    inner: Storage = {"__properties_version1.0": properties(24), **texts(_0037="Earlier mail", _1000="Earlier text.")}
    return container({
        "__properties_version1.0": properties(32, (0x00390040, ticks)),
        **texts(_0037="Angebot für Büromöbel", _0C1A="Zoë Example", _5D01="zoe@example.com", _0E04="sales@example.org",
                _1000="We offer 12 desks.\r\n\r\nDelivery takes three weeks.\r\n"),
        "__attach_version1.0_#00000000": {
            "__properties_version1.0": properties(8), **texts(_3707="prices.csv"),
            "__substg1.0_37010102": b"item,price\ndesk,120\n",
        },
        "__attach_version1.0_#00000001": {
            "__properties_version1.0": properties(8), **texts(_3001="Earlier mail"), "__substg1.0_3701000D": inner,
        },
    })  # fmt: skip


def _mails() -> Iterator[Sample]:
    junk = ("base64", "Content-Type", "boundary", "Message-ID")
    yield Sample("EML", "a.eml", lambda: eml().as_bytes(), _MAIL, junk)
    yield Sample("EML without a name", "mail", lambda: eml().as_bytes(), _MAIL, junk)
    yield Sample("MSG", "a.msg", msg, (*_MAIL[:1], "From: Zoë Example <zoe@example.com>", "Date: ", *_MAIL[3:]))
    page = EmailMessage()
    page["Subject"], page["From"], page["MIME-Version"] = "Saved page", "saved", "1.0"
    page.set_content("<h1>Saved</h1><p>Words of the page.</p>", subtype="html", cte="quoted-printable")
    yield Sample("MHTML", "a.mhtml", page.as_bytes, ("Saved page", "Words of the page."), ("<h1>", "3D"))


_RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\info{\author Nobody}}\pard\b Notice\b0\par Caf\'e9 closes at \u9786? nine.\par"
    rb"{\pict\pngblip " + b"89504e470d0a1a0a" * 40 + rb"}\trowd\cellx100\cellx200\intbl Day\cell Hour\cell\row"
    rb"\trowd\cellx100\cellx200\intbl Mon\cell 9\cell\row\pard End.\par}"
)
_TEX = rb"""\documentclass{article}
\usepackage[utf8]{inputenc} % a comment
\title{On Tides} \author{A. Writer}
\begin{document}
\maketitle
\section{Moon \& sea}
The moon's pull is \textbf{strong}, see \cite{x}; caf\'e, Fran\c{c}ois and na\"\i ve.\footnote{Roughly.} At 50\% it ebbs.

It follows $\alpha \leq \frac{a}{b}$ --- always.
\begin{itemize}
\item Spring tide
\item Neap tide
\end{itemize}
\begin{tabular}{ll}
\hline Port & Range \\ Brest & 6~m \\
\end{tabular}
\begin{verbatim}
x = 1 % kept
\end{verbatim}
\end{document}
"""
_NOTEBOOK = json.dumps({
    "cells": [
        {"cell_type": "markdown", "source": ["# Churn\n", "\n", "We look at churn."]},
        {"cell_type": "code", "source": "print(rate)", "outputs": [{"output_type": "stream", "text": ["0.37\n"]}, {
            "output_type": "display_data", "data": {"image/png": "iVBORw0KGgo", "text/plain": "<Figure>"}}]},
    ],
    "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5,
}).encode()  # fmt: skip
_XML = b"""<?xml version="1.0"?><!DOCTYPE book [<!ENTITY firm "Acme">]>
<book xmlns:x="urn:x"><title>Handbook</title><info><author>Ann</author><year>2024</year></info>
<chapter id="c1"><title>Leave</title><para>Staff of &firm; have <emphasis>30</emphasis> days.</para><para>Ask early.</para></chapter>
<part sku="SKU-8847" pieces="450"/></book>"""
_FEED = b"""<rss version="2.0"><channel><title>News</title><item><title>Depot opens</title><description>&lt;p&gt;In
&lt;b&gt;Gdansk&lt;/b&gt;, on Monday.&lt;/p&gt;</description></item></channel></rss>"""


def _texts() -> Iterator[Sample]:
    yield Sample(
        "PDF", "a.pdf", lambda: pdf([lines_of("# Terms\n\nParcels leave on Mondays.")]), ("Terms", "Parcels leave")
    )
    yield Sample(
        "HTML", "a.html", lambda: b"<html><body><h1>Terms</h1><p>Parcels leave.</p></body></html>", ("Terms", "Parcels")
    )
    yield Sample("Markdown", "a.md", lambda: b"# Terms\n\nParcels leave.\n", ("Terms", "Parcels"))
    yield Sample("text", "a.txt", lambda: b"Terms\n\nParcels leave.\n", ("Terms", "Parcels"))
    yield Sample("CSV", "a.csv", lambda: b"sku,pieces\nSKU-8847,450\nSKU-9001,3\n", ("SKU-8847 | 450",))
    yield Sample("JSON", "a.json", lambda: b'{"sku": "SKU-8847", "pieces": 450}', ("sku: SKU-8847", "pieces: 450"))
    yield Sample(
        "RTF",
        "a.rtf",
        lambda: _RTF,
        ("Notice", "Café closes at ☺ nine.", "Day | Hour", "Mon | 9", "End."),
        ("89504e47", "Nobody", "\\"),
    )
    yield Sample("TeX", "a.tex", lambda: _TEX, (
        "On Tides", "A. Writer", "Moon & sea", "strong", "café, François and naïve. (Roughly.) At 50% it ebbs.", "α ≤ (a)/(b) — always",
        "- Spring tide", "- Neap tide", "Port | Range", "Brest | 6 m", "x = 1 % kept",
    ), ("\\", "usepackage", "a comment", "{", "cite"))  # fmt: skip
    yield Sample(
        "notebook",
        "a.ipynb",
        lambda: _NOTEBOOK,
        ("Churn", "We look at churn.", "print(rate)", "0.37"),
        ("iVBOR", "nbformat"),
    )
    yield Sample("XML", "a.xml", lambda: _XML, (
        "Handbook", "author: Ann\nyear: 2024", "Leave", "Staff of Acme have 30 days.", "Ask early.", "sku: SKU-8847\npieces: 450",
    ), ("<", "xmlns", "urn:x"))  # fmt: skip
    yield Sample("feed", "news.xml", lambda: _FEED, ("News", "Depot opens", "In Gdansk, on Monday."), ("<", "&lt;"))
    yield Sample(
        "SVG",
        "a.svg",
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M 1 2"/><text>Gate 7</text></svg>',
        ("Gate 7",),
        ("M 1",),
    )


def _warned() -> Iterator[Sample]:
    lines = lines_of("# Terms\n\nParcels leave on Mondays.")
    text = ("Terms", "Parcels leave")
    yield Sample("PDF, a scanned page", "s.pdf", lambda: pdf([lines, None]), text, warned="picture_pages 1 of 2")
    yield Sample(
        "PDF, a damaged page", "h.pdf", lambda: _broken(pdf([lines, lines])), text, warned="damaged_pages 1 of 2"
    )
    yield Sample(
        "EML, a picture attached", "h.eml", lambda: _with_picture(eml()), _MAIL[:5], warned="attachments 1 of 3"
    )


def _broken(file: bytes) -> bytes:
    """Return a PDF of two pages whose second one is no page."""
    return file.replace(b"6 0 obj\n<< /Type /Page ", b"6 0 obj\n(( /Type /Page ")


def _with_picture(mail: EmailMessage) -> bytes:
    """Return a mail with one more attachment, which no program can read."""
    mail.add_attachment(b"\x89PNG\r\n\x1a\n" + bytes(100), "image", "png", filename="plan.png")
    return mail.as_bytes()


_BOMB = (
    b'<!DOCTYPE l [<!ENTITY a "lollollol">'
    + b"".join(b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10) for name in b"bcdefghijk")
    + b"]>"
)


def _refused() -> Iterator[Sample]:
    encrypted = EmailMessage()
    encrypted["Subject"], encrypted["From"], encrypted["To"] = "Secret", "a@example.com", "b@example.com"
    encrypted["MIME-Version"] = "1.0"
    encrypted.set_content(b"....", "application", "pkcs7-mime", params={"smime-type": "enveloped-data"})
    protection = '<encryption><EncryptedData><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/></EncryptedData></encryption>'
    yield Sample("DOC", "a.doc", lambda: container({"WordDocument": bytes(5000)}), problem="old_word")
    yield Sample("PPT", "a.ppt", lambda: container({"PowerPoint Document": bytes(5000)}), problem="old_powerpoint")
    yield Sample("old Publisher", "a.pub", lambda: container({"Contents": bytes(5000)}), problem="old_office")
    yield Sample("DOCX, protected", "p.docx", lambda: container({"EncryptedPackage": bytes(5000)}), problem="encrypted")
    yield Sample("ODT, protected", "p.odt", lambda: odf("text", _TEXT_BODY, "<encryption-data/>"), problem="encrypted")
    yield Sample("EPUB, protected", "p.epub", lambda: epub(protection), problem="encrypted")
    yield Sample("EML, encrypted", "p.eml", encrypted.as_bytes, problem="encrypted")
    yield Sample("PDF, protected", "p.pdf", lambda: pdf([lines_of("x")], protected=True), problem="encrypted")
    yield Sample("PNG", "a.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), problem="picture")
    yield Sample("Pages", "a.pages", lambda: zipped({"Index/Document.iwa": b"x"}), problem="iwork")
    yield Sample("zip", "a.zip", lambda: zipped({"a.txt": b"x"}), problem="archive")
    yield Sample(
        "XML bomb", "bomb.xml", lambda: b'<?xml version="1.0"?>' + _BOMB + b"<l>&k;</l>", problem="unpacks_too_large"
    )
    yield Sample(
        "ODT bomb", "bomb.odt", lambda: odf("text", _TEXT_BODY + " " * 20_000_000), problem="unpacks_too_large"
    )
    yield Sample("EML, nested", "deep.eml", deep_mail, problem="too_deep")
    yield Sample(
        "XML, nested",
        "deep.xml",
        lambda: b"<?xml version='1.0'?>" + b"<a>" * 250 + b"x" + b"</a>" * 250,
        problem="too_deep",
    )


def deep_mail() -> bytes:
    """Return a mail whose parts lie within parts, 40 deep."""
    parts = [f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(40)]
    return (
        "Subject: a\nFrom: a@example.com\nMIME-Version: 1.0\n" + "".join(parts) + "Content-Type: text/plain\n\nx\n"
    ).encode()
