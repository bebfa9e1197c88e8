"""Tell which statements of a rules file changed since a commit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

from .mutants import Mutant
from .project import ProjectError
from .syntax import Match, Ruleset
from .tokens import line_of

__all__ = ["changed_since"]


def changed_since(ref: str, rules: Path, source: str, ruleset: Ruleset) -> Callable[[Mutant], bool]:
    """Return what tells whether a mutant changes a statement of which a line differs from the file in commit ``ref``.

    Everything counts as changed in a file that the commit does not have.

    Raises:
        ProjectError: the file is not in a Git repository, or there is no such commit.
    """
    folder = rules.resolve().parent
    _git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", mend=f"there is no commit {ref!r}")
    try:
        old = _git(folder, "show", f"{ref}:./{rules.resolve().name}", mend="")
    except ProjectError:
        return lambda _: True
    lines = _changed_lines(old, source)
    # Of a match, only the path: its block holds other statements.
    spans = [(item.start, item.body_start if isinstance(item, Match) else item.end) for item in ruleset.statements()]
    changed = [
        (start, end)
        for start, end in spans
        if not lines.isdisjoint(range(line_of(source, start), line_of(source, end - 1) + 1))
    ]
    return lambda mutant: any(start <= mutant.start < end for start, end in changed)


def _changed_lines(old: str, new: str) -> set[int]:
    """Return the lines of ``new`` that are not in ``old``, and those beside which lines of it were taken out."""
    matcher = SequenceMatcher(None, _stripped(old), _stripped(new), autojunk=False)
    changed: set[int] = set()
    for kind, _, _, start, end in matcher.get_opcodes():
        if kind == "delete":
            changed |= {start, start + 1}
        elif kind != "equal":
            changed |= set(range(start + 1, end + 1))
    return changed


def _stripped(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


def _git(folder: Path, *words: str, mend: str) -> str:
    try:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - Git, on the user's own files
    except OSError:
        raise ProjectError("--since needs Git, and there is none on this machine.") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ProjectError(f"--since: {mend or 'git failed'} in {folder}{': ' + said if said else ''}.")
    return done.stdout.decode("utf-8", "replace")
