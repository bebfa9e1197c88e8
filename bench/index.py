"""The embedded index at 100,000 chunks of 384 dimensions on one core: recall, latency, memory, and what a write costs.

Two sets of vectors: spread at random, where the nearest is hardly nearer than the rest and one bit a dimension says
least, and in clusters, as embeddings of related texts are. Each set runs in a process of its own, and so does each
first search: ``python -m bench.index cold FOLDER vectors`` prints its seconds and its processor seconds.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.report import ROOT, Report, size

COUNT, DIMENSIONS, QUERIES, BATCH = size((100_000, 384, 200, 2_000), (1_000, 384, 10, 500))
SETS = {"random": "vectors at random", "clusters": "vectors in clusters"}
COLD = ("vectors", "words", "both")
STARTS = size(5, 1)
MEGABYTE = 2**20


def main() -> None:
    """Measure and report."""
    report = Report("index")
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for name, title in SETS.items():
        command = [sys.executable, "-m", "bench.index", name]
        done = subprocess.run(command, cwd=ROOT, env=one_core, stdout=subprocess.PIPE, text=True, check=True)
        figures: dict[str, float] = {}
        for metric, value, unit in json.loads(done.stdout):
            report.row(f"{COUNT:,} x {DIMENSIONS}, {title}", metric, value, unit)
            figures[metric] = value
        report.ratio(f"words_vs_sqlite, {title}", figures["words p50"] / figures["words p50, ranked by SQLite"])
        report.ratio(f"filter, {title}", figures["words p50, filter of 1,000 documents"] / figures["words p50"])
    report.write()


def measure(kind: str) -> list[tuple[str, float, str]]:
    """One set's figures."""
    import numpy as np
    from firelaunch.rag.index.base import Entry
    from firelaunch.rag.index.embedded import EmbeddedIndex
    from firelaunch.scope import Scope

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(1)
    vectors, queries = data(kind, rng)
    scope = Scope("bench", "ada")
    with tempfile.TemporaryDirectory() as folder:
        index = EmbeddedIndex(Path(folder))
        began = time.perf_counter()
        for start in range(0, COUNT, BATCH):
            said(kind, start + BATCH)
            rows = range(start, start + BATCH)
            index.upsert(scope, "v1", [Entry(f"e{n}", f"d{n // 50}", text(n, rng), vectors[n]) for n in rows])
        written = time.perf_counter() - began
        index.close()

        colds = {what: cold(folder, what) for what in COLD}
        index = EmbeddedIndex(Path(folder))
        before = resident()
        began = time.perf_counter()
        index.nearest(scope, "v1", queries[0], 10)
        first = time.perf_counter() - began
        memory = resident() - before
        took, recalls = [], []
        for query in queries:
            began = time.perf_counter()
            hits = index.nearest(scope, "v1", query, 10)
            took.append(time.perf_counter() - began)
            wanted = {f"e{n}" for n in np.argpartition(-(vectors @ query), 10)[:10]}
            recalls.append(len(wanted & {hit.entry.id for hit in hits}) / 10)
        began = time.perf_counter()
        index.upsert(scope, "v1", [Entry("new", "d", "one more", vectors[0])])
        index.nearest(scope, "v1", queries[0], 10)
        after_write = time.perf_counter() - began
        words = []
        for number in range(50):
            began = time.perf_counter()
            index.matching(scope, "v1", text(number, rng)[:60], 10)
            words.append(time.perf_counter() - began)
        by_sqlite = words_by_sqlite(Path(folder), [text(number, rng)[:60] for number in range(50)])
        named = {"document": [f"d{number}" for number in range(min(1_000, COUNT // 50))]}
        filtered = []
        for number in range(50):
            began = time.perf_counter()
            index.matching(scope, "v1", text(number, rng)[:60], 10, named)
            filtered.append(time.perf_counter() - began)
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        index.close()
    return [
        ("recall@10", float(np.mean(recalls)), ""),
        ("p50", float(np.percentile(took, 50)) * 1e3, "ms"),
        ("p95", float(np.percentile(took, 95)) * 1e3, "ms"),
        ("memory", memory / MEGABYTE, "MB"),
        ("first search", first * 1e3, "ms"),
        *((f"first search of a process, {what}", seconds * 1e3, "ms") for what, (seconds, _) in colds.items()),
        *((f"first search of a process, {what}, processor", used * 1e3, "ms") for what, (_, used) in colds.items()),
        ("write of one and search", after_write * 1e3, "ms"),
        ("words p50", float(np.percentile(words, 50)) * 1e3, "ms"),
        ("words p50, ranked by SQLite", by_sqlite * 1e3, "ms"),
        ("words, the first search", words[0] * 1e3, "ms"),
        ("words p50, filter of 1,000 documents", float(np.percentile(filtered, 50)) * 1e3, "ms"),
        ("written", COUNT / written, "chunks/s"),
        ("disk", disk / MEGABYTE, "MB"),
    ]


def cold(folder: str, what: str) -> tuple[float, float]:
    """Seconds and processor seconds of the first search of a process: the medians of some."""
    command = [sys.executable, "-m", "bench.index", "cold", folder, what]
    runs = [
        json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout) for _ in range(STARTS)
    ]
    seconds, used = ([run[part] for run in runs] for part in (0, 1))
    return statistics.median(seconds), statistics.median(used)


def first_search(folder: str, what: str) -> tuple[float, float]:
    """Seconds and processor seconds of this process's first search, with the imports that it waits for."""
    from firelaunch.rag.index.embedded import EmbeddedIndex
    from firelaunch.scope import Scope

    index, scope, dice = EmbeddedIndex(Path(folder)), Scope("bench", "ada"), random.Random(2)  # noqa: S311
    began, used = time.perf_counter(), time.process_time()
    if what != "words":
        import numpy as np

        vector = np.asarray([dice.gauss() for _ in range(DIMENSIONS)], np.float32)
        assert len(index.nearest(scope, "v1", vector, 10)) == 10
    if what != "vectors":
        ranks = [1, 5, 1, 2, 34, 1, 2, 7, 100]
        question = " ".join(f"word{rank}" for rank in ranks)
        assert len(index.matching(scope, "v1", question, 10)) == 10
    result = time.perf_counter() - began, time.process_time() - used
    index.close()
    return result


def words_by_sqlite(folder: Path, questions: list[str]) -> float:
    """Median seconds of the same search by the rank of SQLite's FTS5, which looks at each occurrence."""
    from firelaunch.rag.index.words import Analyzer

    (path,) = folder.rglob("*.sqlite3")
    took = []
    with closing(sqlite3.connect(path)) as connection:
        for question in questions:
            began = time.perf_counter()
            match = " OR ".join(f'"{term}"' for term in Analyzer().query(question, ["english"]))
            sql = "SELECT rowid, rank FROM terms WHERE terms MATCH ? ORDER BY rank LIMIT 10"
            connection.execute(sql, (match,)).fetchall()
            took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]


def data(kind: str, rng: Any) -> tuple[Any, Any]:
    """Vectors and queries of length one."""
    import numpy as np

    both = rng.standard_normal((COUNT + QUERIES, DIMENSIONS), dtype=np.float32)
    if kind == "clusters":
        centres = rng.standard_normal((500, DIMENSIONS), dtype=np.float32)
        # All of them lean one way, as the embeddings of one model do.
        both = centres[rng.integers(0, len(centres), len(both))] + np.float32(0.7) * both + np.float32(0.5)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    return both[:COUNT], both[COUNT:]


def text(number: int, rng: Any) -> str:
    """Forty words, common ones more often than rare ones."""
    return " ".join(f"word{int(rank)}" for rank in rng.zipf(1.3, 40).clip(1, 50_000)) + f" number{number}"


def resident() -> int:
    """Bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def said(kind: str, done: int) -> None:
    """The progress, on standard error."""
    sys.stderr.write(f"\rindex, {SETS[kind]}: {done:,} of {COUNT:,} written" + ("\n" if done == COUNT else ""))
    sys.stderr.flush()


if __name__ == "__main__":
    print(json.dumps(first_search(*sys.argv[2:]) if sys.argv[1] == "cold" else measure(sys.argv[1])))
