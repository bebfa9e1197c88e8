"""Run a suite of cases against rules and against every mutant of the rules."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from .cases import Case, Suite
from .client import RestClient, UnexpectedAnswer
from .mutants import Coverage, Mutant, mutants
from .parser import parse
from .syntax import Ruleset, ServiceBlock, Span
from .tokens import line_of

__all__ = ["SERVICE", "Emulating", "MutantOutcome", "NotFirestore", "RunResult", "SuiteFailed", "run"]


SERVICE = "cloud.firestore"
"""The service whose rules the emulator runs."""


class Emulating(Protocol):
    """The parts of a running Firestore emulator that the tester needs."""

    host: str

    @property
    def refusal(self) -> type[Exception]:
        """The exception that ``load_rules`` raises if rules do not compile."""

    def load_rules(self, project: str, source: str) -> None:
        """Put rules in force. Raises ``refusal`` if they do not compile."""

    def rule_coverage(self, project: str) -> Any:
        """Return the expression tree with the values seen since the rules were loaded."""


class SuiteFailed(Exception):
    """The suite fails on the unchanged rules, so mutants would show nothing.

    Attributes:
        cases: the cases that failed.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__(f"{len(cases)} cases do not hold")
        self.cases = cases


class NotFirestore(Exception):
    """The file has no rules for Firestore. The message says what it has, and what to do."""

    def __init__(self, services: Sequence[str]) -> None:
        names = " and ".join(services) or "no service"
        super().__init__(
            f"this file has rules for {names}, and none for {SERVICE}. The Firestore emulator does not run others, so "
            "nothing of it can be tested; give the file that firebase.json names under firestore"
        )


@dataclass(frozen=True)
class MutantOutcome:
    """The outcome of a mutant: "killed" by a case, "survived", or "invalid" if it does not compile (``error``).

    ``tried`` is the number of cases that ran on it.
    """

    mutant: Mutant
    state: str
    by: Case | None = None
    error: str = ""
    tried: int = 0


@dataclass
class RunResult:
    """The result of a run.

    Attributes:
        never_evaluated: the outermost expressions that no case reached. Changes to them survive without being tried.
        not_run: the services of the file that the emulator does not serve, so that nothing of them was tested.
    """

    source: str
    cases: int
    outcomes: list[MutantOutcome] = field(default_factory=list)
    never_evaluated: list[Span] = field(default_factory=list)
    not_run: list[ServiceBlock] = field(default_factory=list)

    def of(self, state: str) -> list[MutantOutcome]:
        """Return the outcomes with this state."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


class _Worker:
    """A project of the emulator with the suite's documents."""

    def __init__(self, emulator: Emulating, suite: Suite, unsigned: Callable[[str, Mapping[str, Any]], str]) -> None:
        self.project = f"demo-rules-{secrets.token_hex(6)}"
        self.refusal = emulator.refusal
        self._emulator = emulator
        self._suite = suite
        self._client = RestClient(emulator.host, self.project)
        self._tokens = {
            case.user: None if case.claims is None else unsigned(self.project, case.claims) for case in suite.cases
        }
        if suite.documents:
            self._client.put(suite.documents)

    def load(self, source: str) -> None:
        self._emulator.load_rules(self.project, source)

    def holds(self, case: Case) -> bool:
        """Return whether the rules in force decide ``case`` as it expects, and then restore the documents."""
        try:
            allowed = self._client.allowed(case.operation, self._tokens[case.user])
        except UnexpectedAnswer as error:
            raise UnexpectedAnswer(f"{case}: the emulator said neither yes nor no: {error}") from None
        if allowed and case.operation.changed:
            self._client.put({path: self._suite.documents.get(path) for path in case.operation.changed})
        return allowed == case.allow

    def covered(self) -> list[Any]:
        report: list[Any] = self._emulator.rule_coverage(self.project).get("report", [])
        return report

    def close(self) -> None:
        self._client.close()


