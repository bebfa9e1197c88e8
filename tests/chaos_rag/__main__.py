"""``make chaos-rag``: on the embedded backend and on the Firestore emulator; the figures are in build/chaos-rag.json.

Exit 1 if a chunk was lost or doubled, or a passage of a deleted or cancelled document was found.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from chaos_jobs.run import progress
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from support import ROOT

from .run import run

_DOCUMENTS = 150
_KILLS = 60
_DOOMED = 32
_ON_FIRESTORE = 3
"""How many times fewer documents and kills there are on the emulator, which is slower."""

_SUMS = ("lost", "doubled", "found_after_delete")


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where each chunk is there once, 1 where one is not, 2 where it could not be run.
    """
    try:
        with Emulator.start() as emulator, tempfile.TemporaryDirectory() as folder:
            less, project = _ON_FIRESTORE, f"demo-{secrets.token_hex(8)}"
            reports = {"embedded": run(Path(folder) / "embedded", _DOCUMENTS, _KILLS, progress, doomed=_DOOMED)}
            reports["firestore"] = run(
                Path(folder) / "firestore",
                _DOCUMENTS // less,
                _KILLS // less,
                progress,
                doomed=_DOOMED // 2,
                emulator=(emulator, project),
            )
    except EmulatorUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    target = ROOT / "build" / "chaos-rag.json"
    target.parent.mkdir(exist_ok=True)
    sums = {name: sum(getattr(each, name) for each in reports.values()) for name in _SUMS}
    written = {**sums, **{name: asdict(report) for name, report in reports.items()}}
    target.write_text(json.dumps(written, indent=2) + "\n")
    for name, report in reports.items():
        figures = ", ".join(f"{key} {value}" for key, value in asdict(report).items() if key != "examples")
        sys.stdout.write("".join(f"  {example}\n" for example in report.examples) + f"\n{name}: {figures}\n")
    sys.stdout.write(", ".join(f"{key} {value}" for key, value in sums.items()) + "\n")
    return 0 if all(report.holds and not report.examples for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
