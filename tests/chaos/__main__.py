"""``make chaos``: each fault of the machine, played to a served app. Exit 1 where a figure is wrong.

The figures are in build/chaos.json. ``ONLY=disk-full,dns`` plays those alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from support import ROOT

from .faults import FAULTS, Size, play
from .world import Outcome

_SIZE = Size(users=8, seconds=20.0, streams=500)


def main() -> int:
    """Play them.

    Returns:
        the exit code: 0 where nothing was lost, the books are exact and the app came back by itself each time.
    """
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in only or FAULTS:
            outcomes[name] = play(name, Path(scratch) / name, _SIZE)
            _print(outcomes[name])
    target = ROOT / "build" / "chaos.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()}, indent=2) + "\n")
    return 0 if all(outcome.holds for outcome in outcomes.values()) else 1


def _print(outcome: Outcome) -> None:
    if outcome.skipped:
        sys.stdout.write(f"{outcome.fault:<36} skipped: {outcome.skipped}\n")
        return
    refused = ", ".join(f"{count} x {status}" for status, count in sorted(outcome.refused.items())) or "none"
    back = "never" if outcome.recovered_s is None else f"{outcome.recovered_s:.1f} s"
    sys.stdout.write(
        f"{outcome.fault:<36} lost {outcome.lost}, wrong_books {outcome.wrong_books}, recovered after {back}; "
        f"during it {outcome.answered} answered, refused: {refused}; "
        f"longest {outcome.longest_s} s; late {outcome.late}\n"
    )
    sys.stdout.write("".join(f"    {example}\n" for example in outcome.examples))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
