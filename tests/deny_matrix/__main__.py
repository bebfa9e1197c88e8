"""``make deny-matrix``: the whole matrix on firestore.rules, its figures in build/deny.json. Exit 1 if it fails."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError

from .attempts import attempts
from .run import run

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where every answer was as the table says, 1 where not, 2 where it could not be run.
    """
    began = time.monotonic()
    try:
        with Emulator.start() as emulator:
            report = run(emulator, (ROOT / "firestore.rules").read_text(), attempts())
    except (EmulatorUnavailable, RulesError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report.seconds = time.monotonic() - began
    figures = report.as_json()
    target = ROOT / "build" / "deny.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    for example in figures["examples"]:
        sys.stdout.write(f"  {example}\n")
    keys = ("attempts", "allowed_as_expected", "leaks", "refused", "unclear", "seconds")
    sys.stdout.write(", ".join(f"{key} {figures[key]}" for key in keys) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
