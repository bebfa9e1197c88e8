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
from .mutants import Expression, Mutant, expressions, mutants
from .source import line_of

__all__ = ["Emulating", "MutantOutcome", "RunResult", "SuiteFailed", "run"]


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


@dataclass(frozen=True)
class MutantOutcome:
    """The outcome of a mutant: "killed" by a case, "survived", or "invalid" if it does not compile (``error``)."""

    mutant: Mutant
    state: str
    by: Case | None = None
    error: str = ""


@dataclass
class RunResult:
    """The result of a run."""

    source: str
    cases: int
    outcomes: list[MutantOutcome] = field(default_factory=list)
    never_evaluated: list[Expression] = field(default_factory=list)

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
        RulesError: ``source`` does not compile.
    """
    with closing(_Pool(lambda: _Worker(emulator, suite, unsigned))) as pool, ThreadPoolExecutor(jobs) as threads:
        trees, covering = _baseline(pool, threads, source, suite, step)
        nodes = [node for tree in trees for node in tree.walk()]
        all_mutants = mutants(source, trees)
        result = RunResult(source, len(suite.cases))
        result.never_evaluated = _outermost(
            [node for node in nodes if not covering.get((node.start, node.end))], source
        )

        def judge(mutant: Mutant) -> MutantOutcome:
            cases: Sequence[Case] = suite.cases
            if mutant.expression is not None:
                # A case that never evaluated the expression has the same result if only that expression changes.
                cases = covering.get((mutant.expression.start, mutant.expression.end), [])
            return _judge(pool.worker(), source, mutant, cases)

        for done, outcome in enumerate(threads.map(judge, all_mutants), 1):
            result.outcomes.append(outcome)
            step("mutants", done, len(all_mutants))
        return result


def _baseline(
    pool: _Pool, threads: ThreadPoolExecutor, source: str, suite: Suite, step: Callable[[str, int, int], None]
) -> tuple[list[Expression], dict[tuple[int, int], list[Case]]]:
    def run_case(case: Case) -> tuple[bool, list[Any]]:
        worker = pool.worker()
        worker.load(source)
        return _holds(worker, case), worker.covered()

    failed: list[Case] = []
    covering: dict[tuple[int, int], list[Case]] = {}
    booleans: set[tuple[int, int]] = set()
    trees: list[Expression] = []
    for done, (case, (held, report)) in enumerate(zip(suite.cases, threads.map(run_case, suite.cases), strict=True), 1):
        step("cases", done, len(suite.cases))
        if not held:
            failed.append(case)
        trees = expressions(source, report)
        for tree in trees:
            for node in tree.walk():
                if node.evaluated:
                    covering.setdefault((node.start, node.end), []).append(case)
                if node.boolean:
                    booleans.add((node.start, node.end))
    if failed:
        raise SuiteFailed(failed)
    return [_seen(tree, booleans, covering) for tree in trees], covering


def _seen(node: Expression, booleans: set[tuple[int, int]], covering: Mapping[tuple[int, int], Any]) -> Expression:
    """Return the node with what all cases together showed of it."""
    place = (node.start, node.end)
    children = tuple(_seen(child, booleans, covering) for child in node.children)
    return Expression(node.start, node.end, children, place in booleans, place in covering)


def _judge(worker: _Worker, source: str, mutant: Mutant, cases: Sequence[Case]) -> MutantOutcome:
    try:
        worker.load(mutant.apply(source))
    except worker.refusal as error:
        return MutantOutcome(
            mutant, "invalid", error=" ".join(str(error).removeprefix("Error compiling rules:").split())
        )
    for case in cases:
        if not _holds(worker, case):
            return MutantOutcome(mutant, "killed", case)
    return MutantOutcome(mutant, "survived")


def _holds(worker: _Worker, case: Case) -> bool:
    # The emulator sometimes fails under load, so a missing verdict gets a second try.
    try:
        return worker.holds(case)
    except UnexpectedAnswer:
        return worker.holds(case)


def _outermost(nodes: Sequence[Expression], source: str) -> list[Expression]:
    """Return the outermost of nested nodes, by line."""
    outermost: list[Expression] = []
    for node in sorted(nodes, key=lambda n: (n.start, -n.end)):
        if not any(outer.start <= node.start and node.end <= outer.end for outer in outermost):
            outermost.append(node)
    return sorted(outermost, key=lambda n: line_of(source, n.start))


def lines_of(result: RunResult) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each expression that no case evaluated."""
    for node in result.never_evaluated:
        yield line_of(result.source, node.start), " ".join(result.source[node.start : node.end].split())
