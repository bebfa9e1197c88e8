"""``make deny-matrix``: the whole matrix on firestore.rules, its figures in build/deny.json. Exit 1 if it fails."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError

from .attempts import attempts, for_javascript, on_own_collections
from .composed import composed
from .javascript import NoJavaScript, install, run_javascript
from .run import Report, run

ROOT = Path(__file__).parent.parent.parent
_NAMED = "alpha"
_ONE_IN = 13
"""Of this many attempts one is made again on the named database; a prime, so that no operation is always left out."""


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where every answer was as the table says, 1 where not, 2 where it could not be run.
    """
    try:
        folder = _install()
        began = time.monotonic()
        with Emulator.start() as emulator:
            parts = _run(emulator, folder)
    except (EmulatorUnavailable, RulesError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    total = Report()
    for part in parts.values():
        total.merge(part)
    total.seconds = time.monotonic() - began
    figures = {**total.as_json(), "parts": {name: _figures(part) for name, part in parts.items()}}
    target = ROOT / "build" / "deny.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    for example in figures["examples"]:
        sys.stdout.write(f"  {example}\n")
    for name, part in parts.items():
        sys.stdout.write(f"{name}: {part.by_operation.total()} attempts\n")
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in _figures(total).items()) + "\n")
    return 0 if total.holds else 1


def _run(emulator: Emulator, folder: Path | None) -> dict[str, Report]:
    rules = (ROOT / "firestore.rules").read_text()
    with ThreadPoolExecutor(1) as beside:
        slice_ = beside.submit(run_javascript, emulator, rules, for_javascript(), folder) if folder else None
        parts = {"python": run(emulator, rules, attempts())}
        parts["composed rules"] = run(emulator, composed(rules), attempts())
        parts["apps' own collections"] = run(emulator, composed(rules), on_own_collections())
        parts["named database"] = run(emulator, rules, attempts()[::_ONE_IN], database=_NAMED)
        if slice_ is not None:
            parts["javascript"] = slice_.result()
    return parts


def _install() -> Path | None:
    """The JavaScript SDK's folder; the seconds that this takes are not the matrix's. None, and a loud line, without."""
    try:
        return install(lambda: sys.stdout.write("installing the JavaScript SDK into build/ (about 10 s, once) ...\n"))
    except NoJavaScript as error:
        sys.stderr.write(f"\n*** The JavaScript SDK's part of the matrix is SKIPPED: {error} ***\n\n")
        return None


def _figures(report: Report) -> dict[str, Any]:
    figures = report.as_json()
    names = ("attempts", "allowed_as_expected", "leaks", "refused", "unclear", "seconds")
    return {name: figures[name] for name in names}


if __name__ == "__main__":
    sys.exit(main())
