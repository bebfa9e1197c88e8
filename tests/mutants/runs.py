"""Run tests against changes. Each change runs in a fork of a process that has read the tests, which takes it no time.

A change is put into the functions that are there: each one whose code differs gets the changed code.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from .changes import Mutant

__all__ = ["Traced", "play", "trace"]

_AT_A_TIME = 2
_MOST_SECONDS = 45.0
"""Processor seconds of tests that a change is played to at most; the quickest tests come first."""

_EXAMPLES = 25
"""Examples of each property that does not say how many it takes."""

_QUIET = ["-q", "-p", "no:cacheprovider", "-s", "-o", "faulthandler_timeout=0", "--hypothesis-seed=0"]


@dataclass(slots=True)
class Traced:
    """Which tests run a line, by file and line; and the processor seconds that each test takes."""

    tests: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> Traced:
        """Return what :func:`trace` wrote."""
        data = json.loads(path.read_text())
        tests = {file: {int(line): names for line, names in lines.items()} for file, lines in data["tests"].items()}
        return cls(tests, data["seconds"])

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run one of the mutant's lines, the quickest first."""
        lines = self.tests.get(str(mutant.file), {})
        tests = {test for line in mutant.lines for test in lines.get(line, ())}
        return sorted(tests, key=lambda test: (self.seconds[test], test))


class _Quick:
    """Leaves out the tests that start an emulator, as each change would start its own; and tries fewer examples."""

    def pytest_sessionstart(self) -> None:
        hypothesis.settings.register_profile("mutants", parent=hypothesis.settings(), max_examples=_EXAMPLES)
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> None:
        if fixturedef.argname == "firestore_emulator":
            pytest.skip("takes the emulator")


def trace(files: Sequence[Path], tests: Sequence[str], out: Path) -> int:
    """Run ``tests``, write to ``out`` which of them run which lines of ``files``, and return pytest's exit code."""
    tracer = _Tracer(files)
    code = int(pytest.main([*_QUIET, *tests], plugins=[tracer, _Quick()]))
    out.write_text(json.dumps({"tests": tracer.by_line(), "seconds": tracer.seconds}))
    return code


class _Tracer:
    def __init__(self, files: Sequence[Path]) -> None:
        from coverage import Coverage

        self._files = files
        self._coverage = Coverage(data_file=None, include=[str(file) for file in files], config_file=False)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.start()
        self._coverage.switch_context(item.nodeid)
        began = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began
            self._coverage.stop()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def by_line(self) -> dict[str, dict[int, list[str]]]:
        data = self._coverage.get_data()
        return {
            str(file): {
                line: sorted(set(tests) - self.failed - {""})
                for line, tests in data.contexts_by_lineno(str(file)).items()
            }
            for file in self._files
        }


@dataclass(slots=True)
class _Child:
    mutant: Mutant
    until: float
    late: bool = False


@dataclass(slots=True)
class _Player:
    mutants: Sequence[Mutant]
    traced: Traced
    out: Any
    children: dict[int, _Child] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.unfreeze()  # what is frozen is not found
        items = {item.nodeid: item for item in session.items}
        functions, caches = _functions({str(mutant.file) for mutant in self.mutants})
        gc.collect()
        gc.freeze()
        for mutant in self.mutants:
            tests = self._within(self.traced.of(mutant))
            if not tests:
                self._tell(mutant, "never run")
                continue
            while len(self.children) >= _AT_A_TIME:
                self._wait()
            pid = os.fork()
            if not pid:
                _run(mutant, [items[test] for test in tests if test in items], functions, caches)
            seconds = sum(self.traced.seconds[test] for test in tests)
            self.children[pid] = _Child(mutant, time.monotonic() + 60 + 20 * seconds)
        while self.children:
            self._wait()
        return True

    def _within(self, tests: list[str]) -> list[str]:
        left = _MOST_SECONDS
        for number, test in enumerate(tests):
            left -= self.traced.seconds[test]
            if left < 0 and number:
                return tests[:number]
        return tests

    def _wait(self) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            for each, child in self.children.items():
                if time.monotonic() > child.until:
                    child.late = True
                    os.killpg(each, signal.SIGKILL)
            time.sleep(0.01)
            return
        child = self.children.pop(pid)
        if child.late or os.waitstatus_to_exitcode(status) in {-signal.SIGXCPU, -signal.SIGKILL}:
            self._tell(child.mutant, "timeout")
        else:
            code = os.waitstatus_to_exitcode(status)
            self._tell(child.mutant, {0: "survived", 2: "invalid"}.get(code, "killed"))

    def _tell(self, mutant: Mutant, state: str) -> None:
        print(json.dumps([str(mutant.file), mutant.id, state]), file=self.out, flush=True)


def play(mutants: Sequence[Mutant], traced: Traced, tests: Sequence[str], out: Path) -> int:
    """Play each mutant to the tests that run its lines; write a line for each to ``out`` when its state is known."""
    with out.open("w") as lines:
        return int(pytest.main([*_QUIET, *tests], plugins=[_Player(mutants, traced, lines), _Quick()]))


def _functions(files: set[str]) -> tuple[dict[tuple[Any, ...], list[FunctionType]], list[Any]]:
    """Return the functions of ``files`` that there are, by their code, and the caches of functions' results."""
    functions: dict[tuple[Any, ...], list[FunctionType]] = defaultdict(list)
    caches = []
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in files:
            functions[_key(each.__code__)].append(each)
        elif isinstance(each, functools._lru_cache_wrapper) and each.__module__.startswith("firelaunch"):
            caches.append(each)
    return functions, caches


def _key(code: CodeType) -> tuple[Any, ...]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _run(
    mutant: Mutant,
    items: Sequence[pytest.Item],
    functions: dict[tuple[Any, ...], list[FunctionType]],
    caches: list[Any],
) -> None:
    """Be the fork: change the functions, run the tests, and end at the first that fails."""
    code = 2
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        resource.setrlimit(resource.RLIMIT_CPU, (120, 125))
        _change(mutant, functions)
        for cache in caches:
            cache.cache_clear()
        code = 0
        for number, item in enumerate(items):
            following = items[number + 1] if number + 1 < len(items) else None
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                code = 1
                break
    except BaseException:
        code = code or 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def _change(mutant: Mutant, functions: dict[tuple[Any, ...], list[FunctionType]]) -> None:
    name = str(mutant.file)
    before = compile(mutant.file.read_text(), name, "exec", dont_inherit=True)
    after = compile(mutant.source, name, "exec", dont_inherit=True)
    for old, new in _pairs(before, after):
        for function in functions.get(_key(old), ()):
            function.__code__ = new


def _pairs(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield the code of each function before and after."""
    inside = [[each for each in code.co_consts if isinstance(each, CodeType)] for code in (before, after)]
    if len(inside[0]) != len(inside[1]):
        return
    for old, new in zip(*inside, strict=True):
        if old.co_code != new.co_code or old.co_consts != new.co_consts or old.co_names != new.co_names:
            yield old, new
        yield from _pairs(old, new)
