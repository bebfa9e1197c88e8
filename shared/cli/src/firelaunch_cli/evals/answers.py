"""Checks of an app's answers: questions in ``evals/questions.toml``, and what the answer to each has to hold.

Each ``[[question]]`` has ``ask`` and at least one of ``must_contain`` (texts, whatever their case), ``must_cite``
(names of documents in ``evals/documents/``) and ``must_refuse = true``: the answer cites nothing, and says in one of
the ``refusals`` that it has none.
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

__all__ = ["Answer", "Question", "Questions", "check_answers", "load_questions"]

_REFUSALS = (
    "no passage", "not know", "n't know", "cannot answer", "can't answer", "could not find", "couldn't find",
    "cannot help", "can't help", "not in the documents", "no information", "not mentioned",
)  # fmt: skip
_CHECKS = ("contains", "cites", "refuses")


class Question(BaseModel):
    """One question and what is checked of its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str = Field(min_length=1)
    must_contain: list[str] = []
    must_cite: list[str] = []
    must_refuse: bool = False


class Questions(BaseModel):
    """A ``questions.toml``. ``refusals``: what an answer says that is none, beside the usual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: list[Question] = Field(min_length=1)
    refusals: list[str] = []


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the names of the documents that it cites."""

    text: str
    cited: Sequence[str]


def load_questions(folder: Path) -> tuple[Questions, list[Path]]:
    """The questions of an app's ``evals`` folder, and the documents to ask about.

    Raises:
        CollectionError: they are not there, or not as they should be.
    """
    path = folder / "questions.toml"
    try:
        found = Questions.model_validate(tomllib.loads(read_text_file(path)))
    except SettingsError as error:
        raise CollectionError(str(error)) from None
    except (OSError, ValueError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CollectionError(f"{path} cannot be read: {said}.") from None
    documents = sorted(each for each in (folder / "documents").glob("*") if each.is_file())
    names = {each.name for each in documents}
    for number, question in enumerate(found.question, 1):
        if not (question.must_contain or question.must_cite or question.must_refuse):
            raise CollectionError(f"{path}, question {number}: nothing is checked; give it must_contain.")
        if question.must_refuse and question.must_cite:
            raise CollectionError(f"{path}, question {number}: what must be refused can cite nothing.")
        if missing := [name for name in question.must_cite if name not in names]:
            raise CollectionError(f"{path}, question {number}: there is no {missing[0]!r} in {folder / 'documents'}.")
    return found, documents


def check_answers(
    app: str, model: str, wanted: Questions, documents: int, ask: Callable[[str], Answer], progress: Progress
) -> dict[str, Any]:
    """Ask every question, and report: shares of the questions that passed, altogether and by check.

    Args:
        ask: gives the app's answer to a question.
    """
    rows: list[dict[str, Any]] = []
    took = []
    for number, question in enumerate(wanted.question, 1):
        began = time.perf_counter()
        answer = ask(question.ask)
        took.append((time.perf_counter() - began) * 1e3)
        rows.append({"ask": question.ask, "checks": _checked(question, answer, wanted.refusals), "answer": answer.text})
        progress("asking", number, len(wanted.question))
    took.sort()
    return {
        "collection": app,
        "documents": documents,
        "questions": len(rows),
        "model": model,
        "modes": {"answers": _shares([row["checks"] for row in rows]) | _latencies(took)},
        "failed": [line for row in rows for line in _failures(row)],
        "rows": rows,
    }


def _checked(question: Question, answer: Answer, refusals: Sequence[str]) -> dict[str, bool]:
    said = " ".join(answer.text.lower().replace("\u2019", "'").split())
    checks = {}
    if question.must_contain:
        checks["contains"] = all(" ".join(text.lower().split()) in said for text in question.must_contain)
    if question.must_cite:
        checks["cites"] = set(question.must_cite) <= set(answer.cited)
    if question.must_refuse:
        refused = any(phrase.lower() in said for phrase in (*_REFUSALS, *refusals))
        checks["refuses"] = refused and not answer.cited
    return checks


def _shares(rows: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    shares = {"passed": statistics.fmean(all(row.values()) for row in rows)}
    for name in _CHECKS:
        if asked := [row[name] for row in rows if name in row]:
            shares[name] = statistics.fmean(asked)
    return {name: round(share, 4) for name, share in shares.items()}


def _latencies(took: Sequence[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(took[min(len(took) - 1, len(took) * p // 100)], 2) for p in (50, 95)}


def _failures(row: Mapping[str, Any]) -> list[str]:
    missed = [name for name, passed in row["checks"].items() if not passed]
    return [f"{row['ask']} ({', '.join(missed)}): {row['answer'][:200]}"] if missed else []