@dataclass
class _Pool:
    """A pool with one worker for each thread."""

    make: Callable[[], _Worker]
    local: threading.local = field(default_factory=threading.local)
    workers: list[_Worker] = field(default_factory=list)

    def worker(self) -> _Worker:
        worker: _Worker | None = getattr(self.local, "worker", None)
        if worker is None:
            worker = self.local.worker = self.make()
            self.workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def run(
    emulator: Emulating,
    source: str,
    suite: Suite,
    unsigned: Callable[[str, Mapping[str, Any]], str],
    jobs: int = 4,
    step: Callable[[str, int, int], None] = lambda *_: None,
) -> RunResult:
    """Run ``suite`` on ``source``, then on every mutant of it.

    Args:
        unsigned: makes an ID token for a project from claims.
        jobs: the number of emulator projects to work with in parallel.
        step: called with the kind of work, the number done, and the total.

    Raises:
        SuiteFailed: a case fails on ``source`` itself.
        UnexpectedAnswer: the emulator twice gave no verdict, which does not count as killing a mutant.
        RulesSyntaxError: ``source`` does not compile.
        NotFirestore: ``source`` has no rules for Firestore.
    """
    whole = parse(source)
    ruleset = whole.only(SERVICE)
    if not ruleset.services:
        raise NotFirestore([service.name for service in whole.services])
    with closing(_Pool(lambda: _Worker(emulator, suite, unsigned))) as pool, ThreadPoolExecutor(jobs) as threads:
        coverage, covering = _baseline(pool, threads, source, ruleset, suite, step)
        all_mutants = mutants(source, ruleset, coverage)
        result = RunResult(source, len(suite.cases))
        result.not_run = [service for service in whole.services if service.name != SERVICE]
        result.never_evaluated = _outermost(coverage.places - coverage.evaluated)

        def judge(mutant: Mutant) -> MutantOutcome:
            cases: Sequence[Case] = suite.cases
            if mutant.expression is not None:
                # A case that never evaluated the expression has the same result if only that expression changes.
                cases = covering.get(mutant.expression.place, [])
            return _judge(pool.worker(), source, mutant, cases)

        for done, outcome in enumerate(threads.map(judge, all_mutants), 1):
            result.outcomes.append(outcome)
            step("mutants", done, len(all_mutants))
        return result


def _baseline(
    pool: _Pool,
    threads: ThreadPoolExecutor,
    source: str,
    ruleset: Ruleset,
    suite: Suite,
    step: Callable[[str, int, int], None],
) -> tuple[Coverage, dict[Span, list[Case]]]:
    def run_case(case: Case) -> tuple[bool, list[Any]]:
        worker = pool.worker()
        worker.load(source)
        return _holds(worker, case), worker.covered()

    failed: list[Case] = []
    covering: dict[Span, list[Case]] = {}
    coverage = Coverage()
    for done, (case, (held, report)) in enumerate(zip(suite.cases, threads.map(run_case, suite.cases), strict=True), 1):
        step("cases", done, len(suite.cases))
        if not held:
            failed.append(case)
        for place in coverage.add(ruleset, report):
            covering.setdefault(place, []).append(case)
    if failed:
        raise SuiteFailed(failed)
    return coverage, covering


def _judge(worker: _Worker, source: str, mutant: Mutant, cases: Sequence[Case]) -> MutantOutcome:
    if not cases:
        return MutantOutcome(mutant, "survived")
    try:
        worker.load(mutant.apply(source))
    except worker.refusal as error:
        return MutantOutcome(
            mutant, "invalid", error=" ".join(str(error).removeprefix("Error compiling rules:").split())
        )
    for number, case in enumerate(cases, 1):
        if not _holds(worker, case):
            return MutantOutcome(mutant, "killed", case, tried=number)
    return MutantOutcome(mutant, "survived", tried=len(cases))


def _holds(worker: _Worker, case: Case) -> bool:
    # The emulator sometimes fails under load, so a missing verdict gets a second try.
    try:
        return worker.holds(case)
    except UnexpectedAnswer:
        return worker.holds(case)


def _outermost(places: set[Span]) -> list[Span]:
    """Return the outermost of nested places, in order."""
    outermost: list[Span] = []
    for start, end in sorted(places, key=lambda place: (place[0], -place[1])):
        if not any(begin <= start and end <= last for begin, last in outermost):
            outermost.append((start, end))
    return outermost


def lines_of(result: RunResult) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each expression that no case evaluated."""
    for start, end in result.never_evaluated:
        yield line_of(result.source, start), " ".join(result.source[start:end].split())
