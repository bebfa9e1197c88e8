"""Run the benchmarks: ``python bench/run.py [--short] [NAME ...]``.

Each prints a table and writes ``build/bench/<name>.json`` and a picture, ``<name>.svg``; what is logged meanwhile is in
``<name>.log``. ``ratios.md`` beside them has the ratios of all. ``--short`` takes seconds and shows that each works.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = (
    "start",
    "turn",
    "identity",
    "relay",
    "telemetry",
    "index",
    "firestore_search",
    "ingest",
    "chunking",
    "ops",
    "growth",
    "processes",
    "rules",
    "strangers",
)


def main(arguments: list[str]) -> None:
    """Run the named benchmarks, or all of them; exit 1 where one fails, after the others."""
    parser = argparse.ArgumentParser(description="Run the benchmarks, or those that are named.")
    parser.add_argument("--short", action="store_true", help="measure little, only to see that they work")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}.")
    if asked.short:
        os.environ["BENCH_SHORT"] = "1"
    # Bytecode is written and found, as in an image; without it each start would compile everything again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    sys.path.insert(0, str(ROOT))
    failed = [name for name in asked.names or NAMES if not runs(name)]
    report = importlib.import_module("bench.report")
    if report.OUT.is_dir():
        (report.OUT / "ratios.md").write_text(report.table(report.OUT))
    if failed:
        sys.exit(f"\nfailed: {', '.join(failed)}; what went wrong is above")


@contextmanager
def logs_in(folder: Path, name: str) -> Iterator[None]:
    """Send what this process and its servers log to a file, so that no line of it is among the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with (folder / f"{name}.log").open("wb") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def runs(name: str) -> bool:
    """Run one benchmark; whether it came to its end."""
    began = time.monotonic()
    try:
        with logs_in(importlib.import_module("bench.report").OUT, name):
            importlib.import_module(f"bench.{name}").main()
    except Exception:
        traceback.print_exc()
        return False
    print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
