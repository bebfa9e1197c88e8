"""Run a suite on all mutants, group what survives, and look for the cases that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .cases import Suite
from .findings import CoverageGap, findings
from .parser import parse
from .report import ids_of
from .runner import SERVICE, Emulating, RunOptions, RunResult, run
from .slices import Slices
from .suggestions import suggest

__all__ = ["Investigation", "investigate"]

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
    passed_over = frozenset(number for number, key in enumerate(ids_of(result)) if key in allowed)
    found = findings(result, ruleset, Slices(source, ruleset, suite.cases), passed_over)
    if suggests and found:
        deadline = time.monotonic() + _SUGGEST_SECONDS if options.seconds is None else began + options.seconds
        suggest(emulator, source, ruleset, suite, found, unsigned, deadline, step)
    return Investigation(result, found)
