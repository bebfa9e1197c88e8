"""Compare two sets of rules, with proof where the solver is there."""

from __future__ import annotations

from .difference import RulesDifference, difference
from .extras import can_prove
from .syntax import Ruleset

__all__ = ["compared"]


def compared(old: Ruleset | None, new: Ruleset) -> RulesDifference:
    """Return what new rules open and close of what old ones allow. None stands for no rules, which allow nothing.

    With the extra ``proof``, changes that are proved to be none are left out, and others come with a request.
    """
    found = difference(old, new)
    if not can_prove() or found.kind == "none":
        return found
    from .counterexamples import sharpened  # it imports the solver, which is an extra and takes long to load

    return sharpened(old, new, found)
