"""``make chaos-rag``: the figures are in build/chaos-rag.json. Exit 1 if a chunk was lost or doubled."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from chaos_jobs.run import progress
from support import ROOT

from .run import run

_DOCUMENTS = 150
_KILLS = 60


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where each chunk is there once, 1 where one is not.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), _DOCUMENTS, _KILLS, progress)
    target = ROOT / "build" / "chaos-rag.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(asdict(report), indent=2) + "\n")
    figures = ", ".join(f"{key} {value}" for key, value in asdict(report).items() if key != "examples")
    sys.stdout.write("".join(f"  {example}\n" for example in report.examples) + f"\n{figures}\n")
    return 0 if report.holds and not report.examples else 1


if __name__ == "__main__":
    sys.exit(main())
