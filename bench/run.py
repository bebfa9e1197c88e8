"""Run the benchmarks: ``python bench/run.py [--short] [NAME ...]``.

Each prints a table and writes ``build/bench/<name>.json``. ``--short`` takes seconds and shows that each still works.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
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
    if failed:
        sys.exit(f"\nfailed: {', '.join(failed)}; what went wrong is above")


def runs(name: str) -> bool:
    """Run one benchmark; whether it came to its end."""
    began = time.monotonic()
    try:
        importlib.import_module(f"bench.{name}").main()
    except Exception:
        traceback.print_exc()
        return False
    print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
