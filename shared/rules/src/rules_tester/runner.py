"""Run a suite of cases against rules and against every mutant of the rules.

:mod:`.slices` and :mod:`.batches` say how little has to be compiled for it, and :mod:`.verdicts` keeps what was found.
"""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .batches import MutantBatch, MutantTrial, batches
from .cases import Case, Suite
from .client import RestClient, UnexpectedAnswer
from .mutants import Coverage, Mutant, direction_of, mutants
from .parser import parse
from .slices import Impact, Slices, verdict_changed
from .syntax import Ruleset, ServiceBlock, Span
from .tokens import line_of
from .verdicts import KnownVerdict, VerdictStore, key_of

__all__ = [
    "SERVICE",
    "Emulating",
    "EmulatorProject",
    "MutantOutcome",
    "NotFirestore",
    "RunOptions",
    "RunResult",
    "SuiteFailed",
    "outermost",
    "run",
]


SERVICE = "cloud.firestore"
"""The service whose rules the emulator runs."""


_MOST_SCREENED = 300
"""Most expressions of the mutants that are screened together. A request may evaluate 1,000
(https://firebase.google.com/docs/rules/rules-language#limits), after which it is denied for that alone."""


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
    """The outcome of a mutant.

    Attributes:
        state: "killed" by a case, "survived", "equivalent" if it is proved to change nothing, "invalid" if it does not
            compile (``error``), "late" if the time was up before, or "left out" if it was not chosen.
        tried: the number of cases that ran on it.
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
        proves: whether equivalent mutants were looked for.
        command: the project's own tests, if they judged the mutants in place of cases.
    """

    source: str
    cases: int
    outcomes: list[MutantOutcome] = field(default_factory=list)
    never_evaluated: list[Span] = field(default_factory=list)
    not_run: list[ServiceBlock] = field(default_factory=list)
    proves: bool = False
    command: str = ""

    def of(self, state: str) -> list[MutantOutcome]:
        """Return the outcomes with this state."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


@dataclass(frozen=True)
class RunOptions:
    """How much to run.

    Attributes:
        jobs: the number of emulator projects to work with in parallel.
        seconds: the time after which no more mutants are begun; None for no limit.
        chosen: tells which mutants to run, of the rules' text; None for all.
        verdicts: what is known from earlier runs.
        proves: whether to look for a proof that a survivor changes nothing.
    """

    jobs: int = 4
    seconds: float | None = None
    chosen: Callable[[Mutant], bool] | None = None
    verdicts: VerdictStore | None = None
    proves: bool = True


class EmulatorProject:
    """A project of the emulator with the suite's documents."""

    def __init__(self, emulator: Emulating, suite: Suite, unsigned: Callable[[str, Mapping[str, Any]], str]) -> None:
        self.counts: dict[Span, int] = {}
        """How often each expression had a value since the rules were loaded, as the last report has it."""
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
        """Put rules in force. Raises ``refusal`` if they do not compile."""
        self._emulator.load_rules(self.project, source)

    def holds(self, case: Case) -> bool:
        """Return whether the rules in force decide ``case`` as it expects, and then restore the documents."""
        if case.documents:
            self._client.put(case.documents)
        try:
            allowed = self._client.allowed(case.operation, self._tokens[case.user])
        except UnexpectedAnswer as error:
            raise UnexpectedAnswer(f"{case}: the emulator said neither yes nor no: {error}") from None
        changed = {*case.documents, *(case.operation.changed if allowed else ())}
        if changed:
            self._client.put({path: self._suite.documents.get(path) for path in sorted(changed)})
        return allowed == case.allow

    def covered(self) -> list[Any]:
        """Return the expressions of the rules in force, with the values seen."""
        report: list[Any] = self._emulator.rule_coverage(self.project).get("report", [])
        return report

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@dataclass
class _Pool:
    """A pool with one worker for each thread."""

    make: Callable[[], EmulatorProject]
    local: threading.local = field(default_factory=threading.local)
    workers: list[EmulatorProject] = field(default_factory=list)

    def worker(self) -> EmulatorProject:
        worker: EmulatorProject | None = getattr(self.local, "worker", None)
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
    options: RunOptions | None = None,
    step: Callable[[str, int, int], None] = lambda *_: None,
) -> RunResult:
    """Run ``suite`` on ``source``, then on every mutant of it.

    Args:
        unsigned: makes an ID token for a project from claims.
        step: called with the kind of work, the number done, and the total.

    Raises:
        SuiteFailed: a case fails on ``source`` itself.
        UnexpectedAnswer: the emulator twice gave no verdict, which does not count as killing a mutant.
        RulesSyntaxError: ``source`` does not compile.
        NotFirestore: ``source`` has no rules for Firestore.
    """
    options = options or RunOptions()
    began = time.monotonic()
    whole = parse(source)
    ruleset = whole.only(SERVICE)
    if not ruleset.services:
        raise NotFirestore([service.name for service in whole.services])
    slices = Slices(source, ruleset, suite.cases)
    with closing(_Pool(lambda: EmulatorProject(emulator, suite, unsigned))) as pool:
        with _threads(options.jobs) as threads:
            coverage, covering = _baseline(pool, threads, source, ruleset, suite, slices, step)
        all_mutants = mutants(source, ruleset, coverage)
        judge = _Judge(source, suite, slices, options, None if options.seconds is None else began + options.seconds)
        with _threads(options.jobs) as threads:
            trials = judge.screened(pool, threads, judge.trials(all_mutants, covering))
            packed = batches(trials)
            done = len(all_mutants) - len(trials)
            for finished in as_completed([threads.submit(judge.batch, pool, batch) for batch in packed]):
                done += finished.result()
                step("mutants", done, len(all_mutants))
    result = RunResult(source, len(suite.cases), [judge.outcomes[number] for number in range(len(all_mutants))])
    result.not_run = [service for service in whole.services if service.name != SERVICE]
    result.never_evaluated = outermost(coverage.places - coverage.evaluated)
    return result


