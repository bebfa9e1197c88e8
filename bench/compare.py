"""Compare two runs of a benchmark: ``bench/compare before.json after.json [--worse 1.2]``.

It needs nothing but Python. Ratios are judged, as each is one figure against another of the same run; rows are shown,
but depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_WIDE = 80
_NUMBERS = 34
"""Columns of the three figures at the end of a line."""


class Change(NamedTuple):
    """One figure of both runs.

    ``times`` is how many times worse it became, which is below 1 where it became better; None where that is not judged.
    """

    name: str
    before: float
    after: float
    times: float | None


def main(arguments: list[str]) -> int:
    """Print the changes; return 1 if a ratio became worse than was allowed, 2 if the runs cannot be compared."""
    parser = argparse.ArgumentParser(prog="bench/compare", description="Compare two runs of a benchmark.")
    parser.add_argument("before", type=Path, help="build/bench/NAME.json of one run")
    parser.add_argument("after", type=Path, help="that of the other")
    parser.add_argument("--worse", type=float, metavar="TIMES", help="fail if a ratio became so many times worse")
    asked = parser.parse_args(arguments)
    before, after = (json.loads(path.read_text()) for path in (asked.before, asked.after))
    if before["name"] != after["name"]:
        print(f"these are runs of {before['name']} and of {after['name']}", file=sys.stderr)
        return 2
    if before.get("short") or after.get("short"):
        print("the short form's figures say nothing: run without SHORT=1", file=sys.stderr)
        return 2
    ratios = list(compared(before["ratios"], after["ratios"], set(after.get("more_is_better", ()))))
    print("\n".join([*lines("ratio", ratios), *lines("row", list(compared(rows(before), rows(after))))]))
    gone = sorted(before["ratios"].keys() - after["ratios"].keys())
    if gone:
        print(f"no longer measured: {', '.join(gone)}")
    worse = [] if asked.worse is None else [c for c in ratios if c.times is None or c.times > asked.worse]
    for change in worse:
        print(f"worse: {change.name}")
    return 1 if worse or (gone and asked.worse is not None) else 0


def rows(run: Any) -> dict[str, float]:
    """Return a run's rows by name."""
    return {f"{row['case']}: {row['metric']}, {row['unit']}": row["value"] for row in run["rows"]}


def compared(before: dict[str, float], after: dict[str, float], more: set[str] | None = None) -> Iterator[Change]:
    """Yield the figures that both runs have.

    Args:
        more: those of which more is better; None if none is judged.
    """
    for name, old in before.items():
        if name not in after:
            continue
        new, times = after[name], None
        better, worse = (old, new) if more is None or name not in more else (new, old)
        if more is not None:
            times = 1.0 if better == worse else worse / better if better > 0 else None
        yield Change(name, old, new, times)


def lines(kind: str, changes: list[Change]) -> list[str]:
    """Return a table of 80 columns."""
    wide = _WIDE - _NUMBERS
    table = [f"{kind:<{wide}}{'before':>11}{'after':>11}{'times':>12}"] if changes else []
    for change in changes:
        times = f"{change.after / change.before:.2f}" if change.before else "-"
        mark = "" if change.times is None else " worse" if change.times > 1 else " better" if change.times < 1 else ""
        *above, last = cut(change.name, wide - 1)
        table += [*above, f"{last:<{wide}}{change.before:>11.4g}{change.after:>11.4g}{times:>5}{mark:<7}".rstrip()]
    return table


def cut(text: str, wide: int) -> list[str]:
    """Return ``text`` in pieces that are not wider than ``wide``."""
    return [text[at : at + wide] for at in range(0, len(text), wide)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
