"""What it costs to read and cut documents, without an embedder: chunks per second of one core, and how cost grows.

All processor time counts, that of the processes that parse too. The documents are made up, each of about 12 pages. Then
:mod:`bench.ingest_served` looks at an app that takes in small files.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from firelaunch.rag.chunk import Chunking, chunks
from firelaunch.rag.parse import ParseLimits, parse
from firelaunch.testing.documents import lines_of, pdf

from bench import ingest_served
from bench.report import Report, progress, size

FEW, TIMES = size((5, 10), (1, 2))
SECTIONS = size(30, 6)
ROUNDS = size(3, 1)


def main() -> None:
    """Measure and report."""
    report = Report("ingest")
    made = [sections(number) for number in range(FEW * TIMES)]
    with tempfile.TemporaryDirectory() as folder, progress("ingest", ROUNDS * (2 * len(FORMATS) + 2)) as step:
        costs: dict[str, tuple[float, float]] = {}
        for name, form in FORMATS.items():
            paths = [write(Path(folder) / f"{number}.{name}", form(text)) for number, text in enumerate(made)]
            for count in (FEW, FEW * TIMES):
                costs[f"{name} {count}"] = least(lambda paths=paths[:count]: ingest(paths), step)  # type: ignore[misc]
        one = [
            write(Path(folder) / f"one-{count}.md", markdown(list(chain.from_iterable(made[:count]))))
            for count in (FEW, FEW * TIMES)
        ]
        length = [least(lambda path=path: ingest([path]), step)[0] for path in one]  # type: ignore[misc]
    for name in FORMATS:
        seconds, count = costs[f"{name} {FEW * TIMES}"]
        report.row(f"{FEW * TIMES} documents, {name}", "chunks per second and core", count / seconds, "1/s")
        report.row(f"{FEW * TIMES} documents, {name}", "processor time a document", 1e3 * seconds / FEW / TIMES, "ms")
    few, many = (sum(costs[f"{name} {count}"][0] for name in FORMATS) for count in (FEW, FEW * TIMES))
    report.ratio(f"time_{TIMES}x", many / few)
    report.ratio(f"time_{TIMES}x_longer", length[1] / length[0])
    ingest_served.measure(report)
    report.write()


def least(work: Callable[[], int], step: Callable[[], None]) -> tuple[float, int]:
    """Processor seconds of the cheapest of some rounds, and what the work gave: others share the machine."""
    found = []
    for _ in range(ROUNDS):
        before = processor_seconds()
        count = work()
        found.append((processor_seconds() - before, count))
        step()
    return min(found)


def ingest(paths: list[Path]) -> int:
    """Parse and cut; the number of chunks."""
    count = 0
    for path in paths:
        with path.open("rb") as file:
            count += sum(
                len(chunk.hash) > 0 for chunk in chunks(parse(file, path.name, limits=ParseLimits()), Chunking())
            )
    return count


def processor_seconds() -> float:
    """Of this process, of its children that have ended, and of the server that forks parsers, with its own."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    for listed in Path("/proc/self/task").glob("*/children"):
        for process in listed.read_text().split():
            # User and system time, its own and that of its children (proc_pid_stat(5), fields 14 to 17).
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return seconds


def sections(seed: int) -> list[tuple[str, list[str]]]:
    """Headings with their paragraphs, the same for a seed."""
    pick = random.Random(seed)  # noqa: S311 - the same text each time

    def words(least: int, most: int) -> str:
        return " ".join(
            "abcdefghilmnoprstu"[pick.randrange(18)] * 2 + "etion"[: pick.randrange(6)]
            for _ in range(pick.randint(least, most))
        )

    def paragraph() -> str:
        return " ".join(words(8, 25).capitalize() + "." for _ in range(pick.randint(2, 7)))

    return [(words(2, 6).capitalize(), [paragraph() for _ in range(pick.randint(2, 5))]) for _ in range(SECTIONS)]


def markdown(text: list[tuple[str, list[str]]]) -> bytes:
    """As Markdown."""
    return "\n\n".join("\n\n".join([f"## {title}", *body]) for title, body in text).encode()


def html(text: list[tuple[str, list[str]]]) -> bytes:
    """As a page."""
    body = "".join(f"<h2>{title}</h2>" + "".join(f"<p>{part}</p>" for part in parts) for title, parts in text)
    return f"<!doctype html><html><body>{body}</body></html>".encode()


def as_pdf(text: list[tuple[str, list[str]]]) -> bytes:
    """As a PDF of pages of 45 lines."""
    lines = lines_of(markdown(text).decode())
    return pdf([lines[at : at + 45] for at in range(0, len(lines), 45)])


FORMATS: dict[str, Callable[[list[tuple[str, list[str]]]], bytes]] = {"md": markdown, "html": html, "pdf": as_pdf}


def write(path: Path, content: bytes) -> Path:
    """A file with this content."""
    path.write_bytes(content)
    return path
