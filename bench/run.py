"""Runs the benchmarks: ``python bench/run.py [NAME ...]``.

Each prints a table and writes ``build/bench/<name>.json``.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = ("start", "turn", "identity", "relay", "index", "ingest", "chunking")


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}.")
    # Bytecode is written and found, as in an image; without it each start would compile everything again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    sys.path.insert(0, str(ROOT))
    for name in names or NAMES:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
