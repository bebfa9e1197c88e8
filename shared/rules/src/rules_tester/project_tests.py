"""Judges mutants by a project's own tests: a mutant is killed if the command fails with it.

The command runs once for each mutant, so as few as possible are run: not those of expressions that the tests never
evaluate, which survive, and not those that are proved to change nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .mutants import Coverage, Mutant, mutants
from .parser import parse
from .proxy import RulesProxy
from .runner import SERVICE, Emulating, MutantOutcome, NotFirestore, RunOptions, RunResult, outermost
from .slices import Slices, verdict_changed
from .syntax import Allow

__all__ = ["ProjectTests", "TestsUnusable", "judge"]

_LEAST_SECONDS = 20.0
_TIMES = 4
"""A mutant may take this many times as long as the rules as they are."""
_PROJECT = "demo-rules"
_SHOWN = 3000
"""Characters of what a command said that are shown."""


class TestsUnusable(Exception):
    """The tests cannot judge mutants: they fail on the rules as they are, or never use them. The message says which."""

    __test__ = False


class _TookTooLong(Exception):
    """The command did not end in time, which says nothing of the rules."""


@dataclass(frozen=True, slots=True)
class ProjectTests:
    """A project's tests.

    Args:
        command: what a shell runs, such as "npm test".
        folder: where it runs.
        port: the port at which they expect the emulator, if they name it themselves; else 0.
    """

    command: str
    folder: Path
    port: int = 0


def judge(
    emulator: Emulating,
    source: str,
    tests: ProjectTests,
    options: RunOptions,
    proved: Callable[[Mutant], bool],
    step: Callable[[str, int, int], None] = lambda *_: None,
) -> RunResult:
    """Run the tests on ``source``, then on every mutant of it.

    Args:
        proved: tells whether a mutant is proved to change nothing.

    Raises:
        TestsUnusable: they fail on ``source``, at the beginning or at the end, or do not load it.
        RulesSyntaxError: ``source`` does not compile.
        NotFirestore: ``source`` has no rules for Firestore.
    """
    whole = parse(source)
    ruleset = whole.only(SERVICE)
    if not ruleset.services:
        raise NotFirestore([service.name for service in whole.services])
    emulator.load_rules(f"{_PROJECT}-{secrets.token_hex(4)}", source)
    with RulesProxy(emulator.host, source, tests.port) as proxy:
        began = time.monotonic()
        _check(_run(tests, proxy, None), proxy)
        took = time.monotonic() - began
        step("tests", 1, 1)
        coverage = Coverage()
        for report in proxy.reports():
            coverage.add(ruleset, report.get("report", []))
        all_mutants = mutants(source, ruleset, coverage)
        trial = _Trial(emulator, source, tests, proxy, max(_LEAST_SECONDS, _TIMES * took))
        trial.deadline = None if options.seconds is None else began + options.seconds
        slices = Slices(source, ruleset, [])
        outcomes = []
        for done, mutant in enumerate(all_mutants, 1):
            if options.chosen and not options.chosen(mutant):
                outcomes.append(MutantOutcome(mutant, "left out"))
            elif not _reached(mutant, coverage, slices):
                outcomes.append(MutantOutcome(mutant, "survived"))
            elif proved(mutant):
                outcomes.append(MutantOutcome(mutant, "equivalent"))
            else:
                outcomes.append(trial.of(mutant))
            step("mutants", done, len(all_mutants))
        if any(outcome.state == "killed" for outcome in outcomes):
            trial.check_again()
    result = RunResult(source, 0, outcomes, command=tests.command)
    result.not_run = [service for service in whole.services if service.name != SERVICE]
    result.never_evaluated = outermost(coverage.places - coverage.evaluated)
    return result


def _reached(mutant: Mutant, coverage: Coverage, slices: Slices) -> bool:
    """Return whether the tests may notice a mutant."""
    if mutant.expression is not None:
        return mutant.expression.place in coverage.evaluated
    unit = slices.unit_at(mutant)
    if isinstance(unit, Allow) and unit.condition is not None and verdict_changed(mutant) is True:
        return unit.condition.place in coverage.evaluated  # one that let nothing through is not missed
    return True


@dataclass
class _Trial:
    emulator: Emulating
    source: str
    tests: ProjectTests
    proxy: RulesProxy
    seconds: float
    deadline: float | None = None

    def of(self, mutant: Mutant) -> MutantOutcome:
        """Return the outcome of a mutant."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            return MutantOutcome(mutant, "late")
        changed = mutant.apply(self.source)
        try:
            self.emulator.load_rules(f"{_PROJECT}-{secrets.token_hex(4)}", changed)
        except self.emulator.refusal as error:
            return MutantOutcome(mutant, "invalid", error=" ".join(str(error).split()))
        self.proxy.exchange(changed)
        try:
            code, _ = _run(self.tests, self.proxy, self.seconds)
        except _TookTooLong:
            return MutantOutcome(mutant, "late", error=f"the command took over {self.seconds:.0f} s")
        if code and not self.proxy.loads:
            return MutantOutcome(mutant, "late", error="the command failed before it loaded the rules")
        return MutantOutcome(mutant, "killed" if code else "survived", tried=1)

    def check_again(self) -> None:
        """Run the tests on the rules as they are once more: tests that fail by chance would have killed mutants."""
        self.proxy.exchange(self.source)
        try:
            code, said = _run(self.tests, self.proxy, self.seconds)
        except _TookTooLong:
            code, said = 1, "It did not end in time."
        if code:
            raise TestsUnusable(
                f"The tests passed at first and fail at the end, on the same rules, so what failed in between says "
                f"nothing. They said:\n{said}"
            )


def _check(ran: tuple[int, str], proxy: RulesProxy) -> None:
    code, said = ran
    if code:
        raise TestsUnusable(f"The tests fail on the rules as they are (exit code {code}); mend them first:\n{said}")
    if proxy.loads:
        return
    if proxy.others:
        raise TestsUnusable(
            "The tests load rules, but never those of this file. Name the file that they load as RULES."
        )
    raise TestsUnusable(
        "The tests pass, but never reach the emulator that FIRESTORE_EMULATOR_HOST names. If they name a port, put it "
        'into firebase.json: {"emulators": {"firestore": {"port": 8080}}}. If the command starts one of its own, as '
        "firebase emulators:exec does, give the command without that."
    )


def _run(tests: ProjectTests, proxy: RulesProxy, seconds: float | None) -> tuple[int, str]:
    """Run the command, and return its exit code and the end of what it said.

    Raises:
        _TookTooLong: it did not end within ``seconds``. It was killed.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S602 - the user's own command
            tests.command,
            shell=True,
            cwd=tests.folder,
            env=_environment(proxy, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise _TookTooLong from None
        finally:
            _end(process)
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN))
        return code, said.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(proxy: RulesProxy, known: Mapping[str, str]) -> dict[str, str]:
    return {
        **known,
        "FIRESTORE_EMULATOR_HOST": proxy.host,
        "FIREBASE_EMULATOR_HUB": proxy.host,
        "GCLOUD_PROJECT": known.get("GCLOUD_PROJECT", _PROJECT),
    }
