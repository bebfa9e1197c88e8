"""``make mutants``: say which small changes of metering, scope and admission no test notices.

``ONLY`` has rooms or modules, ``TESTS`` the tests to run instead of those that stand beside, and ``SHORT``
plays five mutants alone.
"""

# ruff: noqa: T201 - a command line tool

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from support import ROOT

from .changes import Mutant, mutants_of
from .runs import Traced, play, trace

SOURCE = ROOT / "shared/firelaunch/src/firelaunch"
ROOMS = {
    "scope": ("scope", "store/scoped", "store/guard", "membership/policy"),
    "admission": (
        *("slots", "metering/retries", "services/upload_limits", "api/user_limits"),
        *("billing/entitlements", "billing/balance"),
    ),
    "metering": ("metering/reservations", "metering/pool", "metering/ceiling", "llm/prices", "metering/sums"),
}
TESTS = ROOT / "shared/firelaunch/tests"
BESIDE = {
    "scope": (
        *("test_scope.py", "test_scope_paths.py", "store/test_scoped.py", "membership/test_policy.py"),
        *("records/test_isolation.py", "records/test_group_records.py", "services/test_groups.py"),
    ),
    "admission": (
        *("test_slots.py", "metering/test_retries.py", "services/test_upload_limits.py", "api/test_limits.py"),
        *("billing/test_entitlements.py", "billing/test_balance.py", "billing/test_credit.py"),
        "metering/test_reservations.py",
    ),
    "metering": (
        *("metering/test_day.py", "metering/test_pool.py", "metering/test_to_the_micro_dollar.py"),
        *("metering/test_draws.py", "services/test_upload_limits.py"),
        *(
            "metering/test_reservations.py",
            "metering/test_ceiling.py",
            "metering/test_sums.py",
            "billing/test_credit.py",
        ),
        *("worker/test_meters.py", "turns/test_app_budget.py", "llm/test_gateway.py", "services/test_prices.py"),
    ),
}
"""The tests that stand beside each room's modules."""

EQUIVALENT = Path(__file__).parent / "equivalent.yaml"
OUT = Path(os.environ.get("OUT", ROOT / "build/mutants.json"))
SHORT = ("slots", "test_slots.py", 5)
"""The module, the tests and the number of mutants of the short form."""


def main(only: str, tests: str, *, short: bool) -> int:
    """Play the mutants of a room, of a module, or of all; return 1 if a test is missing."""
    wanted = set(only.split())
    rooms = {room: [name for name in modules if not wanted or {room, name} & wanted] for room, modules in ROOMS.items()}
    rooms = {room: modules for room, modules in rooms.items() if modules}
    if not rooms:
        print(
            f"ONLY={only} names neither a room ({', '.join(ROOMS)}) nor a module such as store/scoped.", file=sys.stderr
        )
        return 2
    if short:
        rooms = {"admission": [SHORT[0]]}
    allowed = _allowed()
    every = {name: mutants_of(SOURCE / f"{name}.py") for modules in rooms.values() for name in modules}
    mutants = {name: [each for each in some if each.id not in allowed.get(name, ())] for name, some in every.items()}
    if short:
        mutants = {name: some[:: len(some) // SHORT[2]][: SHORT[2]] for name, some in mutants.items()}
    states: dict[tuple[Path, str], str] = {}
    for room, modules in rooms.items():
        beside = [SHORT[1]] if short else tests.split() or BESIDE[room]
        states |= _states([each for name in modules for each in mutants[name]], [str(TESTS / name) for name in beside])
    report = {
        "short": short,
        "rooms": {
            room: {name: _figures(mutants[name], states, len(allowed.get(name, ()))) for name in modules}
            for room, modules in rooms.items()
        },
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2))
    return _print(report)


def _states(mutants: list[Mutant], tests: list[str]) -> dict[tuple[Path, str], str]:
    """Return the state of each mutant."""
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        traced_at, played_at = Path(folder) / "traced.json", Path(folder) / "played"
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(folder) / "hypothesis")
        temp = f"--basetemp={folder}/pytest"
        began = time.monotonic()
        if _apart(trace, sorted({each.file for each in mutants}), [temp, *tests], traced_at) > 1:
            raise SystemExit("the tests did not run")
        traced = Traced.read(traced_at)
        print(f"{len(traced.seconds)} tests, {time.monotonic() - began:.0f} s; {len(mutants)} mutants", flush=True)
        used = sorted({test.partition("::")[0] for each in mutants for test in traced.of(each)})
        if _apart(play, mutants, traced, [temp, *used], played_at) > 1:
            raise SystemExit("the tests were not played to the end")
        lines = [json.loads(line) for line in played_at.read_text().splitlines()]
    return {(Path(file), name): state for file, name, state in lines}


def _apart(work: Callable[..., int], *arguments: Any) -> int:
    """Call ``work`` in a process of its own, because pytest imports what it runs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(_quietly, work, *arguments).result()


def _quietly(work: Callable[..., int], *arguments: Any) -> int:
    with (OUT.parent / "mutants.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        return work(*arguments)


def _allowed() -> dict[str, set[str]]:
    """Return the mutants that change nothing, by module. They are not played."""
    entries = yaml.safe_load(EQUIVALENT.read_text()) or {}
    return {name: {each["id"] for each in of_module} for name, of_module in entries.items()}


def _figures(mutants: list[Mutant], states: dict[tuple[Path, str], str], equivalent: int) -> dict[str, Any]:
    by_state: dict[str, list[str]] = {state: [] for state in ("killed", "timeout", "survived", "never run", "invalid")}
    for each in mutants:
        by_state[states[each.file, each.id]].append(each.id)
    noticed = len(by_state["killed"]) + len(by_state["timeout"])
    survived = [*by_state["survived"], *by_state["never run"]]
    counted = noticed + len(survived)
    return {
        "mutants": counted,
        "killed": len(by_state["killed"]),
        "timeout": len(by_state["timeout"]),
        "survived": survived,
        "never_run": by_state["never run"],
        "equivalent": equivalent,
        "invalid": by_state["invalid"],
        "score": round(100 * noticed / counted, 2) if counted else 100.0,
    }


def _print(report: dict[str, Any]) -> int:
    failed = False
    for room, modules in report["rooms"].items():
        mutants = sum(each["mutants"] for each in modules.values())
        noticed = sum(each["killed"] + each["timeout"] for each in modules.values())
        print(f"{room}: {noticed} of {mutants} mutants killed, score {100 * noticed / max(mutants, 1):.2f}")
        for name, each in modules.items():
            print(
                f"  {name:26} {each['killed'] + each['timeout']:4} of {each['mutants']:4}  score {each['score']:6.2f}  "
                f"timeout {each['timeout']}  equivalent {each['equivalent']}"
            )
            for title in ("survived", "invalid"):
                failed = failed or (title == "survived" and bool(each[title]))
                for mutant in each[title]:
                    kind = "never run" if mutant in each["never_run"] else title
                    print(f"    {kind}: {mutant}")
    print(f"{OUT} has them all.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(os.environ.get("ONLY", ""), os.environ.get("TESTS", ""), short=bool(os.environ.get("SHORT"))))
