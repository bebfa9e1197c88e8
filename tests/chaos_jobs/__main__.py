"""``make chaos-jobs``: 1,000 jobs, and ticks of a schedule, on each backend. Exit 1 if a figure is wrong.

The figures are in build/chaos-jobs.json.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from support import ROOT

from .run import Load, on_cloud_tasks, on_threads, progress

_LOAD = Load(jobs=1000, kills=60, ticks=5, users=250)


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where no job was lost, missed or applied twice, 1 where one was, 2 where it could not be run.
    """
    try:
        with Emulator.start() as emulator, tempfile.TemporaryDirectory() as folder:
            project = f"demo-{secrets.token_hex(8)}"
            reports = {"embedded": on_threads(Path(folder) / "embedded", _LOAD, progress)}
            reports["cloud_tasks"] = on_cloud_tasks(Path(folder) / "cloud", emulator, project, _LOAD, progress)
    except EmulatorUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    target = ROOT / "build" / "chaos-jobs.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({name: asdict(report) for name, report in reports.items()}, indent=2) + "\n")
    for name, report in reports.items():
        figures = ", ".join(f"{key} {value}" for key, value in asdict(report).items() if key != "examples")
        sys.stdout.write("".join(f"  {example}\n" for example in report.examples) + f"{name}: {figures}\n")
    return 0 if all(report.holds for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
