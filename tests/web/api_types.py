"""The web client's types of the API, made of the service's own OpenAPI document: ``make types``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from clients.packages import NoGenerators, javascript
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from support import TEMPLATE

__all__ = ["KEPT", "generate"]

KEPT = TEMPLATE / "web" / "src" / "api" / "schema.d.ts"


def generate() -> str:
    """Return what the file would hold if it were made now.

    Raises:
        NoGenerators: no Node, or no network to an npm registry.
    """
    generator = javascript("js") / "node_modules" / ".bin" / "openapi-typescript"
    with tempfile.TemporaryDirectory() as scratch:
        document, made = Path(scratch) / "openapi.json", Path(scratch) / "schema.d.ts"
        document.write_text(_document(Path(scratch)))
        subprocess.run([generator, document, "-o", made], check=True, capture_output=True, text=True)
        return made.read_text()


def _document(folder: Path) -> str:
    services = build(
        Settings.load(write_app(folder, SETTINGS + "groups = 1\n"), {"FIRELAUNCH_DATA": str(folder / "data")})
    )
    app = App("types")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    try:
        text: str = app.test_client().get("/openapi.json").text
        return text
    finally:
        services.store.close()


def main() -> int:
    """Write the file anew."""
    try:
        KEPT.write_text(generate())
    except NoGenerators as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
