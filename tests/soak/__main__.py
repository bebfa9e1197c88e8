"""``make soak MINUTES=20``: half of the time in embedded mode, half on the Firestore emulator. Exit 1 where one rises.

The figures are in build/soak.json. ``ONLY=embedded`` or ``ONLY=emulators`` runs one of both for all of the time.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from chaos_jobs.run import progress
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from support import ROOT

from .run import FIGURES, FLAT, Report, run


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where all is flat, 1 where something rises or a request failed, 2 where it could not be run.
    """
    minutes, only = float(sys.argv[1]), os.environ.get("ONLY", "")
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, share = Path(scratch), minutes if only else minutes / 2
        if only != "emulators":
            reports.append(run(folder, share, progress))
        if only != "embedded":
            try:
                with Emulator.start() as emulator:
                    project = f"demo-{secrets.token_hex(8)}"
                    reports.append(run(folder, share, progress, emulator=(emulator, project)))
            except EmulatorUnavailable as error:
                sys.stderr.write(f"{error}\n")
                return 2
    target = ROOT / "build" / "soak.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({report.mode: asdict(report) for report in reports}, indent=1) + "\n")
    for report in reports:
        _print(report)
    return 0 if all(report.flat and not report.failed for report in reports) else 1


def _print(report: Report) -> None:
    total = sum(report.requests.values())
    sys.stdout.write(f"\n{report.mode}: {report.minutes:g} minutes at {report.busy:.0%} of a core, {total} requests\n")
    for name, unit in FIGURES.items():
        slope, rises = report.slopes[name], "" if report.slopes[name] <= FLAT[name] else "  RISES"
        between = f"{report.first[name]:>8.1f} -> {report.last[name]:>8.1f}"
        sys.stdout.write(f"  {name:<8} {between}  {slope:>+8.3f} {unit} a minute{rises}\n")
    for failure, count in report.failed.items():
        sys.stdout.write(f"  failed: {failure}: {count}\n")


if __name__ == "__main__":
    sys.exit(main())
