"""The form that all benchmarks report in, and how much they measure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.picture import picture

ROOT = Path(__file__).parent.parent
OUT = Path(os.environ.get("BENCH_OUT") or ROOT / "build" / "bench")
SHORT = bool(os.environ.get("BENCH_SHORT"))

Size = TypeVar("Size")


def size(full: Size, short: Size) -> Size:
    """How much to measure: ``full``, or ``short`` where ``make bench SHORT=1`` only sees that the benchmark works.

    A benchmark's short form ends within ten seconds on two cores. Its figures say nothing.
    """
    return short if SHORT else full


def data(name: str) -> Path | None:
    """The folder ``shared/data/<name>`` beside this repository or in a folder above it; None where there is none."""
    return next(
        (folder for base in ROOT.resolve().parents if (folder := base / "shared" / "data" / name).is_dir()), None
    )


class Report:
    """Rows and ratios of one benchmark; ``write`` prints them and leaves them in ``build/bench``, with a picture."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[dict[str, Any]] = []
        self.ratios: dict[str, float] = {}
        self.more_is_better: list[str] = []
        self.curves: list[dict[str, Any]] = []

    def row(self, case: str, metric: str, value: float, unit: str) -> None:
        """One measured figure."""
        self.rows.append({"case": case, "metric": metric, "value": round(value, 4), "unit": unit})

    def ratio(self, name: str, value: float, *, more_is_better: bool = False) -> None:
        """One figure against another of the same run, for ``bench/compare``."""
        self.ratios[name] = round(value, 3)
        if more_is_better:
            self.more_is_better.append(name)

    def curve(self, case: str, metric: str, unit: str, values: Mapping[int, float], shape: str) -> None:
        """One figure at several sizes, and in a word how it runs."""
        found = {str(each): round(value, 4) for each, value in values.items()}
        self.curves.append({"case": case, "metric": metric, "unit": unit, "values": found, "shape": shape})

    def write(self) -> None:
        """Print and keep."""
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{self.name}.json"
        found: dict[str, Any] = {"name": self.name, "rows": self.rows, "ratios": self.ratios}
        found |= {"more_is_better": self.more_is_better}
        found |= {"curves": self.curves} if self.curves else {}
        found |= {"short": True} if SHORT else {}
        path.write_text(json.dumps(found, indent=2) + "\n")
        path.with_suffix(".svg").write_text(picture(self.name, self.rows))
        print(f"\n{self.name}" + (" (the short form: it works, and its figures say nothing)" if SHORT else ""))
        for curve in self.curves:
            values = "  ".join(f"{int(each):,}: {value:.4g}" for each, value in curve["values"].items())
            print(f"  {curve['case']}, {curve['metric']} ({curve['unit']})  {values}  {curve['shape']}")
        wide = max(len(row["case"]) for row in self.rows)
        metric = max(len(row["metric"]) for row in self.rows)
        for row in self.rows:
            print(f"  {row['case']:<{wide}}  {row['metric']:<{metric}}  {row['value']:>10.4g} {row['unit']}")
        for name, value in self.ratios.items():
            print(f"  {name} = {value}")
        print(f"  written to {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


@contextmanager
def progress(label: str, total: int) -> Iterator[Any]:
    """A counter on a terminal: call what is yielded once a step."""
    done, shown = 0, sys.stdout.isatty()

    def step() -> None:
        nonlocal done
        done += 1
        if shown:
            sys.stdout.write(f"\r{label}: {done} of {total}")
            sys.stdout.flush()

    yield step
    if shown:
        sys.stdout.write("\n")


def table(folder: Path) -> str:
    """The ratios of all benchmarks that left theirs in ``folder``, as a table of Markdown."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [f"| {run['name']} | {name} | {value:.3g} |" for run in runs for name, value in run["ratios"].items()]
    return "\n".join(["| benchmark | ratio | |", "| --- | --- | --- |", *lines, ""])
