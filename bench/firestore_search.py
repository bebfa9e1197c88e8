"""Firestore's own index on the emulator: what a question reads and costs, how long it takes, and how well it finds.

One user has 30,000 chunks of generated text in 300 documents. Questions are of common words and of rare ones. Reads
are counted by Firestore's rules of billing; times are the emulator's, which goes through all vectors in one process.
Where the Cranfield collection lies beside this repository in ``shared/data/cranfield`` (or in a folder above), nDCG@10
is set against the embedded index.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import SHORT, Report, data, size

CHUNKS, DIMENSIONS, QUESTIONS = size((30_000, 64, 20), (300, 8, 5))
PER_DOCUMENT = 100
VOCABULARY = 40_000
TERMS = 120
READ_USD = 0.03 / 100_000
"""Of one read in Iowa (us-central1); other regions take up to twice that (https://cloud.google.com/firestore/pricing)."""


def main() -> None:
    """Measure and report."""
    from firelaunch.testing.emulator import Emulator

    report = Report("firestore_search")
    with Emulator.start() as emulator:
        questions(report, emulator)
        collection = None if SHORT else data("cranfield")
        if collection is not None:
            quality(report, emulator, collection)
    report.write()


def questions(report: Report, emulator: Any) -> None:
    """What a hybrid question reads and costs, and how long it takes."""
    import numpy as np
    from firelaunch.rag.embed.base import Embedded, Embedder
    from firelaunch.rag.index.firestore import FirestoreIndex
    from firelaunch.rag.index.scoped import ScopedIndex
    from firelaunch.rag.retrieve import Retriever
    from firelaunch.scope import Scope
    from firelaunch.testing.firestore_reads import FirestoreReads

    rng = np.random.default_rng(1)

    class Model:
        """Vectors at random, at once."""

        id, batch_texts, batch_tokens = "random", 1_000, 10_000_000

        def request(self, texts: Any, **_: Any) -> Embedded:
            return Embedded(rng.standard_normal((len(texts), DIMENSIONS)).astype(np.float32), tokens=len(texts))

    client = emulator.client("demo-bench")
    index, scope = FirestoreIndex("demo-bench", client=client), Scope("bench", "ada")
    took = fill(index, scope, rng)
    report.row(f"{CHUNKS:,} chunks", "written", CHUNKS / took, "chunks/s")

    reads = FirestoreReads(client, lambda *_: CHUNKS)
    retriever = Retriever(ScopedIndex(index, "bench"), lambda: "v1", Embedder(Model()))  # type: ignore[arg-type]
    for case, low, high in (("common words", 0, 50), ("rare words", 500, 20_000), ("any words", 0, 20_000)):
        seconds, documents, billed = [], [], []
        for number in range(QUESTIONS):
            said(f"{case}: question {number + 1} of {QUESTIONS}")
            reads.reset()
            began = time.perf_counter()
            retriever.search(scope, " ".join(word(n) for n in rng.integers(low, high, 8)), library=number % 2 == 0)
            seconds.append(time.perf_counter() - began)
            documents.append(reads.documents)
            billed.append(reads.billed)
        title = f"hybrid, 8 {case}"
        report.row(title, "documents read, most", max(documents), "reads")
        report.row(title, "documents read, median", float(np.median(documents)), "reads")
        report.row(title, "billed with the vector index, median", float(np.median(billed)), "reads")
        report.row(title, "1,000 questions", 1_000 * float(np.mean(billed)) * READ_USD, "USD")
        report.row(title, "p95 on the emulator", 1_000 * float(np.percentile(seconds, 95)), "ms")
        words = []
        for _ in range(QUESTIONS):
            query = " ".join(word(n) for n in rng.integers(low, high, 8))
            began = time.perf_counter()
            index.matching(scope, "v1", query, 50, library=False, texts=False)
            words.append(time.perf_counter() - began)
        report.row(title, "words alone, p95 on the emulator", 1_000 * float(np.percentile(words, 95)), "ms")
    retriever.close()
    index.close()


def fill(index: Any, scope: Any, rng: Any) -> float:
    """Write all chunks, as documents do, in windows; seconds."""
    import numpy as np
    from firelaunch.rag.index.base import Entry

    odds = 1 / np.arange(1, VOCABULARY + 1)
    odds /= odds.sum()
    began = time.perf_counter()
    for first in range(0, CHUNKS, PER_DOCUMENT):
        said(f"{first:,} of {CHUNKS:,} chunks")
        rows = range(first, min(CHUNKS, first + PER_DOCUMENT))
        texts = rng.choice(VOCABULARY, (len(rows), TERMS), p=odds)
        vectors = rng.standard_normal((len(rows), DIMENSIONS)).astype(np.float32)
        entries = [
            Entry(f"{n:032x}", f"d{first}", " ".join(map(word, text)), vector)
            for n, text, vector in zip(rows, texts, vectors, strict=True)
        ]
        index.upsert(scope, "v1", entries)
    return time.perf_counter() - began


def quality(report: Report, emulator: Any, collection: Path) -> None:
    """nDCG@10 on Cranfield, of both indexes."""
    from firelaunch.rag.index.firestore import FirestoreIndex
    from firelaunch.rag.index.scoped import ScopedIndex
    from firelaunch.services.build_search import named_embedder, scratch_index
    from firelaunch_cli.evals.retrieval import Subject, evaluate, load

    found = {}
    embedder = named_embedder("auto", os.environ)
    with tempfile.TemporaryDirectory() as folder:
        there = FirestoreIndex("demo-quality", client=emulator.client("demo-quality"))
        for name, index in (
            ("embedded", scratch_index(Path(folder), "eval")),
            ("firestore", ScopedIndex(there, "eval")),
        ):
            said(f"Cranfield on {name}")
            for mode, row in evaluate(load(collection), Subject(index, embedder))["modes"].items():
                found[name, mode] = row["ndcg@10"]
                report.row(f"Cranfield, {mode}", f"nDCG@10 of {name}", row["ndcg@10"], "")
            index.close()
    for mode in {mode for _, mode in found}:
        report.ratio(
            f"nDCG@10 of firestore to embedded, {mode}",
            found["firestore", mode] / found["embedded", mode],
            more_is_better=True,
        )


def word(number: int) -> str:
    """The number as a word that no stemmer changes."""
    return f"w{number}"


def said(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K  {text} ...", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
