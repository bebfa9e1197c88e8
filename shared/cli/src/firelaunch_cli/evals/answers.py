"""Check an app's answers to the questions in ``evals/questions.toml``.

Each ``[[question]]`` has ``ask`` and at least one of ``must_contain`` (texts, in any case), ``must_cite`` (names of
documents in ``evals/documents/``) and ``must_refuse = true``. A refusal cites nothing and contains one of the
``refusals``. A question made from a rating names its ``request``, and may have no check yet: its answer is reported.
"""

from __future__ import annotations

import statistics
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelaunch.errors import SettingsError
from firelaunch.text_file import read_text_file
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .retrieval import CollectionError, Progress

__all__ = ["CheckedAnswer", "EvalQuestion", "Questions", "check_answers", "load_questions"]

_REFUSALS = (
    "no passage", "not know", "n't know", "cannot answer", "can't answer", "could not find", "couldn't find",
    "cannot help", "can't help", "not in the documents", "no information", "not mentioned",
)  # fmt: skip
_CHECKS = ("contains", "cites", "refuses")
_WHERE_FROM = "Write what the request should be asked, or make the questions with --with-content."


class EvalQuestion(BaseModel):
    """A question and the checks of its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str
    request: str = ""
    must_contain: list[str] = []
    must_cite: list[str] = []
    must_refuse: bool = False


class Questions(BaseModel):
    """The content of a ``questions.toml``. ``refusals`` are phrases of a refusal besides the usual ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: list[EvalQuestion] = Field(min_length=1)
    refusals: list[str] = []


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer and the names of the documents that it cites."""

    text: str
    cited: Sequence[str]


def load_questions(folder: Path) -> tuple[Questions, list[Path]]:
    """Load the questions of an app's ``evals`` folder, and the paths of the documents to ask about.

    Raises:
        CollectionError: the questions are missing or not valid.
    """
    path = folder / "questions.toml"
    try:
        questions = Questions.model_validate(tomllib.loads(read_text_file(path)))
    except SettingsError as error:
        raise CollectionError(str(error)) from None
    except (OSError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CollectionError(f"{path} cannot be read: {detail}.") from None
    documents = sorted(each for each in (folder / "documents").glob("*") if each.is_file())
    names = {each.name for each in documents}
    for number, question in enumerate(questions.question, 1):
        if not question.ask:
            raise CollectionError(f"{path}, question {number}: ask is empty. {_WHERE_FROM if question.request else ''}")
        if not (question.request or question.must_contain or question.must_cite or question.must_refuse):
            raise CollectionError(f"{path}, question {number}: nothing is checked; give it must_contain.")
        if question.must_refuse and question.must_cite:
            raise CollectionError(f"{path}, question {number}: what must be refused can cite nothing.")
        if missing := [name for name in question.must_cite if name not in names]:
            raise CollectionError(f"{path}, question {number}: there is no {missing[0]!r} in {folder / 'documents'}.")
    return questions, documents


def check_answers(
    app: str, model: str, questions: Questions, documents: int, ask: Callable[[str], CheckedAnswer], progress: Progress
) -> dict[str, Any]:
    """Ask every question and return a report with the shares of questions that passed, in total and by check.

    Args:
        documents: the number of documents.
        ask: returns the app's answer to a question.
    """
    rows: list[dict[str, Any]] = []
    times = []
    for number, question in enumerate(questions.question, 1):
        began = time.perf_counter()
        answer = ask(question.ask)
        times.append((time.perf_counter() - began) * 1e3)
        rows.append(
            {"ask": question.ask, "checks": _check(question, answer, questions.refusals), "answer": answer.text}
        )
        progress("asking", number, len(questions.question))
    times.sort()
    return {
        "collection": app,
        "documents": documents,
        "questions": len(rows),
        "model": model,
        "modes": {"answers": _shares([row["checks"] for row in rows]) | _latencies(times)},
        "failed": [line for row in rows for line in _failures(row)],
        "unchecked": [f"{row['ask']}: {row['answer'][:200]}" for row in rows if not row["checks"]],
        "rows": rows,
    }


def _check(question: EvalQuestion, answer: CheckedAnswer, refusals: Sequence[str]) -> dict[str, bool]:
    text = " ".join(answer.text.lower().replace("\u2019", "'").split())
    checks = {}
    if question.must_contain:
        checks["contains"] = all(" ".join(phrase.lower().split()) in text for phrase in question.must_contain)
    if question.must_cite:
        checks["cites"] = set(question.must_cite) <= set(answer.cited)
    if question.must_refuse:
        refused = any(phrase.lower() in text for phrase in (*_REFUSALS, *refusals))
        checks["refuses"] = refused and not answer.cited
    return checks


def _shares(rows: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    checked = [row for row in rows if row]
    shares = {"passed": statistics.fmean(all(row.values()) for row in checked)} if checked else {}
    for name in _CHECKS:
        if results := [row[name] for row in rows if name in row]:
            shares[name] = statistics.fmean(results)
    return {name: round(share, 4) for name, share in shares.items()}


def _latencies(times: Sequence[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(times[min(len(times) - 1, len(times) * p // 100)], 2) for p in (50, 95)}


def _failures(row: Mapping[str, Any]) -> list[str]:
    missed = [name for name, passed in row["checks"].items() if not passed]
    return [f"{row['ask']} ({', '.join(missed)}): {row['answer'][:200]}"] if missed else []
