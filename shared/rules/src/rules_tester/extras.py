"""What is there beside the tester itself."""

from __future__ import annotations

import importlib.util

__all__ = ["can_prove"]


def can_prove() -> bool:
    """Return whether the solver is installed: the extra ``proof``."""
    return importlib.util.find_spec("z3") is not None
