"""Run a suite on all mutants, group what survives, and look for the cases that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .cases import Suite
from .extras import can_prove
from .findings import CoverageGap, findings
from .mutants import Mutant
from .parser import parse
from .project_tests import ProjectTests, judge
from .report import ids_of
from .runner import SERVICE, Emulating, RunOptions, RunResult, run
from .slices import Slices
from .suggestions import suggest
from .syntax import Ruleset

__all__ = ["Investigation", "investigate", "investigate_by_command"]

_SUGGEST_SECONDS = 120.0
"""The time for suggestions where no limit is given."""


@dataclass(frozen=True, slots=True)
class Investigation:
    """The outcomes of a run, and what they mean."""

    result: RunResult
    findings: list[CoverageGap]


def investigate(
    emulator: Emulating,
    source: str,
    suite: Suite,
    unsigned: Callable[[str, Mapping[str, Any]], str],
    options: RunOptions,
    allowed: Mapping[str, str],
    suggests: bool,
    step: Callable[[str, int, int], None],
) -> Investigation:
    """Run ``suite`` as :func:`.runner.run` does, and explain the survivors.

    Args:
        allowed: the ids of survivors that need no explanation.
        suggests: whether to look for cases that would notice the survivors.
    """
    began = time.monotonic()
    result = run(emulator, source, suite, unsigned, options, step)
    ruleset = parse(source).only(SERVICE)
    slices = Slices(source, ruleset, suite.cases)
    if options.proves and can_prove():
        _prove(result, ruleset, slices, step)
    passed_over = frozenset(number for number, key in enumerate(ids_of(result)) if key in allowed)
    found = findings(result, ruleset, slices, passed_over)
    if suggests and found:
        deadline = time.monotonic() + _SUGGEST_SECONDS if options.seconds is None else began + options.seconds
        suggest(emulator, source, ruleset, suite, found, unsigned, deadline, step)
    return Investigation(result, found)


def investigate_by_command(
    emulator: Emulating,
    source: str,
    tests: ProjectTests,
    options: RunOptions,
    allowed: Mapping[str, str],
    step: Callable[[str, int, int], None],
) -> Investigation:
    """Have a project's own tests judge mutants as :func:`.project_tests.judge` does, and explain the survivors.

    Args:
        allowed: the ids of survivors that need no explanation.
    """
    ruleset = parse(source).only(SERVICE)
    slices = Slices(source, ruleset, [])
    proved = _prover(source, ruleset, slices) if options.proves and can_prove() else None
    result = judge(emulator, source, tests, options, proved or (lambda _: False), step)
    result.proves = proved is not None
    passed_over = frozenset(number for number, key in enumerate(ids_of(result)) if key in allowed)
    return Investigation(result, findings(result, ruleset, slices, passed_over))


def _prover(source: str, ruleset: Ruleset, slices: Slices) -> Callable[[Mutant], bool]:
    from .proofs import Prover  # it imports the solver, which is an extra and takes long to load

    return Prover(source, ruleset, slices).changes_nothing


def _prove(result: RunResult, ruleset: Ruleset, slices: Slices, step: Callable[[str, int, int], None]) -> None:
    """Turn the survivors that are proved to change nothing into outcomes with the state "equivalent"."""
    proved = _prover(result.source, ruleset, slices)
    survivors = [place for place, outcome in enumerate(result.outcomes) if outcome.state == "survived"]
    result.proves = True
    for done, place in enumerate(survivors, 1):
        if proved(result.outcomes[place].mutant):
            result.outcomes[place] = replace(result.outcomes[place], state="equivalent")
        step("proofs", done, len(survivors))
