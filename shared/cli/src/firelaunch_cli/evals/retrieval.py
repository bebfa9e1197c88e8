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

from firelaunch.llm.types import FinishedCall, Message
from firelaunch.rag.chunk import Chunking, chunks
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.rag.index.base import Entry, Hit
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.parse.base import place
from firelaunch.rag.parse.text import paragraphs
from firelaunch.rag.retrieve import Mode, Retriever, in_conversation
from firelaunch.scope import Scope
from firelaunch.turns.grounding import earlier_text
from pydantic import ValidationError

__all__ = [
    "CollectionError",
    "EvalCollection",
    "Subject",
    "evaluate",
    "latencies",
    "load",
    "mrr",
    "ndcg",
    "recall",
    "regressions",
    "shortfalls",
    "wrong_field",
]

_BATCH = 128
_DEPTH = 100
_CUT = 10
_SCOPE = Scope("eval", "eval")
_RERANKED = 50
_CEILING = f"best@{_RERANKED}"
_PASSAGES_A_DOCUMENT = 3
"""Passages that are searched for each document of the ranking, where documents are cut."""

Progress = Callable[[str, int, int], None]


class CollectionError(Exception):
    """The folder is not a valid collection. The message says what is wrong, and where."""


def wrong_field(error: ValidationError) -> str:
    """Return where the first error is, and what is wrong: "question 2 must_cite: Field required"."""
    first = error.errors()[0]
    where = " ".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


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


@dataclass(frozen=True, slots=True)
class Subject:
    """The search that is measured, and how a collection's documents get into its index.

    Args:
        index: of the scope's app.
        chunking: how documents are cut; None for one passage a document.
        retriever: searches the index; None for one with the usual limits and no reranker.
        candidates: the hits that the retriever's reranker is given.
        cost: returns the embedder's micro-dollars for a number of tokens.
        about: what the report says of the search.
    """

    index: ScopedIndex
    embedder: Embedder | None = None
    scope: Scope = _SCOPE
    version: str = "eval"
    chunking: Chunking | None = None
    retriever: Retriever | None = None
    candidates: int = 50
    cost: Callable[[int], int] = lambda _: 0
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Tally:
    """Counts the money that the measurement spends, and the failures of the reranker."""

    micro_usd: int = 0
    failed: int = 0

    def spend(self, call: FinishedCall) -> None:
        self.micro_usd += call.micro_usd


