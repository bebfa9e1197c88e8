"""Check an app's answers to the questions in ``evals/questions.toml``.

Each ``[[question]]`` has ``ask`` and at least one check (:class:`EvalQuestion`). A refusal cites nothing and contains
one of the ``refusals``. A question made from a rating names its ``request``, and may have no check yet: its answer is
reported.
"""

from __future__ import annotations

import re
import statistics
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from firelaunch.errors import SettingsError
from firelaunch.llm.types import Message
from firelaunch.rag.retrieve import in_conversation
from firelaunch.text_file import read_text_file
from firelaunch.turns.grounding import earlier_text
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .judge import LABELS, Judge, Verdict
from .retrieval import CollectionError, Progress, latencies, wrong_field

__all__ = ["CheckedAnswer", "EvalQuestion", "FoundPassage", "Questions", "check_answers", "load_questions"]

_REFUSALS = (
    "no passage", "not know", "n't know", "cannot answer", "can't answer", "could not find", "couldn't find",
    "cannot help", "can't help", "not in the documents", "no information", "not mentioned",
)  # fmt: skip
_CHECKS = ("contains", "any_of", "excludes", "matches", "numbers", "cites", "refuses")
_FAITHFUL = LABELS[0]
_RESAMPLES = 1_000
"""Bootstrap samples of an interval; their 2.5th and 97.5th percentiles are its ends."""

_NUMBER = re.compile(r"\d+(?:[.,'\u2019\u00a0\u202f ]\d+)*")
_SEPARATORS = re.compile(r"[.,'\u2019\u00a0\u202f ]")
_WHERE_FROM = "Write what the request should be asked, or make the questions with --with-content."


class EvalQuestion(BaseModel):
    """A question and the checks of its answer.

    Args:
        before: messages that the user sends first, in the same chat. The answer to ``ask`` alone is checked.
        must_contain: texts that the answer has, in any case. A number is whole: "30 days" is not in "130 days".
        any_of: texts of which it has one.
        must_not_contain: texts that it does not have.
        must_match: regular expressions of Python that match somewhere, in any case.
        must_state: numbers that it has, however they are written: 1299 is in "1,299.00".
        must_cite: names of documents in ``evals/documents/``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str
    before: list[str] = []
    request: str = ""
    must_contain: list[str] = []
    any_of: list[str] = []
    must_not_contain: list[str] = []
    must_match: list[str] = []
    must_state: list[Decimal] = []
    must_cite: list[str] = []
    must_refuse: bool = False

    @field_validator("must_match")
    @classmethod
    def _are_patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"must_match: {pattern!r} is no regular expression: {error}") from None
        return patterns

    @property
    def searched(self) -> str:
        """The text that the app searches for: the message, after the user's messages before it."""
        history: list[Message] = [{"role": "user", "content": text} for text in self.before]
        return in_conversation(self.ask, earlier_text(history))

    @property
    def has_checks(self) -> bool:
        """Whether anything is checked of the answer."""
        return bool(
            self.must_contain
            or self.any_of
            or self.must_not_contain
            or self.must_match
            or self.must_state
            or self.must_cite
            or self.must_refuse
        )


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


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that the app's search finds for a question, and the name of its document."""

    document: str
    text: str


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
        detail = wrong_field(error) if isinstance(error, ValidationError) else error
        raise CollectionError(f"{path} cannot be read: {detail}.") from None
    documents = sorted(each for each in (folder / "documents").glob("*") if each.is_file())
    names = {each.name for each in documents}
    for number, question in enumerate(questions.question, 1):
        if not question.ask:
            raise CollectionError(f"{path}, question {number}: ask is empty. {_WHERE_FROM if question.request else ''}")
        if not (question.request or question.has_checks):
            raise CollectionError(f"{path}, question {number}: nothing is checked; give it must_contain.")
        if question.must_refuse and question.must_cite:
            raise CollectionError(f"{path}, question {number}: what must be refused can cite nothing.")
        if missing := [name for name in question.must_cite if name not in names]:
            raise CollectionError(f"{path}, question {number}: there is no {missing[0]!r} in {folder / 'documents'}.")
    return questions, documents