@contextmanager
def _threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that begins no more work once an error or Ctrl-C ends the block."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)


class _Judge:
    """Decides mutants, each by the cases that could notice it."""

    def __init__(self, source: str, suite: Suite, slices: Slices, options: RunOptions, deadline: float | None) -> None:
        self.outcomes: dict[int, MutantOutcome] = {}
        self._source = source
        self._suite = suite
        self._slices = slices
        self._options = options
        self._deadline = deadline
        self._keys: dict[int, str] = {}
        self._cases = [repr((case.claims, case.operation, case.allow, case.documents)) for case in suite.cases]
        self._allowed = sum(1 << number for number, case in enumerate(suite.cases) if case.allow)
        self._every = (1 << len(suite.cases)) - 1
        self._asked: dict[int, list[int]] = {}
        """The cases of each mutant, of which a verdict names one."""
        self._kills: dict[tuple[frozenset[int], int], int] = {}
        """How many changes of a statement each case has killed, by the statement and the case."""
        self._documents = repr(sorted(suite.documents.items()))

    def trials(self, all_mutants: Sequence[Mutant], covering: Mapping[Span, int]) -> list[MutantTrial]:
        """Return the mutants that have to be tried, and record the outcomes of the others."""
        trials = []
        for number, mutant in enumerate(all_mutants):
            if self._options.chosen and not self._options.chosen(mutant):
                self.outcomes[number] = MutantOutcome(mutant, "left out")
                continue
            impact = self._slices.impact(mutant)
            cases = impact.cases & self._deciding(verdict_changed(mutant))
            if mutant.expression is not None:
                # A case that never evaluated the expression has the same result if only that expression changes.
                cases = covering.get(mutant.expression.place, 0)
                impact = Impact(impact.units, impact.cases | cases, impact.calls)
            if cases:
                self._asked[number] = _numbers(cases)
                trials.append(MutantTrial(number, mutant, cases, impact))
            else:
                self.outcomes[number] = MutantOutcome(mutant, "survived")
        return self._without_known(trials)

    def _deciding(self, verdict: bool | None) -> int:
        return self._every if verdict is None else self._allowed if verdict else self._every & ~self._allowed

    def screened(self, pool: _Pool, threads: ThreadPoolExecutor, trials: list[MutantTrial]) -> list[MutantTrial]:
        """Take from mutants that only let more paths in the cases that even all of them together do not let in."""
        chunks: list[list[MutantTrial]] = [[]]
        size = 0
        for trial in trials:
            if trial.mutant.operator == "literal to wildcard":
                own = self._slices.size_of(trial.impact.units)
                if size + own > _MOST_SCREENED and chunks[-1]:
                    chunks.append([])
                    size = 0
                chunks[-1].append(trial)
                size += own
        useful = [chunk for chunk in chunks if len(chunk) > 1]
        changed = {
            new.number: new for found in threads.map(lambda each: self._screen(pool, each), useful) for new in found
        }
        return [trial for trial in (changed.get(trial.number, trial) for trial in trials) if self._has_cases(trial)]

    def _screen(self, pool: _Pool, trials: list[MutantTrial]) -> list[MutantTrial]:
        cases = 0
        for trial in trials:
            cases |= trial.cases
        if not cases:
            return trials
        units = frozenset().union(*(trial.impact.units for trial in trials))
        worker = pool.worker()
        try:
            worker.load(self._slices.cut(cases, [trial.mutant for trial in trials], units))
        except worker.refusal:
            return trials
        let_in = 0
        for number in _numbers(cases):
            if self._is_late():
                return trials
            if not _holds(worker, self._suite.cases[number]):
                let_in |= 1 << number
        remaining = [replace(trial, cases=trial.cases & let_in) for trial in trials]
        if not let_in or len(trials) == 1:
            return remaining
        middle = len(trials) // 2
        return self._screen(pool, remaining[:middle]) + self._screen(pool, remaining[middle:])

    def _has_cases(self, trial: MutantTrial) -> bool:
        if not trial.cases:
            tried = len(self._asked[trial.number])
            self._record(trial, -1, tried)
            self._keep({trial.number: (-1, tried)})
        return bool(trial.cases)

    def _without_known(self, trials: list[MutantTrial]) -> list[MutantTrial]:
        if self._options.verdicts is None:
            return trials
        for trial in trials:
            cut = self._slices.cut(trial.cases, [trial.mutant], trial.impact.units)
            of_cases = [self._cases[number] for number in self._asked[trial.number]]
            self._keys[trial.number] = key_of([cut, self._documents, *of_cases])
        known = self._options.verdicts.get(self._keys.values())
        unknown = []
        for trial in trials:
            verdict = known.get(self._keys[trial.number])
            if verdict is None:
                unknown.append(trial)
            else:
                self._record(trial, *verdict)
        return unknown

    def batch(self, pool: _Pool, batch: MutantBatch) -> int:
        """Judge the mutants of a batch, and return their number."""
        if self._is_late():
            for trial in batch.trials:
                self.outcomes[trial.number] = MutantOutcome(trial.mutant, "late")
            return len(batch.trials)
        worker = pool.worker()
        try:
            worker.load(self._slices.cut(batch.cases, [trial.mutant for trial in batch.trials], batch.units))
        except worker.refusal:
            for trial in batch.trials:
                self._alone(worker, trial)
        else:
            self._keep({trial.number: self._try(worker, trial) for trial in batch.trials})
        return len(batch.trials)

    def _alone(self, worker: EmulatorProject, trial: MutantTrial) -> None:
        """Judge a mutant of the whole file, so that what the compiler says has the file's lines."""
        try:
            worker.load(trial.mutant.apply(self._source))
        except worker.refusal as error:
            message = " ".join(str(error).removeprefix("Error compiling rules:").split())
            self.outcomes[trial.number] = MutantOutcome(trial.mutant, "invalid", error=message)
        else:
            self._try(worker, trial)

    def _try(self, worker: EmulatorProject, trial: MutantTrial) -> KnownVerdict | None:
        killer, tried = -1, 0
        for number in self._likeliest_first(trial):
            if self._is_late():
                self.outcomes[trial.number] = MutantOutcome(trial.mutant, "late")
                return None
            tried += 1
            if not _holds(worker, self._suite.cases[number]):
                killer = self._asked[trial.number].index(number)
                kills = trial.impact.units, number
                self._kills[kills] = self._kills.get(kills, 0) + 1
                break
        tried = tried if killer >= 0 else len(self._asked[trial.number])
        self._record(trial, killer, tried)
        return killer, tried

    def _likeliest_first(self, trial: MutantTrial) -> list[int]:
        """Return the cases of a mutant, those first that told similar changes before."""
        direction = direction_of(trial.mutant)

        def order(number: int) -> tuple[bool, int]:
            # Of a change that opens, the cases that are denied tell, and of one that narrows those that are allowed.
            tells = direction == "either" or self._suite.cases[number].allow is (direction == "narrows")
            return not tells, -self._kills.get((trial.impact.units, number), 0)

        return sorted(_numbers(trial.cases), key=order)

    def _record(self, trial: MutantTrial, killer: int, tried: int) -> None:
        by = None if killer < 0 else self._suite.cases[self._asked[trial.number][killer]]
        self.outcomes[trial.number] = MutantOutcome(trial.mutant, "killed" if by else "survived", by, tried=tried)

    def _keep(self, verdicts: Mapping[int, KnownVerdict | None]) -> None:
        if self._options.verdicts is not None:
            self._options.verdicts.put(
                {self._keys[number]: verdict for number, verdict in verdicts.items() if verdict is not None}
            )

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline


