"""Redocly and Spectral on OpenAPI documents."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .packages import javascript

__all__ = ["LINTERS"]

_QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def _redocly(document: Path) -> dict[str, int]:
    totals = json.loads(_said("redocly", "lint", "--format=json", str(document)))["totals"]
    return {"errors": totals["errors"], "warnings": totals["warnings"]}


def _spectral(document: Path) -> dict[str, int]:
    rules = document.with_name("spectral.json")
    rules.write_text('{"extends": ["spectral:oas"]}')
    results = json.loads(_said("spectral", "lint", "--format=json", "--quiet", f"--ruleset={rules}", str(document)))
    errors = sum(result["severity"] == 0 for result in results)
    return {"errors": errors, "warnings": len(results) - errors}


def _said(name: str, *words: str) -> str:
    program = javascript("js_long") / "node_modules" / ".bin" / name
    done = subprocess.run(
        [program, *words], env={**os.environ, **_QUIET}, capture_output=True, text=True, check=False, timeout=120
    )
    if not done.stdout.strip():
        raise RuntimeError(f"{name} said nothing but: {done.stderr.strip()[-1000:]}")
    return done.stdout


LINTERS = {"redocly": _redocly, "spectral": _spectral}
"""Each linter by its name: the errors and warnings that it has for a document."""