def check_answers(
    app: str,
    model: str,
    questions: Questions,
    documents: int,
    ask: Callable[[EvalQuestion], CheckedAnswer],
    progress: Progress,
    *,
    search: Callable[[str], Sequence[FoundPassage]] = lambda _: (),
    repeats: int = 1,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Ask every question and return a report with the shares of answers that passed, in total and by check.

    Args:
        documents: the number of documents.
        ask: returns the app's answer to a question.
        search: returns the passages that the app finds for a text; called for questions whose answers failed, or are
            judged.
        repeats: how often each question is asked.
        judge: says of each answer whether the passages support it; None for no such verdict.
    """
    rows: list[dict[str, Any]] = []
    times = []
    for number, question in enumerate(questions.question, 1):
        answers = []
        for _ in range(repeats):
            began = time.perf_counter()
            answers.append(ask(question))
            times.append((time.perf_counter() - began) * 1e3)
        tries = [_check(question, answer, questions.refusals) for answer in answers]
        failed = next((n for n, checks in enumerate(tries) if not all(checks.values())), None)
        row: dict[str, Any] = {
            "ask": question.ask,
            "checks": tries[failed or 0],
            "answer": answers[failed or 0].text,
            "tries": tries,
        }
        passages = search(question.searched) if failed is not None or judge is not None else ()
        if failed is not None:
            row["fault"] = _fault(question, tries[failed], passages)
        if judge is not None:
            texts = [passage.text for passage in passages]
            row["verdicts"] = [judge.verdict(question.searched, texts, answer.text) for answer in answers]
        rows.append(row)
        progress("asking", number, len(questions.question))
    judged = _judged(judge, rows) if judge is not None else {}
    return {
        "collection": app,
        "documents": documents,
        "questions": len(rows),
        "model": model,
        "repeats": repeats,
        **judged,
        "modes": {"answers": _shares(rows) | _judged_shares(rows) | latencies(times)},
        "intervals": {"answers": _intervals(rows)},
        "failed": [line for row in rows for line in _failures(row)],
        "unchecked": [f"{row['ask']}: {row['answer'][:200]}" for row in rows if not row["checks"]],
        "rows": rows,
    }


def _judged(judge: Judge, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the report says of the verdicts, and make those in the rows plain data."""
    unfaithful, unjudged, spent = [], [], 0
    for row in rows:
        verdicts: list[Verdict] = row["verdicts"]
        spent += sum(verdict.micro_usd for verdict in verdicts)
        unjudged += [f"{row['ask']} {verdict.reason}" for verdict in verdicts if verdict.label is None]
        bad = [verdict for verdict in verdicts if verdict.label not in {None, _FAITHFUL}]
        unfaithful += [f"{row['ask']} ({verdict.label}): {verdict.reason}" for verdict in bad[:1]]
        row["verdicts"] = [{"label": verdict.label, "reason": verdict.reason} for verdict in verdicts]
    return {"judge": judge.model, "cost_micro_usd": spent, "unfaithful": unfaithful, "unjudged": unjudged}


def _judged_shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the share of the answers with a verdict that are faithful."""
    labels = [each["label"] for row in rows for each in row.get("verdicts", ()) if each["label"] is not None]
    return {_FAITHFUL: round(labels.count(_FAITHFUL) / len(labels), 4)} if labels else {}


def _check(question: EvalQuestion, answer: CheckedAnswer, refusals: Sequence[str]) -> dict[str, bool]:
    text = _plain(answer.text)
    checks = {}
    if question.must_contain:
        checks["contains"] = all(_has(text, phrase) for phrase in question.must_contain)
    if question.any_of:
        checks["any_of"] = any(_has(text, phrase) for phrase in question.any_of)
    if question.must_not_contain:
        checks["excludes"] = not any(_has(text, phrase) for phrase in question.must_not_contain)
    if question.must_match:
        checks["matches"] = all(re.search(pattern, answer.text, re.IGNORECASE) for pattern in question.must_match)
    if question.must_state:
        checks["numbers"] = set(question.must_state) <= _numbers(answer.text)
    if question.must_cite:
        checks["cites"] = set(question.must_cite) <= set(answer.cited)
    if question.must_refuse:
        refused = any(phrase.lower() in text for phrase in (*_REFUSALS, *refusals))
        checks["refuses"] = refused and not answer.cited
    return checks


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("\u2019", "'").split())


def _has(text: str, phrase: str) -> bool:
    """Return whether a plain text has the phrase; a number at its ends is not a part of a longer one."""
    phrase = _plain(phrase)
    before = r"(?<!\d)(?<!\d[.,])" if phrase[:1].isdigit() else ""
    after = r"(?![.,]?\d)" if phrase[-1:].isdigit() else ""
    return re.search(f"{before}{re.escape(phrase)}{after}", text) is not None


def _numbers(text: str) -> set[Decimal]:
    """Return the numbers in a text, each in every reading: 1.299 is 1299 to some, and 1.299 to others."""
    found: set[Decimal] = set()
    for match in _NUMBER.findall(text):
        parts = _SEPARATORS.split(match)
        found |= {Decimal(part) for part in parts if " " in match}
        if all(len(part) == 3 for part in parts[1:]):
            found.add(Decimal("".join(parts)))
        last = match[-len(parts[-1]) - 1 : -len(parts[-1])]
        if last in {".", ","} and all(len(part) == 3 for part in parts[1:-1]):
            found.add(Decimal("".join(parts[:-1]) + "." + parts[-1]))
    return found


def _fault(question: EvalQuestion, checks: Mapping[str, bool], passages: Sequence[FoundPassage]) -> str:
    """Return "retrieval" if the passages lack something that the failed checks expect, and "generation" otherwise."""
    text, documents = _plain("\n".join(passage.text for passage in passages)), {each.document for each in passages}
    supported = [
        checks.get("contains", True) or all(_has(text, phrase) for phrase in question.must_contain),
        checks.get("any_of", True) or any(_has(text, phrase) for phrase in question.any_of),
        checks.get("numbers", True) or set(question.must_state) <= _numbers(text),
        set(question.must_cite) <= documents,
    ]
    return "generation" if all(supported) else "retrieval"


def _shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    tries = [checks for row in rows for checks in row["tries"] if checks]
    shares = {"passed": statistics.fmean(all(checks.values()) for checks in tries)} if tries else {}
    for name in _CHECKS:
        if results := [checks[name] for checks in tries if name in checks]:
            shares[name] = statistics.fmean(results)
    return {name: round(share, 4) for name, share in shares.items()}


def _intervals(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the 95% interval of ``passed``: a bootstrap over questions, whose repeats are not independent."""
    shares = [statistics.fmean(all(checks.values()) for checks in row["tries"]) for row in rows if row["checks"]]
    if not shares:
        return {}
    random = Random(0)  # noqa: S311 - the same report gives the same interval
    means = sorted(statistics.fmean(random.choices(shares, k=len(shares))) for _ in range(_RESAMPLES))
    low, high = means[_RESAMPLES * 25 // 1000], means[_RESAMPLES * 975 // 1000 - 1]
    return {"passed": [round(low, 4), round(high, 4)]}


def _failures(row: Mapping[str, Any]) -> list[str]:
    missed = [name for name, passed in row["checks"].items() if not passed]
    return [f"{row['ask']} ({', '.join(missed)}; {row['fault']}): {row['answer'][:200]}"] if missed else []