def _baseline(
    pool: _Pool,
    threads: ThreadPoolExecutor,
    source: str,
    ruleset: Ruleset,
    suite: Suite,
    slices: Slices,
    step: Callable[[str, int, int], None],
) -> tuple[Coverage, dict[Span, int]]:
    """Run every case on the rules as they are; return what was evaluated, and by which cases."""
    lock = threading.Lock()
    coverage = Coverage()
    failed: list[int] = []
    covering: dict[Span, int] = {}
    units = sorted(slices.reached_by)

    def run_round(numbers: Sequence[int]) -> int:
        worker = pool.worker()
        if not worker.counts:
            worker.load(source)
            with lock:
                worker.counts = coverage.add(ruleset, worker.covered())
        not_held = [number for number in numbers if not _holds(worker, suite.cases[number])]
        report = worker.covered()
        in_round = sum(1 << number for number in numbers)
        with lock:
            failed.extend(not_held)
            counts = coverage.add(ruleset, report)
            for place, count in counts.items():
                if count > worker.counts.get(place, 0):
                    unit = units[bisect_right(units, place[0]) - 1]
                    covering[place] = covering.get(place, 0) | in_round & (slices.reached_by[unit] or in_round)
            worker.counts = counts
        return len(numbers)

    done = 0
    for finished in as_completed([threads.submit(run_round, numbers) for numbers in _rounds(suite, slices)]):
        done += finished.result()
        step("cases", done, len(suite.cases))
    if failed:
        raise SuiteFailed([suite.cases[number] for number in sorted(failed)])
    return coverage, covering


