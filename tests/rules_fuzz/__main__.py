"""``make rules-fuzz``: ask both about thousands of texts and requests; figures in build/rules_fuzz.json.

Exits with 1 if they differ anywhere.
"""

from __future__ import annotations

import json
import sys
import time

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable

from .compare import compare
from .decisions import decide
from .programs import ROOT


def main(each: int, requests: int) -> int:
    """Compare ``each`` programs, changed files and regular expressions, and decisions on ``requests`` requests."""
    began = time.monotonic()
    try:
        with Emulator.start() as emulator:
            comparison = compare(emulator, "demo-rules-fuzz", each)
            decisions = decide(emulator, "demo-rules-fuzz", requests)
    except EmulatorUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    counts = comparison.counts
    report = {
        "programs": counts["generated"] + counts["mutated"] + counts["patterns"],
        **counts,
        "disagreements_parse": len(comparison.disagreements),
        **decisions.counts,
        "disagreements_smt": len(decisions.disagreements),
        "seconds": round(time.monotonic() - began, 1),
        "examples": [*comparison.disagreements[:20], *decisions.disagreements[:20]],
    }
    out = ROOT / "build" / "rules_fuzz.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps({key: value for key, value in report.items() if key != "examples"}, indent=2) + "\n")
    return 1 if comparison.disagreements or decisions.disagreements else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
