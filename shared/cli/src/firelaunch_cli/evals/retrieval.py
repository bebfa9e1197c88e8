"""Measure retrieval: ask the questions of a collection in BEIR's format in each search mode, and score the results.

The folder holds ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``) and
``qrels/test.tsv`` (query-id, corpus-id, score), as in https://github.com/beir-cellar/beir. A query may have
``history``, the messages of the chat before it (``role``, ``text``), and ``rewritten``, the question that needs no
history.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from firelaunch.llm.types import Message
from firelaunch.rag.embed.base import Embedder
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.retrieve import Mode, RetrievalLimits, Retriever
from firelaunch.scope import Scope
from firelaunch.turns.grounding import earlier_text

__all__ = [
    "CollectionError",
    "EvalCollection",
    "evaluate",
    "load",
    "mrr",
    "ndcg",
    "recall",
    "regressions",
    "shortfalls",
]

_BATCH = 128
_DEPTH = 100
_CUT = 10
_SCOPE = Scope("eval", "eval")
_VERSION = "eval"

Progress = Callable[[str, int, int], None]


class CollectionError(Exception):
    """The folder is not a valid collection. The message says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class EvalCollection:
    """Documents by id, questions by id, and each question's judged documents with their grades.

    ``earlier`` holds, by question, what its user said before; ``rewritten`` the questions as they read on their own.
    Both are empty for a collection without conversations.
    """

    name: str
    documents: Mapping[str, str]
    questions: Mapping[str, str]
    judgments: Mapping[str, Mapping[str, int]]
    earlier: Mapping[str, str] = field(default_factory=dict)
    rewritten: Mapping[str, str] = field(default_factory=dict)


def load(folder: Path) -> EvalCollection:
    """Read a collection.

    Raises:
        CollectionError: a file is missing, or a line is not valid.
    """
    documents = {
        str(row["_id"]): "\n".join(filter(None, (str(row.get("title") or ""), str(row.get("text") or ""))))
        for row in _rows(folder / "corpus.jsonl")
    }
    queries = {str(row["_id"]): row for row in _rows(folder / "queries.jsonl")}
    questions = {name: str(row.get("text") or "") for name, row in queries.items()}
    judgments = _judgments(folder / "qrels" / "test.tsv")
    judged = {question: grades for question, grades in judgments.items() if question in questions}
    if not documents or not judged:
        raise CollectionError(f"{folder} holds no documents, or no judgments of its questions.")
    return EvalCollection(
        folder.resolve().name,
        documents,
        {name: questions[name] for name in judged},
        judged,
        {name: earlier for name in judged if (earlier := _earlier(queries[name], folder / "queries.jsonl"))},
        {name: str(queries[name]["rewritten"]) for name in judged if queries[name].get("rewritten")},
    )


def _earlier(row: Mapping[str, Any], path: Path) -> str:
    """Return what a turn in the app would search with the question: the user's messages before it."""
    try:
        history: list[Message] = [
            {"role": each["role"], "content": str(each["text"])} for each in row.get("history", ())
        ]
    except (TypeError, KeyError):
        raise CollectionError(
            f"{path}: the history of {row['_id']} is not a list of messages with role and text."
        ) from None
    return earlier_text(history)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
            yield {"_id": row["_id"], **row}
        except (ValueError, TypeError, KeyError):
            raise CollectionError(f"{path}, line {number}: not a JSON object with an _id.") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}. A BEIR folder has this file.") from None


def _judgments(path: Path) -> dict[str, dict[str, int]]:
    judgments: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        parts = line.split("\t")
        if number == 1 and parts[-1].strip() == "score":
            continue
        try:
            question, document, grade = parts
            judgments.setdefault(question, {})[document] = int(grade)
        except ValueError:
            raise CollectionError(
                f"{path}, line {number}: not query-id, corpus-id and score with tabs between."
            ) from None
    return {question: grades for question, grades in judgments.items() if any(grade > 0 for grade in grades.values())}


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], k: int = _CUT) -> float:
    """Return the normalised discounted cumulative gain: the gain is the grade, the discount 1 / log2(rank + 1)."""
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    return _dcg([max(0, grades.get(name, 0)) for name in ranking[:k]]) / _dcg(best[:k])


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall(ranking: Sequence[str], grades: Mapping[str, int], k: int = _DEPTH) -> float:
    """Return the share of the documents with a grade above 0 that are among the first ``k``."""
    relevant = {name for name, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant)


