"""``make fuzz-metering``: the figures are in build/metering.json. Exit 1 where a micro-dollar leaked."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path

from support import ROOT

from .run import fuzz


def main() -> int:
    """Run as many turns as the first argument says.

    Returns:
        the exit code.
    """
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    began = time.monotonic()
    # What goes wrong here goes wrong on purpose.
    logging.disable(logging.CRITICAL)

    def tick(done: int, of: int) -> None:
        if sys.stderr.isatty() or done % 500 == 0:
            left = (time.monotonic() - began) / done * (of - done)
            end = "\r" if sys.stderr.isatty() else "\n"
            sys.stderr.write(f"{done} of {of} turns, about {left:.0f} s left{end}")
            sys.stderr.flush()

    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(Path(folder), turns, tick=tick)
    target = ROOT / "build" / "metering.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    sys.stdout.write("\n".join(f"{name}: {value}" for name, value in report.as_json().items()) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
