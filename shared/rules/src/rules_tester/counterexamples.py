"""Finds requests that two sets of rules decide differently, and changes of conditions that decide none so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import z3

from .difference import Right, RulesDifference
from .formulas import RuleFormulas
from .proofs import EFFORT
from .sample_requests import SampleRequest, sample
from .semantics import FormulaWords, Untranslatable
from .syntax import Ruleset

__all__ = ["request_gained", "sharpened"]

_MOST_SEGMENTS = 11
"""Segments of the longest path that is tried."""
_MOST_PATHS = 3
_ROOT = ("databases", "(default)", "documents")


def sharpened(old: Ruleset | None, new: Ruleset, found: RulesDifference) -> RulesDifference:
    """Return a difference without rights that are proved to be none, and with requests that show the others.

    Args:
        old: as for :func:`.difference.difference`, which ``found`` comes from.
    """
    before, after = RuleFormulas(old), RuleFormulas(new)
    return RulesDifference(tuple(_shown(before, after, found.opens)), tuple(_shown(after, before, found.closes)))


def _shown(before: RuleFormulas, after: RuleFormulas, rights: Sequence[Right]) -> Iterator[Right]:
    for right in rights:
        methods = [method for method in right.single_methods if not _is_none(before, after, right, method)]
        if methods:
            yield right.only(methods, _example(before, after, right, methods))


def _is_none(before: RuleFormulas, after: RuleFormulas, right: Right, method: str) -> bool:
    """Return whether it is proved that no request of a method on the right's path is decided anew."""
    if "**" in right.path:
        return False  # of paths of any length not all can be tried
    try:
        words, solver = FormulaWords(), _solver()
        gained = z3.And(after.decision(words, right.path, method), z3.Not(before.decision(words, right.path, method)))
        solver.add(*words.facts(method), gained)
        return bool(solver.check() == z3.unsat)
    except (Untranslatable, z3.Z3Exception):
        return False


def _example(before: RuleFormulas, after: RuleFormulas, right: Right, methods: Sequence[str]) -> str:
    """Return a request that is decided anew in words, or nothing if none is found."""
    found = (request_gained(before, after, path, method) for method, path in product(methods, _paths(right.path)))
    return next((request.shown() for request in found if request), "")


def request_gained(
    before: RuleFormulas, after: RuleFormulas, path: tuple[str, ...], method: str
) -> SampleRequest | None:
    """Return a request that ``after`` allows and ``before`` denies, if one is found whose decisions are certain.

    Args:
        path: the segments of a document's path, with "*" for those that may be any.
    """
    try:
        words, solver = FormulaWords(), _solver()
        gained = z3.And(after.decision(words, path, method), z3.Not(before.decision(words, path, method)))
        solver.add(*words.facts(method))
        solver.add(*(z3.Int(f"segment {at}") == words.number(part) for at, part in enumerate(path) if part != "*"))
        if solver.check(gained) != z3.sat:
            return None
        request = sample(words, solver.model(), method, path)
        certain = request is not None and _certain(words, solver, gained, request)
        return _least(words, solver, gained, request) if request and certain else None
    except (Untranslatable, z3.Z3Exception):
        return None


def _certain(words: FormulaWords, solver: Any, gained: Any, request: SampleRequest) -> bool:
    """Return whether all that is known of a request suffices to tell that it is decided anew."""
    solver.push()
    solver.add(*request.facts(words))
    certain = solver.check(z3.Not(gained)) == z3.unsat and solver.check(gained) == z3.sat
    solver.pop()
    return bool(certain)


def _least(words: FormulaWords, solver: Any, gained: Any, request: SampleRequest) -> SampleRequest:
    """Return the request without what makes no difference to it."""
    for smaller in request.smaller():
        if _certain(words, solver, gained, smaller):
            return _least(words, solver, gained, smaller)
    return request


def _paths(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return paths of documents that a right's path has, the shortest first."""
    if "**" not in path:
        return _named(_in_database(path)) if len(path) % 2 else []
    place = path.index("**")
    before, after = path[:place], path[place + 1 :]
    every = ((*before, *["*"] * count, *after) for count in range(_MOST_SEGMENTS))
    of_documents = [each for each in every if len(each) % 2 and len(each) > len(_ROOT) and "**" not in each]
    return [named for each in of_documents[:_MOST_PATHS] for named in _named(_in_database(each))]


def _named(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return a path with plain names in the place of any, and as it is in case only others will do."""
    return [tuple("x" if part == "*" else part for part in path), path]


def _in_database(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path in the default database, if it may be."""
    fits = all(part in {"*", root} for part, root in zip(path, _ROOT, strict=False))
    return (*_ROOT, *path[len(_ROOT) :]) if fits and len(path) > len(_ROOT) else path


def _solver() -> Any:
    solver = z3.Solver()
    solver.set("rlimit", EFFORT)
    return solver
