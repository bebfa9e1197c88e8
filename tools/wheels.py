"""Check that every locked package has a wheel for each Python and platform that firelaunch is set up on.

Asks the package index through uv and installs nothing: ``tools/wheels.py [LOCK ...]``; without names it checks
requirements-dev.lock. A package without a wheel would be built on the user's machine, which needs a compiler.
"""

# ruff: noqa: S603, T201 - a command line tool that runs a fixed command

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-apple-darwin")
"""As uv names them; WSL is the first."""


def main(locks: list[str]) -> None:
    """Print what is missing; exit 1 where anything is."""
    asked = list(product(locks or ["requirements-dev.lock"], PYTHONS, PLATFORMS))
    print(f"looking for wheels: {', '.join(PYTHONS)} on {len(PLATFORMS)} platforms ...", flush=True)
    with ThreadPoolExecutor(4) as pool:
        missing = list(filter(None, pool.map(lambda each: missing_wheels(*each), asked)))
    print("\n".join(missing) or "  every package has one for each")
    if missing:
        print("Lock another version in requirements-dev.in, or find a package that has wheels.")
        sys.exit(1)


def missing_wheels(lock: str, python: str, platform: str) -> str | None:
    """What uv says is missing, or None."""
    with tempfile.TemporaryDirectory() as nowhere:
        command = [
            *(os.environ.get("UV", str(ROOT / ".venv" / "bin" / "uv")), "pip", "install", "--quiet", "--dry-run"),
            *("--target", nowhere, "--python-version", python, "--python-platform", platform),
            *("--only-binary", ":all:", "--require-hashes", "-r", lock),
        ]
        environ = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", "UV_HTTP_RETRIES": "8", **os.environ}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{lock}, Python {python}, {platform}:\n{done.stderr.rstrip()}"


if __name__ == "__main__":
    main(sys.argv[1:])
