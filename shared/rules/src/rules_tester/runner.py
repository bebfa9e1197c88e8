"""Runs a suite of cases against rules, and against every mutant of them."""

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

__all__ = ["Emulating", "Failed", "Outcome", "Result", "run"]


class Emulating(Protocol):
    """A running Firestore emulator, as far as the tester needs one."""

    host: str

    @property
    def refusal(self) -> type[Exception]:
        """What ``load_rules`` raises where rules do not compile."""

    def load_rules(self, project: str, source: str) -> None:
        """Put rules in force. Raises ``refusal`` where they do not compile."""

    def rule_coverage(self, project: str) -> Any:
        """The expression tree with the values seen since the rules were loaded."""


class Failed(Exception):
    """The suite does not hold on the rules as they are, so mutants would tell nothing.

    Attributes:
        cases: those that went the other way.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__(f"{len(cases)} cases do not hold")
        self.cases = cases


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant: "killed" by a case, "survived", or "invalid": it does not compile, for ``error``."""

    mutant: Mutant
    state: str
    by: Case | None = None
    error: str = ""


@dataclass
class Result:
    """What a run found out."""

    source: str
    cases: int
    outcomes: list[Outcome] = field(default_factory=list)
    never_evaluated: list[Expression] = field(default_factory=list)

    def of(self, state: str) -> list[Outcome]:
        """The mutants that ended so."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


class _Worker:
    """One project of the emulator, with the suite's documents in it."""

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
        """Whether the rules in force decide ``case`` as it expects. Its documents are as before, afterwards."""
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
    """A worker a thread."""

    make: Callable[[], _Worker]
    local: threading.local = field(default_factory=threading.local)
    made: list[_Worker] = field(default_factory=list)

    def worker(self) -> _Worker:
        found: _Worker | None = getattr(self.local, "worker", None)
        if found is None:
            found = self.local.worker = self.make()
            self.made.append(found)
        return found

    def close(self) -> None:
        for worker in self.made:
            worker.close()


def run(
    emulator: Emulating,
    source: str,
    suite: Suite,
    unsigned: Callable[[str, Mapping[str, Any]], str],
    jobs: int = 4,
    step: Callable[[str, int, int], None] = lambda *_: None,
) -> Result:
    """Run ``suite`` on ``source``, then on every mutant of it.

    Args:
        unsigned: makes an ID token for a project from claims.
        jobs: emulator projects worked on side by side.
        step: told of progress: (what, done, of how many).

    Raises:
        Failed: a case does not hold on ``source`` itself.
        UnexpectedAnswer: the emulator gave no verdict, twice; no mutant counts as killed by that.
        RulesError: ``source`` does not compile.
    """
    with closing(_Pool(lambda: _Worker(emulator, suite, unsigned))) as pool, ThreadPoolExecutor(jobs) as threads:
        trees, covering = _baseline(pool, threads, source, suite, step)
        nodes = [node for tree in trees for node in tree.walk()]
        found = mutants(source, trees)
        result = Result(source, len(suite.cases))
        result.never_evaluated = _outermost(
            [node for node in nodes if not covering.get((node.start, node.end))], source
        )

        def judge(mutant: Mutant) -> Outcome:
            cases: Sequence[Case] = suite.cases
            if mutant.expression is not None:
                # A case that never reached the expression goes the same way when only that expression changes.
                cases = covering.get((mutant.expression.start, mutant.expression.end), [])
            return _judge(pool.worker(), source, mutant, cases)

        for done, outcome in enumerate(threads.map(judge, found), 1):
            result.outcomes.append(outcome)
            step("mutants", done, len(found))
        return result


def _baseline(
    pool: _Pool, threads: ThreadPoolExecutor, source: str, suite: Suite, step: Callable[[str, int, int], None]
) -> tuple[list[Expression], dict[tuple[int, int], list[Case]]]:
    def one(case: Case) -> tuple[bool, list[Any]]:
        worker = pool.worker()
        worker.load(source)
        return _held(worker, case), worker.covered()

    failed: list[Case] = []
    covering: dict[tuple[int, int], list[Case]] = {}
    booleans: set[tuple[int, int]] = set()
    trees: list[Expression] = []
    for done, (case, (held, report)) in enumerate(zip(suite.cases, threads.map(one, suite.cases), strict=True), 1):
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
        raise Failed(failed)
    return [_seen(tree, booleans, covering) for tree in trees], covering


def _seen(node: Expression, booleans: set[tuple[int, int]], covering: Mapping[tuple[int, int], Any]) -> Expression:
    """The node with what all cases together have shown of it."""
    place = (node.start, node.end)
    children = tuple(_seen(child, booleans, covering) for child in node.children)
    return Expression(node.start, node.end, children, place in booleans, place in covering)


def _judge(worker: _Worker, source: str, mutant: Mutant, cases: Sequence[Case]) -> Outcome:
    try:
        worker.load(mutant.apply(source))
    except worker.refusal as error:
        return Outcome(mutant, "invalid", error=" ".join(str(error).removeprefix("Error compiling rules:").split()))
    for case in cases:
        if not _held(worker, case):
            return Outcome(mutant, "killed", case)
    return Outcome(mutant, "survived")


def _held(worker: _Worker, case: Case) -> bool:
    try:
        return worker.holds(case)
    except UnexpectedAnswer:
        return worker.holds(case)


def _outermost(nodes: Sequence[Expression], source: str) -> list[Expression]:
    """Of nested nodes the outer ones, by line."""
    found: list[Expression] = []
    for node in sorted(nodes, key=lambda n: (n.start, -n.end)):
        if not any(outer.start <= node.start and node.end <= outer.end for outer in found):
            found.append(node)
    return sorted(found, key=lambda n: line_of(source, n.start))


def lines_of(result: Result) -> Iterator[tuple[int, str]]:
    """Line and text of what no case has evaluated."""
    for node in result.never_evaluated:
        yield line_of(result.source, node.start), " ".join(result.source[node.start : node.end].split())
