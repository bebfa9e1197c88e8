"""The Python that runs an app on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["python_of"]


def python_of(folder: Path) -> str:
    """Return the Python of an app: that of its own ``.venv`` if it has one, else the one that runs this command."""
    own = folder / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
