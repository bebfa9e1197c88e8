"""How well chunks hold what answers a question: the default chunker beside one that cuts by size alone.

The corpora lie beside this repository in ``shared/data/chunking`` (or in a folder above); without them there is
nothing to measure, and this says so. Chunks of all corpora are searched together with BM25 (SQLite's FTS5, stemmed). Of
the first five, recall is the share of the marked characters that they hold, precision the share of theirs that is
marked; both are means over the questions.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

from firelaunch.rag.chunk import Chunking, DocumentChunk, chunks
from firelaunch.rag.parse.base import Block, place
from firelaunch.rag.parse.text import paragraphs

from bench.report import Report, data, progress, size

FIRST = 5
QUESTIONS = size(None, 20)
"""Asked at most; all, in the full form."""

SIZES = ((200, 40), (300, 60), (400, 80))[: size(3, 1)]
"""Size and overlap; the first is the default."""

STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by did do does for from had has have he her his how i in into is it its of on or "
        "our she so that the their them there these they this to was we were what when where which who whom why will "
        "with you your",
    )
)
Span = tuple[str, int, int]


def main() -> None:
    """Measure and report, where there is anything to measure on."""
    folder = data("chunking")
    if folder is None:
        print("\nchunking\n  skipped: there is no folder shared/data/chunking beside the repository")
        return
    report = Report("chunking")
    texts = {path.stem: path.read_text() for path in sorted((folder / "corpora").glob("*.md"))}
    blocks = {name: list(place(paragraphs(iter([text])))) for name, text in texts.items()}
    questions = read_questions(folder / "questions.csv")[:QUESTIONS]
    found: dict[tuple[int, str], tuple[float, float]] = {}
    with progress("chunking", 2 * len(SIZES)) as step:
        for size, overlap in SIZES:
            for method in ("structure", "fixed"):
                found[size, method] = recall, precision = measure(blocks, questions, Chunking(method, size, overlap))
                case = f"{method}, {size} tokens, overlap {overlap}"
                report.row(case, "recall of marked characters", recall, "")
                report.row(case, "precision of marked characters", precision, "")
                step()
    for number, name in enumerate(("recall", "precision")):
        size = SIZES[0][0]
        report.ratio(
            f"{name}_vs_fixed", found[size, "structure"][number] / found[size, "fixed"][number], more_is_better=True
        )
    report.write()


def read_questions(path: Path) -> list[tuple[str, list[Span]]]:
    """Each question with the spans that are marked for it."""
    csv.field_size_limit(2**24)
    with path.open(newline="") as file:
        return [
            (
                row["question"],
                [(row["corpus_id"], mark["start_index"], mark["end_index"]) for mark in json.loads(row["references"])],
            )
            for row in csv.DictReader(file)
        ]


def measure(
    blocks: dict[str, list[Block]], questions: list[tuple[str, list[Span]]], how: Chunking
) -> tuple[float, float]:
    """Mean recall and precision."""
    cut: list[tuple[str, DocumentChunk]] = [(name, chunk) for name in blocks for chunk in chunks(blocks[name], how)]
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE found USING fts5(text, tokenize = 'porter unicode61')")
    index.executemany("INSERT INTO found (rowid, text) VALUES (?, ?)", ((at, c.text) for at, (_, c) in enumerate(cut)))
    recall = precision = 0.0
    for question, marks in questions:
        words = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP]
        query = " OR ".join(f'"{word}"' for word in words)
        rows = index.execute("SELECT rowid FROM found WHERE found MATCH ? ORDER BY rank LIMIT ?", (query, FIRST))
        held = characters([(cut[at][0], cut[at][1].start, cut[at][1].end) for (at,) in rows])
        marked = characters(marks)
        recall += len(held & marked) / len(marked)
        precision += len(held & marked) / max(1, len(held))
    index.close()
    return recall / len(questions), precision / len(questions)


def characters(spans: list[Span]) -> set[tuple[str, int]]:
    """The characters in any of the spans, each once."""
    return {(name, at) for name, start, end in spans for at in range(start, end)}