def mrr(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """Return 1 / rank of the first document with a grade above 0, or 0 if there is none."""
    return next((1 / rank for rank, name in enumerate(ranking, 1) if grades.get(name, 0) > 0), 0.0)


def evaluate(
    collection: EvalCollection, index: ScopedIndex, embedder: Embedder | None, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Index the collection with one entry for each document, ask every question in every mode, and return a report.

    Args:
        index: an empty index of the app "eval".
        progress: called with the kind of work, the number done, and the total.
    """
    names = [f"d{number}" for number in range(len(collection.documents))]
    ids = dict(zip(names, collection.documents, strict=True))
    began = time.perf_counter()
    _fill(index, dict(zip(names, collection.documents.values(), strict=True)), embedder, progress)
    indexing = time.perf_counter() - began
    retriever = Retriever(index, lambda: _VERSION, embedder, RetrievalLimits())
    modes: tuple[Mode, ...] = ("lexical", "vector", "hybrid") if embedder else ("lexical",)
    variants = {"": collection}
    if collection.earlier:
        variants |= {" alone": replace(collection, earlier={})}
    if collection.rewritten.keys() == collection.questions.keys():
        variants |= {" rewritten": replace(collection, questions=collection.rewritten, earlier={})}
    try:
        rows = {
            mode + name: _measure(variant, retriever, mode, ids, progress)
            for mode in modes
            for name, variant in variants.items()
        }
    finally:
        retriever.close()
    return {
        "collection": collection.name,
        "documents": len(collection.documents),
        "questions": len(collection.questions),
        "embedder": embedder.id if embedder else None,
        "indexing_seconds": round(indexing, 2),
        "modes": rows,
    }


def _fill(index: ScopedIndex, texts: Mapping[str, str], embedder: Embedder | None, progress: Progress) -> None:
    # An empty document may be judged, but no search can find it.
    filled = [name for name, text in texts.items() if text.strip()]
    for first in range(0, len(filled), _BATCH):
        batch = filled[first : first + _BATCH]
        vectors = list(embedder.embed([texts[name] for name in batch]).vectors) if embedder else [None] * len(batch)
        entries = [Entry(name, name, texts[name], vector) for name, vector in zip(batch, vectors, strict=True)]
        index.upsert(_SCOPE, _VERSION, entries)
        progress("indexing", first + len(batch), len(filled))


def _measure(
    collection: EvalCollection, retriever: Retriever, mode: Mode, ids: Mapping[str, str], progress: Progress
) -> dict[str, float]:
    scores: dict[str, list[float]] = {"ndcg@10": [], "recall@100": [], "mrr": []}
    times = []
    for number, (name, question) in enumerate(collection.questions.items(), 1):
        began = time.perf_counter()
        hits = retriever.rank(_SCOPE, question, mode, _DEPTH, earlier=collection.earlier.get(name, ""))
        times.append((time.perf_counter() - began) * 1e3)
        ranking, grades = [ids[hit.entry.document] for hit in hits], collection.judgments[name]
        for metric, value in (("ndcg@10", ndcg), ("recall@100", recall), ("mrr", mrr)):
            scores[metric].append(value(ranking, grades))
        progress(mode, number, len(collection.questions))
    times.sort()
    row = {metric: round(statistics.fmean(values), 4) for metric, values in scores.items()}
    return row | {f"p{p}_ms": round(times[min(len(times) - 1, len(times) * p // 100)], 2) for p in (50, 95)}


def regressions(new: Mapping[str, Any], old: Mapping[str, Any], threshold: float) -> list[str]:
    """Describe the metrics (from 0 to 1) that are worse than in an older report by more than ``threshold``.

    A mode that the newer report lacks is a regression, and so is another collection. Latencies are not compared, as
    they depend on the machine.
    """
    if new["collection"] != old["collection"]:
        return [f"the collections differ: {new['collection']} now, {old['collection']} then"]
    worse = []
    for mode, before in old["modes"].items():
        now = new["modes"].get(mode)
        if now is None:
            worse.append(f"{mode}: was measured then, and is not now")
            continue
        worse += [
            f"{mode}: {metric} is {now.get(metric, 0.0):.4f}, and was {before[metric]:.4f}"
            for metric in before
            if not metric.endswith("_ms") and now.get(metric, 0.0) < before[metric] - threshold
        ]
    return worse


def shortfalls(report: Mapping[str, Any], least: Mapping[str, float]) -> list[str]:
    """Describe the figures that are below their least value.

    Args:
        least: by figure, such as "passed" for the lowest of all modes, or "hybrid.ndcg@10" for that of one mode.

    Raises:
        CollectionError: the report has no such figure.
    """
    below = []
    for name, value in least.items():
        mode, _, metric = name.rpartition(".")
        found = {
            each: row[metric] for each, row in report["modes"].items() if metric in row and (not mode or each == mode)
        }
        if not found:
            known = sorted({f"{each}.{metric}" for each, row in report["modes"].items() for metric in row})
            raise CollectionError(f"--min: there is no figure {name!r}; there are: {', '.join(known)}.")
        below += [f"{each}: {metric} is {now:.4f}, and must be {value}" for each, now in found.items() if now < value]
    return below
