"""``make chaos-budget``: 1,000 guests against a ceiling, on eight processes. Exit 1 if a figure is wrong.

The figures are in build/chaos-budget.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from support import ROOT

from .run import Load, run

_LOAD = Load(users=1000, clients=16, processes=8, kills=16, ceiling_usd="0.4")


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 if the ceiling held, little of it was unused and the books agree; else 1.
    """

    def say(line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line}")
            sys.stderr.flush()

    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), _LOAD, say)
    target = ROOT / "build" / "chaos-budget.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(asdict(report), indent=2) + "\n")
    sys.stdout.write("\n".join(f"{name}: {value}" for name, value in asdict(report).items()) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
