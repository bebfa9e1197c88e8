"""``make deny-matrix``: the whole matrix on firestore.rules, its figures in build/deny.json. Exit 1 if it fails."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError

from .attempts import attempts, for_javascript
from .javascript import NoJavaScript, install, run_javascript
from .run import Report, run

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where every answer was as the table says, 1 where not, 2 where it could not be run.
    """
    javascript: dict[str, Any] = {"attempts": 0}
    try:
        folder = _install()
        began = time.monotonic()
        with Emulator.start() as emulator, ThreadPoolExecutor(1) as beside:
            rules = (ROOT / "firestore.rules").read_text()
            slice_ = (
                None if folder is None else beside.submit(run_javascript, emulator, rules, for_javascript(), folder)
            )
            report = run(emulator, rules, attempts())
            if slice_ is not None:
                javascript = _figures(slice_.result(), "attempts", "seconds")
                report.merge(slice_.result())
        report.seconds = time.monotonic() - began
    except (EmulatorUnavailable, RulesError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    figures = {**report.as_json(), "javascript": javascript}
    target = ROOT / "build" / "deny.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    for example in figures["examples"]:
        sys.stdout.write(f"  {example}\n")
    sys.stdout.write(f"{_line(report)}; of these by the JavaScript SDK: attempts {javascript['attempts']}\n")
    return 0 if report.holds else 1


def _install() -> Path | None:
    """The JavaScript SDK's folder; the seconds that this takes are not the matrix's. None, and a loud line, without."""
    try:
        return install(lambda: sys.stdout.write("installing the JavaScript SDK into build/ (about 10 s, once) ...\n"))
    except NoJavaScript as error:
        sys.stderr.write(f"\n*** The JavaScript SDK's part of the matrix is SKIPPED: {error} ***\n\n")
        return None


def _figures(report: Report, *names: str) -> dict[str, Any]:
    figures = report.as_json()
    return {name: figures[name] for name in names}


def _line(report: Report) -> str:
    names = ("attempts", "allowed_as_expected", "leaks", "refused", "unclear", "seconds")
    return ", ".join(f"{name} {value}" for name, value in _figures(report, *names).items())


if __name__ == "__main__":
    sys.exit(main())