def evaluate(collection: EvalCollection, subject: Subject, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Index the collection, ask every question in every mode, and return a report.

    With a reranker, each mode is measured with and without it. What was indexed is removed again.

    Args:
        progress: called with the kind of work, the number done, and the total.
    """
    names = [f"d{number}" for number in range(len(collection.documents))]
    ids = dict(zip(names, collection.documents, strict=True))
    own = subject.retriever or Retriever(subject.index, lambda: subject.version, subject.embedder)
    tally, began = _Tally(), time.perf_counter()
    try:
        passages = _fill(subject, dict(zip(names, collection.documents.values(), strict=True)), tally, progress)
        indexing = time.perf_counter() - began
        rows = _rows_of(collection, replace(subject, retriever=own), ids, tally, progress)
    finally:
        own.close()
        subject.index.delete(subject.scope, version=subject.version)
    return {
        "collection": collection.name,
        "documents": len(collection.documents),
        "passages": passages,
        "questions": len(collection.questions),
        "embedder": subject.embedder.id if subject.embedder else None,
        **subject.about,
        "indexing_seconds": round(indexing, 2),
        "cost_micro_usd": tally.micro_usd,
        "reranker_failed": tally.failed,
        "modes": rows,
    }


def _fill(subject: Subject, texts: Mapping[str, str], tally: _Tally, progress: Progress) -> int:
    """Index the texts by their names, and return the number of passages."""
    # An empty document may be judged, but no search can find it.
    cut = [
        (name, passage)
        for name, text in texts.items()
        for passage in _passages(text, subject.chunking)
        if passage.strip()
    ]
    for first in range(0, len(cut), _BATCH):
        batch = cut[first : first + _BATCH]
        vectors: Sequence[Any] = [None] * len(batch)
        if subject.embedder:
            embedded = subject.embedder.embed([passage for _, passage in batch])
            tally.micro_usd += subject.cost(embedded.tokens)
            vectors = list(embedded.vectors)
        entries = [
            Entry(f"{name}-{number}", name, passage, vector)
            for number, ((name, passage), vector) in enumerate(zip(batch, vectors, strict=True), first)
        ]
        subject.index.upsert(subject.scope, subject.version, entries)
        progress("indexing", first + len(batch), len(cut))
    return len(cut)


def _passages(text: str, chunking: Chunking | None) -> list[str]:
    if chunking is None:
        return [text]
    return [chunk.embedded_text for chunk in chunks(place(paragraphs(iter([text]))), chunking)]


def _rows_of(
    collection: EvalCollection, subject: Subject, ids: Mapping[str, str], tally: _Tally, progress: Progress
) -> dict[str, dict[str, float]]:
    modes: tuple[Mode, ...] = ("lexical", "vector", "hybrid") if subject.embedder else ("lexical",)
    if not subject.index.has_words:
        modes = ("vector",)
    variants = {"": collection}
    if collection.earlier:
        variants |= {" alone": replace(collection, earlier={})}
    if collection.rewritten.keys() == collection.questions.keys():
        variants |= {" rewritten": replace(collection, questions=collection.rewritten, earlier={})}
    rows = {}
    for mode in modes:
        for name, variant in variants.items():
            rows[mode + name] = _measure(variant, subject, mode, ids, tally, progress)
        if subject.retriever is not None and subject.retriever.reranks:
            rows[mode + " reranked"] = _measure(collection, subject, mode, ids, tally, progress, reranked=True)
    return rows


def _measure(
    collection: EvalCollection,
    subject: Subject,
    mode: Mode,
    ids: Mapping[str, str],
    tally: _Tally,
    progress: Progress,
    *,
    reranked: bool = False,
) -> dict[str, float]:
    scores: dict[str, list[float]] = {"ndcg@10": [], "recall@100": [], "mrr": [], _CEILING: []}
    times = []
    for number, (name, question) in enumerate(collection.questions.items(), 1):
        began = time.perf_counter()
        hits = _search(subject, mode, question, collection.earlier.get(name, ""), tally, reranked=reranked)
        times.append((time.perf_counter() - began) * 1e3)
        # A document is as good as its best passage.
        ranking = list(dict.fromkeys(ids[hit.entry.document] for hit in hits))
        grades = collection.judgments[name]
        for metric, value in (("ndcg@10", ndcg), ("recall@100", recall), ("mrr", mrr), (_CEILING, _ceiling)):
            scores[metric].append(value(ranking, grades))
        progress(mode, number, len(collection.questions))
    return {metric: round(statistics.fmean(values), 4) for metric, values in scores.items()} | latencies(times)


def latencies(times: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile of times in milliseconds."""
    ordered = sorted(times)
    return {f"p{p}_ms": round(ordered[min(len(times) - 1, len(times) * p // 100)], 2) for p in (50, 95)}


def _search(
    subject: Subject, mode: Mode, question: str, earlier: str, tally: _Tally, *, reranked: bool
) -> Sequence[Hit]:
    def paid(embedded: Embedded) -> None:
        tally.micro_usd += subject.cost(embedded.tokens)

    assert subject.retriever is not None  # noqa: S101 - evaluate() has set it
    depth = _DEPTH if subject.chunking is None else _DEPTH * _PASSAGES_A_DOCUMENT
    hits = subject.retriever.rank(subject.scope, question, mode, depth, earlier=earlier, library=False, paid=paid)
    if not reranked:
        return hits
    whole, first = in_conversation(question, earlier), subject.candidates
    ordered, failure = subject.retriever.rerank(whole, hits[:first], tally.spend)
    tally.failed += bool(failure)
    return [*ordered, *hits[first:]]


def _ceiling(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """Return the nDCG@10 of the best order of the first 50: no reranker of them can reach more."""
    return ndcg(sorted(ranking[:_RERANKED], key=lambda name: -grades.get(name, 0)), grades)


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
