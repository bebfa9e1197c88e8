"""A hostile file ends with blocks or with a reason that its user can act on, within limits, and the caller lives."""

from __future__ import annotations

import io
import os
import random
import resource
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from firelaunch.errors import DocumentUnreadable
from firelaunch.rag.parse import Block, ParseLimits, document_text, parse, sandbox
from firelaunch.rag.parse.base import MAX_BLOCK
from firelaunch.rag.parse.failures import MESSAGES
from firelaunch.rag.parse.parsing_processes import ParsingProcess
from firelaunch.testing.documents import lines_of, pdf

Read = Callable[..., list[Block]]
Part = Callable[[bytes, str, Callable[[bytes], bytes]], bytes]
PAGE = lines_of("# Title\n\n" + "Some words on a page. " * 20)
PDF = pdf([PAGE] * 3)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2_000)
NOISE = random.Random(1).randbytes(20_000)  # noqa: S311 - the same noise each time
ENTITIES = '<!DOCTYPE l [<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.pdf", b"", "empty"),
        ("a.txt", b" \n" * 100, "empty"),
        ("a.pdf", pdf([PAGE], protected=True), "encrypted"),
        ("a.pdf", PDF[: len(PDF) // 2], "damaged"),
        ("a.pdf", b"%PDF-1.7\n", "damaged"),
        ("a.pdf", pdf([]), "damaged"),
        ("scan.pdf", pdf([[]]), "no_text"),
        ("a.pdf", pdf([[]] * 5_001), "too_many_pages"),
        ("a.docx", zipped("word/document.xml", bytes(2**28)), "unpacks_too_large"),
        ("a.docx", zipped("word/document.xml", b"<a/>"), "damaged"),
        ("a.xlsx", zipped("xl/workbook.xml", b"<a"), "damaged"),
        ("a.docx", b"PK\x03\x04" + NOISE, "damaged"),
        ("a.zip", zipped("a.txt", b"text"), "archive"),
        ("a.doc", OLE, "old_office"),
        ("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        ("a.txt", NOISE, "unsupported"),
        ("a.txt", b"text\x00" * 100, "unsupported"),
        ("a.pdf", b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
        ("a.json", b'{"a": 1, oops', "damaged"),
        ("a.json", b"[" * 1_000_000, "too_deep"),
        ("a.json", b'{"a":' * 1_000_000, "too_deep"),
        ("a.html", b"<div>" * 1_000_000 + b"hi", "too_deep"),
        ("a.html", b"<p>a" * 2_000_000, "too_much_memory"),
        ("a.html", b"<html><script>only()</script><style>p {}</style></html>", "nothing_found"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(read: Read, name: str, content: bytes, problem: str) -> None:
    with pytest.raises(DocumentUnreadable) as refused:
        read(name, content)
    assert refused.value.problem == problem
    assert refused.value.message == MESSAGES[problem]
    assert refused.value.status == 422


def test_each_reason_tells_the_user_what_to_do() -> None:
    for message in MESSAGES.values():
        assert any(word in message for word in ("upload", "Upload")), message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"word " * 2_000_000),
        ("a.txt", b"x" * 10_000_000),
        ("a.md", b"*a_ [b](c " * 1_000_000),
        ("a.html", b"<p>" + b"word " * 2_000_000),
        ("a.csv", b"a," * 1_000_000),
        ("a.json", b'{"a": "' + b"x" * 10_000_000 + b'"}'),
        ("a.html", b"<b><i>" * 20_000 + b"hi"),
        ("a.html", b"<html><p " + b"a=b " * 500_000 + b">x"),
        ("a.md", b"> " * 300_000 + b"x"),
        ("a.md", b"```\n" * 10_001),
        ("a.md", b"|a" * 20_000 + b"\n" + b"|-" * 20_000 + b"\n"),
        ("a.html", b"<!---->" * 1_500 + b"x"),
        ("a.csv", b'"' + b"a,\n" * 300_000),
        ("a.txt", "\n".join(["这是一个句子。" * 9_000, "שלום עולם. " * 9_000]).encode()),
        ("a.pdf", pdf([PAGE] * 300)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}-{value[:6]!r}",
)
def test_a_huge_or_tangled_file_is_read_in_bounded_blocks(read: Read, name: str, content: bytes) -> None:
    blocks = read(name, content)
    assert blocks
    assert max(len(block.text) for block in blocks) <= MAX_BLOCK


@pytest.mark.parametrize(
    ("kind", "part_name", "before", "after"),
    [
        ("docx", "word/document.xml", b"hello", b"&k;"),
        ("xlsx", "xl/worksheets/sheet1.xml", b"<v>1.5</v>", b"<v>&k;</v>"),
    ],
)
def test_an_entity_bomb_does_not_go_off(
    read: Read, made: dict[str, bytes], part: Part, kind: str, part_name: str, before: bytes, after: bytes
) -> None:
    def arm(xml: bytes) -> bytes:
        head, declaration, rest = xml.rpartition(b"?>") if b"?>" in xml else (b"", b"", xml)
        return head + declaration + ENTITIES.encode() + b"]>" + rest.replace(before, after)

    with pytest.raises(DocumentUnreadable) as refused:
        read(f"a.{kind}", part(made[kind], part_name, arm))
    assert refused.value.problem == "damaged"


def test_an_external_entity_reads_no_file(read: Read, made: dict[str, bytes], part: Part, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("TOP SECRET")
    doctype = f'?><!DOCTYPE l [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'.encode()
    changed = part(
        made["docx"], "word/document.xml", lambda xml: xml.replace(b"?>", doctype, 1).replace(b"hello", b"&x;")
    )
    assert "SECRET" not in document_text(read("a.docx", changed))


def test_a_sheet_that_claims_a_million_columns_is_read_as_it_is(read: Read, made: dict[str, bytes], part: Part) -> None:
    claim = part(
        made["xlsx"], "xl/worksheets/sheet1.xml", lambda xml: xml.replace(b'ref="A1:B201"', b'ref="A1:XFD1048576"')
    )
    assert claim != made["xlsx"]
    assert document_text(read("a.xlsx", claim)) == document_text(read("a.xlsx", made["xlsx"]))


def test_an_office_file_that_takes_too_much_memory_is_called_so(read: Read, made: dict[str, bytes], part: Part) -> None:
    paragraphs = b"<w:p><w:r><w:t>Some words to read</w:t></w:r></w:p>" * 1_500_000
    large = part(made["docx"], "word/document.xml", lambda xml: xml.replace(b"<w:sectPr", paragraphs + b"<w:sectPr", 1))
    with pytest.raises(DocumentUnreadable) as refused:
        read("a.docx", large)
    assert refused.value.problem == "too_much_memory"


@pytest.mark.parametrize("name", ["a.pdf", "a.xlsx", "a.txt", "a", "../../a.docx\x00", "x" * 5_000])
def test_content_decides_and_not_the_name(read: Read, made: dict[str, bytes], name: str) -> None:
    assert read(name, made["docx"])[0].headings == ("Handbook",)
    assert read(name, PDF)[0].text == "Title"


@pytest.mark.parametrize("kind", ["docx", "xlsx", "pptx"])
def test_a_damaged_office_file_is_called_so(read: Read, made: dict[str, bytes], kind: str) -> None:
    middle = len(made[kind]) // 3
    for content in (made[kind][: 2 * middle], made[kind][:middle] + bytes(2_000) + made[kind][middle + 2_000 :]):
        try:
            read(f"a.{kind}", content)
        except DocumentUnreadable as refused:
            assert refused.problem == "damaged"  # noqa: PT017 - a hit may also miss all that matters
        else:
            assert content[: 2 * middle] != content


def test_too_much_of_anything_is_refused_with_its_limit(read: Read) -> None:
    text = b"word " * 1_000_000
    with pytest.raises(DocumentUnreadable, match="1 MB is the most"):
        read("a.txt", text, ParseLimits(file_bytes=2**20))
    with pytest.raises(DocumentUnreadable, match="more than 10,000 characters"):
        read("a.txt", text, ParseLimits(text_characters=10_000))


def test_processor_time_is_limited(read: Read) -> None:
    with pytest.raises(DocumentUnreadable) as refused:
        read("a.md", b"- a\n" * 300_000, ParseLimits(cpu_seconds=1))
    assert refused.value.problem == "too_slow"


def test_waiting_is_limited(read: Read) -> None:
    with pytest.raises(DocumentUnreadable) as refused:
        read("a.md", b"- a\n" * 300_000, ParseLimits(wall_seconds=0.5))
    assert refused.value.problem == "too_slow"


def test_memory_is_limited_in_the_child_and_does_not_grow_in_the_caller(tmp_path: Path) -> None:
    """Both peaks are measured in a process of its own, which parses a text of 76 MB."""
    (tmp_path / "a.txt").write_bytes((b"A sentence of some words, and a line. " * 20 + b"\n\n") * 100_000)
    script = """
        import resource, sys
        from firelaunch.rag.parse import ParseLimits, parse
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open(sys.argv[1], "rb") as file:
            blocks = sum(1 for _ in parse(file, limits=ParseLimits(text_characters=10**9)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        from firelaunch.rag.parse import sandbox
        sandbox._SERVER._forget()  # ends the server, so that its peak and its forks' are counted
        print(blocks, grown, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    blocks, grown, child = map(int, done.stdout.split())
    unit = 1024 if sys.platform != "darwin" else 1
    assert blocks == 100_000
    assert grown * unit < 8 * 2**20
    assert child * unit < 64 * 2**20


def descendants() -> set[str]:
    """The process that forks parsers, and the parsers."""
    listed = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE, text=True)
    pairs = [line.split() for line in listed.communicate()[0].splitlines()]
    found, new = set[str](), {str(os.getpid())}
    while new:
        new = {process for process, parent in pairs if parent in new}
        found |= new
    return found - {str(listed.pid)}


def test_leaving_early_ends_the_child(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"One.\n\n" * 1_000_000)
    (tmp_path / "b").write_bytes(b"One.")
    with (tmp_path / "a").open("rb") as file, (tmp_path / "b").open("rb") as short_file:
        list(parse(short_file))
        before = descendants()
        blocks = parse(file)
        next(blocks)
        assert descendants() > before
        blocks.close()  # type: ignore[attr-defined]
    assert descendants() == before


def child_environ(code: str) -> str:
    """What code prints that runs under the child's restrictions."""
    script = (
        f"from firelaunch.rag.parse import ParseLimits, child\nchild._restrict(ParseLimits())\n{textwrap.dedent(code)}"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout


def test_the_child_can_write_no_file_and_take_no_more_memory(tmp_path: Path) -> None:
    write = f"""
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open({str(tmp_path / "x")!r}, "w") as file:
                file.write("x")
        except OSError:
            print("refused")
    """
    assert child_environ(write) == "refused\n"
    assert (tmp_path / "x").read_bytes() == b""
    assert child_environ("try:\n    bytes(10**9)\nexcept MemoryError:\n    print('refused')") == "refused\n"


def test_the_child_sees_nothing_of_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A library on PYTHONPATH would be imported by the child, and would leave a mark."""
    mark = tmp_path / "seen"
    (tmp_path / "sitecustomize.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert read("a.txt", b"text")
    assert not mark.exists()


def test_limits_are_those_of_the_child_alone(read: Read) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert read("a.txt", b"text")
    assert (resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_FSIZE)) == before


def test_where_the_system_limits_no_memory_the_child_ends_itself_and_the_user_is_told_why() -> None:
    """What a Mac does, by the same thread."""
    code = (
        "import time; from firelaunch.rag.parse.child import watch_memory; watch_memory(200_000_000); "
        "held = [bytearray(b'x' * 1_000_000) for _ in range(400)]; time.sleep(60)"
    )
    status = subprocess.run([sys.executable, "-c", code], check=False).returncode
    ours, theirs = socket.socketpair()
    output, their_output = os.pipe()
    os.close(their_output)
    theirs.send(str(status).encode())
    process = ParsingProcess(output, ours)
    theirs.close()
    with closing(process), pytest.raises(DocumentUnreadable) as caught:
        list(sandbox._blocks(process, ParseLimits(), lambda _: None, lambda _: None))
    assert caught.value.problem == "too_much_memory"