def _rounds(suite: Suite, slices: Slices) -> list[list[int]]:
    """Return the cases in groups within which no two reach the same allow, so that one report tells them apart."""
    rounds: list[tuple[list[int], set[int]]] = []
    reached = slices.allows_reached()
    for number in range(len(suite.cases)):
        for numbers, taken in rounds:
            if taken.isdisjoint(reached[number]):
                numbers.append(number)
                taken.update(reached[number])
                break
        else:
            rounds.append(([number], set(reached[number])))
    return [numbers for numbers, _ in rounds]


def _numbers(cases: int) -> list[int]:
    """Return the numbers of the bits that are set."""
    return [number for number, bit in enumerate(reversed(f"{cases:b}")) if bit == "1"]


def _holds(worker: EmulatorProject, case: Case) -> bool:
    # The emulator sometimes fails under load, so a missing verdict gets a second try.
    try:
        return worker.holds(case)
    except UnexpectedAnswer:
        return worker.holds(case)


def outermost(places: set[Span]) -> list[Span]:
    """Return the outermost of nested places, in order."""
    outermost: list[Span] = []
    last = 0
    for start, end in sorted(places, key=lambda place: (place[0], -place[1])):
        if end > last:
            outermost.append((start, end))
            last = end
    return outermost


def lines_of(result: RunResult) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each expression that no case evaluated."""
    for start, end in result.never_evaluated:
        yield line_of(result.source, start), " ".join(result.source[start:end].split())
