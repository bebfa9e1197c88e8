"""Parse in a process of its own, so that a hostile file can take nothing with it.

The child is forked, for this one file, by a server that has imported the parsers and seen no file
(:mod:`.fork_server`). It inherits no environment, no open file but the document, and none of this process's memory. It
limits its own resources (:mod:`.child`), and is killed when its time is up. Its output is checked like any other input.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from tempfile import TemporaryFile
from typing import IO, Any

from ...errors import DocumentUnreadable
from .base import KINDS, MAX_BLOCK, MAX_DEPTH, MAX_HEADING, MEMORY_STATUS, Block, ParseLimits
from .extracts import content_of
from .failures import MESSAGES, failure
from .omissions import MESSAGES as OMISSIONS
from .omissions import Omission
from .parsing_processes import ForkServer, ParsingProcess

__all__ = ["extracts", "links", "parse", "pdf_size", "pictures"]

_SERVER = ForkServer()
_MAX_LINE = 512 * 1024
_MAX_COUNT = 10**9
_READ = 64 * 1024
_EXTENSION = re.compile(r"\.([A-Za-z0-9]{1,10})$")


def parse(
    file: IO[bytes],
    name: str = "",
    *,
    limits: ParseLimits | None = None,
    progress: Callable[[float], None] | None = None,
    omit: Callable[[Omission], None] | None = None,
) -> Iterator[Block]:
    """Yield a document's blocks in reading order.

    This process holds one block (at most ``MAX_BLOCK`` characters) and one read of 64 KiB at a time, however large the
    file; the child that parses holds at most ``limits.memory_bytes``.

    Args:
        file: a regular file, open for reading; its position is moved.
        name: the user's name of the file. Only its extension is used, and only if the content leaves a choice.
        limits: of reading the document.
        progress: called with a fraction from 0 to 1 that never falls.
        omit: called with what is not in the text, such as pages that are pictures; once for each code.

    Raises:
        DocumentUnreadable: the file cannot be read; its message says why and what to do. Blocks may have come before.
    """
    extension = _EXTENSION.search(name)
    return _run("any", file, extension[1].lower() if extension else "", limits or ParseLimits(), progress, omit)


def links(file: IO[bytes], *, limits: ParseLimits | None = None) -> list[str]:
    """Return the addresses in an HTML page: its base address ("#" if it names none), then those that it links to.

    Raises:
        DocumentUnreadable: the file cannot be read.
    """
    return [block.text for block in _run("links", file, "", limits or ParseLimits())]


def extracts(
    file: IO[bytes],
    name: str = "",
    *,
    limits: ParseLimits | None = None,
    omit: Callable[[Omission], None] | None = None,
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name and the content of each file that a mail holds as an attachment, if it can be read itself.

    The content is a temporary file, which is closed when the next one is asked for. Arguments are those of
    :func:`parse`; ``omit`` is called with the attachments that are left out.

    Raises:
        DocumentUnreadable: the mail cannot be read.
    """
    for block, content in _taken_out("files", file, name, limits, omit):
        yield (block.headings[-1] if block.headings else ""), content


