"""``make providers``: the figures are in build/providers.json. Exit 1 where a quirk is not borne."""

from __future__ import annotations

import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

from support import ROOT

from .play import played
from .quirks import QUIRKS


def main() -> int:
    """Play every quirk.

    Returns:
        the exit code.
    """
    logging.disable(logging.CRITICAL)  # what goes wrong here goes wrong on purpose
    with ThreadPoolExecutor(8) as threads:
        rows = [row for part in threads.map(played, [[quirk] for quirk in QUIRKS]) for row in part]
    target = ROOT / "build" / "providers.json"
    target.parent.mkdir(exist_ok=True)
    failed = [row for row in rows if not row["passed"]]
    target.write_text(json.dumps({"passed": not failed, "rows": rows}, indent=2) + "\n")
    for row in failed:
        sys.stdout.write(f"{row['provider']}: {row['quirk']}: {row['problem']}\n")
    sys.stdout.write(f"{len(QUIRKS)} quirks, {len(rows)} rows, {len(failed)} failed: {target.relative_to(ROOT)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
