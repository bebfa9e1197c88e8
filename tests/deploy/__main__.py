"""``make test-deploy``: the real gcloud against a server that plays Google's APIs; figures in build/deploy.json.

Each request is compared with tests/deploy/requests.json; ``--record`` writes that file anew. Exit 1 where anything
differs or does not hold, 2 without gcloud.
"""

from __future__ import annotations

import difflib
import json
import sys
import tempfile
from pathlib import Path

from support import ROOT

from .scenarios import play
from .world import gcloud_is_there

GOLDEN = Path(__file__).parent / "requests.json"


def main() -> int:
    """Play everything."""
    if not gcloud_is_there():
        sys.stderr.write("gcloud is not on the PATH: https://cloud.google.com/sdk/docs/install\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        reports = play(Path(folder), lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush())
    if "--record" in sys.argv:
        GOLDEN.write_text(json.dumps({report.name: report.requests for report in reports}, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    figures = {}
    for report in reports:
        lines = list(
            difflib.unified_diff(golden.get(report.name, []), report.requests, "golden", "now", lineterm="", n=1)
        )
        unexpected = [line for line in lines if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
        holds = not report.problems and not unexpected
        figures[report.name] = {
            "requests": len(report.requests),
            "unexpected": len(unexpected),
            "result": "holds" if holds else "does not hold",
        }
        sys.stdout.write(f"{report.name}: {figures[report.name]}\n")
        sys.stdout.write("".join(f"  {line}\n" for line in [*report.problems, *lines]))
    target = ROOT / "build" / "deploy.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(item["result"] == "holds" for item in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