def pictures(file: IO[bytes], name: str = "", *, limits: ParseLimits | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the picture, as JPEG, of each page that is a picture; of a picture file, each page's.

    Raises:
        DocumentUnreadable: the file cannot be read.
    """
    for block, content in _taken_out("pictures", file, name, limits, None):
        yield block.page or 1, content.read()


def _taken_out(
    what: str, file: IO[bytes], name: str, limits: ParseLimits | None, omit: Callable[[Omission], None] | None
) -> Iterator[tuple[Block, IO[bytes]]]:
    """Yield the first block and the content of each file that the child takes out of a document."""
    limits = limits or ParseLimits()
    encoded = replace(limits, text_characters=_MAX_COUNT)
    extension = _EXTENSION.search(name)
    blocks = _run(what, file, extension[1].lower() if extension else "", encoded, None, omit)
    try:
        for _, parts in groupby(blocks, key=lambda block: block.page):
            with TemporaryFile() as content:
                first = next(parts)
                for block in chain([first], parts):
                    content.write(content_of(block.text))
                    if content.tell() > limits.file_bytes:
                        raise failure("crashed", limits, "a file that is larger than its document")
                content.seek(0)
                yield first, content
    except ValueError as error:
        raise failure("crashed", limits, f"a file that is none: {error}") from error
    except DocumentUnreadable as error:
        if error.problem != "nothing_found":
            raise


def pdf_size(file: IO[bytes], *, limits: ParseLimits | None = None) -> tuple[int, int]:
    """Return the number of a PDF's pages, and the bytes of their text in UTF-8.

    Raises:
        DocumentUnreadable: the file cannot be read, or holds more text than ``limits`` allow.
    """
    limits = limits or ParseLimits()
    text = "".join(block.text for block in _run("pdf_size", file, "", limits))
    pages, _, size = text.partition(" ")
    if not (pages.isdecimal() and size.isdecimal()):
        raise failure("crashed", limits, "an answer that is no size")
    return int(pages), int(size)


def _run(
    format_name: str,
    file: IO[bytes],
    extension: str,
    limits: ParseLimits,
    progress: Callable[[float], None] | None = None,
    omit: Callable[[Omission], None] | None = None,
) -> Iterator[Block]:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("only a regular file can be parsed")
    if status.st_size == 0:
        raise failure("empty", limits)
    if status.st_size > limits.file_bytes:
        raise failure("too_large", limits, f"{status.st_size} bytes")
    process = _SERVER.start(format_name, extension, limits, file)
    try:
        yield from _blocks(process, limits, progress or (lambda _: None), omit or (lambda _: None))
    finally:
        process.close()


def _blocks(
    process: ParsingProcess,
    limits: ParseLimits,
    progress: Callable[[float], None],
    omit: Callable[[Omission], None] = lambda _: None,
) -> Iterator[Block]:
    at = 0
    omitted: set[str] = set()
    progress_so_far = 0.0
    for line in _lines(process.output, limits):
        match _message(line):
            case ["progress", float() | int() as fraction] if progress_so_far <= fraction <= 1:
                progress_so_far = float(fraction)
                progress(progress_so_far)
            case ["block", *fields]:
                block = _block(fields, at)
                at = block.end
                yield block
            case ["omission", str() as kind, int() as count, int() as total] if (
                kind in OMISSIONS and kind not in omitted and 0 < count <= _MAX_COUNT and 0 <= total <= _MAX_COUNT
            ):
                omitted.add(kind)
                omit(Omission(kind, count, total))
            case ["failed", str() as problem, str() as detail] if problem in MESSAGES:
                raise failure(problem, limits, detail)
            case ["done"]:
                progress(1.0)
                return
            case _:
                pass
    code = process.wait()
    if code in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise failure("too_slow", limits, "processor time")
    if code == MEMORY_STATUS:
        raise failure("too_much_memory", limits)
    if code >= 0:
        raise RuntimeError(f"the process that parses ended with status {code}; is firelaunch wholly installed?")
    raise failure("crashed", limits, f"signal {-code}")


def _lines(pipe: int, limits: ParseLimits) -> Iterator[bytes]:
    """Yield the child's lines. Only the time spent waiting for them counts toward its limit."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    seconds_left = limits.wall_seconds
    unfinished = b""
    while True:
        began = time.monotonic()
        ready = poll.poll(max(0.0, seconds_left) * 1000)
        seconds_left -= time.monotonic() - began
        if not ready or seconds_left <= 0:
            raise failure("too_slow", limits, f"{limits.wall_seconds} s")
        part = os.read(pipe, _READ)
        if not part:
            return
        *lines, unfinished = (unfinished + part).split(b"\n")
        yield from lines
        if len(unfinished) > _MAX_LINE:
            raise failure("crashed", limits, "an answer without end")


def _message(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _block(fields: list[Any], at: int) -> Block:
    """Return a valid block.

    Raises:
        DocumentUnreadable: it is not valid, because the child was taken over or has a bug.
    """
    match fields:
        case [str() as text, str() as kind, int() as start, int() | None as page, [*headings]] if (
            0 < len(text) <= MAX_BLOCK
            and kind in KINDS
            and at <= start <= at + MAX_BLOCK
            and len(headings) <= MAX_DEPTH
            and all(isinstance(heading, str) and len(heading) <= MAX_HEADING for heading in headings)
        ):
            return Block(text, kind, start, page, tuple(headings))  # type: ignore[arg-type]
    raise failure("crashed", ParseLimits(), "an answer that is no block")
