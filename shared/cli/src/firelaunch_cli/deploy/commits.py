"""The commits that a revision is made of: its labels name them, and continuous integration compares them with git.

An app may lie in another git than the rest of the repo, as a submodule or a clone below ``apps/``. A revision therefore
has two labels: the app's commit, and that of what all apps share. The standard library alone is imported, so that
``tools/changed_apps.py`` runs before anything is set up.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "COMMIT",
    "NO_SOURCES",
    "SHARED_COMMIT",
    "CommitComparison",
    "Sources",
    "compared",
    "git",
    "sources_of",
    "toplevel",
    "touches_app",
]

COMMIT, SHARED_COMMIT = "firelaunch-commit", "firelaunch-shared-commit"
"""Labels of revisions. The values have at most 46 of a label's 63 characters, lower-case letters, digits and hyphens
(https://cloud.google.com/resource-manager/docs/labels-overview#requirements)."""

_NONE = "none"
_DIRTY = "-dirty"

_SHARED = (
    "shared/",
    "functions/",
    "requirements.lock",
    "firestore.rules",
    "firestore.indexes.json",
    "storage.rules",
)
"""The files that are in every app's image, or deployed with it."""

_UNDEPLOYED = ("tests/", "evals/", ".github/", "README.md", ".env.example", ".gitignore")
"""The files of an app that are in no image."""

Touches = Callable[[str], bool]
"""Whether a file, by its path from the top of its git, is part of what is deployed."""


def git(folder: Path, *words: str) -> str | None:
    """Return git's output in a folder; None if git refuses or is not installed."""
    try:
        done = subprocess.run(  # noqa: S603 - git, and no shell
            ["git", *words],  # noqa: S607 - git of the PATH
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def toplevel(folder: Path) -> Path | None:
    """The top folder of the git that a folder's own files are in; None where git keeps none of them.

    A folder that the git around it ignores is in no git: that one's commits say nothing of it.
    """
    top = git(folder, "rev-parse", "--show-toplevel")
    if not top or not git(folder, "ls-files", "--", "."):
        return None
    return Path(top.rstrip("\n"))


def touches_app(folder: Path, top: Path) -> Touches:
    """Return a predicate of file names: whether an app's image or rules depend on that file."""
    below = folder.resolve().relative_to(top.resolve()).as_posix()
    prefix = "" if below == "." else f"{below}/"
    return lambda name: name.startswith(prefix) and not name.removeprefix(prefix).startswith(_UNDEPLOYED)


def touches_shared(name: str) -> bool:
    """Tell the files that are in every app's image, or deployed with it."""
    return name.startswith(_SHARED) and not name.startswith("shared/firelaunch/tests/")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an app and what it shares come from.

    Attributes:
        app, shared: a commit, with ``-dirty`` where files differ from it; ``none`` where no git keeps them.
        apart: whether the app lies in another git than what it shares.
    """

    app: str = _NONE
    shared: str = _NONE
    apart: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """The labels of a revision. Both always have a value: gcloud keeps labels that it is not given."""
        return {COMMIT: self.app, SHARED_COMMIT: self.shared}

    @property
    def said(self) -> str:
        """Describe the comparison for people to read."""
        if not self.apart:
            return _said(self.app)
        return f"{_said(self.app)}, in a git of its own; firelaunch from {_said(self.shared)}"


NO_SOURCES = Sources()


def sources_of(root: Path, folder: Path) -> Sources:
    """The sources of an app as they are now.

    Args:
        root: of the firelaunch repo.
        folder: the app's.
    """
    own, shared = toplevel(folder), toplevel(root)
    app = _state(own, touches_app(folder, own), folder) if own else _NONE
    return Sources(app, _state(shared, touches_shared, root) if shared else _NONE, own != shared)


def _state(top: Path, touches: Touches, folder: Path) -> str:
    commit = git(top, "rev-parse", "--verify", "HEAD")
    if commit is None:  # nothing was committed yet
        return _NONE
    changed = git(top, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", str(folder)) or ""
    dirty = any(touches(line[3:]) for line in changed.split("\0") if line)
    return commit.strip() + (_DIRTY if dirty else "")


def _said(state: str) -> str:
    if state == _NONE:
        return "files that git does not keep"
    commit = state.removesuffix(_DIRTY)[:12]
    return f"commit {commit} with changes that are not committed" if state.endswith(_DIRTY) else f"commit {commit}"


@dataclass(frozen=True, slots=True)
class CommitComparison:
    """Compare a revision with the files here.

    Attributes:
        differs: whether it is to be deployed anew.
        said: why, or why not.
    """

    differs: bool
    said: str


def compared(labels: Mapping[str, str], root: Path, folder: Path) -> CommitComparison:
    """Compare a revision, by its labels, with the commits that are checked out here.

    Where git cannot tell, as after a force push or in a clone without history, the app is to be deployed: a deploy that
    finds nothing changed does nothing.
    """
    own, shared = toplevel(folder), toplevel(root)
    if own is None:
        return CommitComparison(True, "git does not keep its files")
    parts = [_part(labels.get(COMMIT, _NONE), own, touches_app(folder, own))]
    if shared:
        parts.append(_part(labels.get(SHARED_COMMIT, _NONE), shared, touches_shared))
    return next((part for part in parts if part.differs), parts[0])


def _part(state: str, top: Path, touches: Touches) -> CommitComparison:
    commit = state.removesuffix(_DIRTY)
    short = commit[:12]
    if commit == _NONE:
        return CommitComparison(True, "what is live names no commit")
    if state != commit:
        return CommitComparison(True, f"what is live has changes that were not committed, beside {short}")
    if git(top, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        return CommitComparison(True, f"what is live comes from {short}, which is not known here")
    if git(top, "merge-base", "--is-ancestor", commit, "HEAD") is None:
        if git(top, "merge-base", "--is-ancestor", "HEAD", commit) is not None:
            return CommitComparison(False, f"what is live is newer: {short}")
        return CommitComparison(True, f"what is live comes from {short}, which is not in this history")
    names = [name for name in _changed(top, commit) if touches(name)]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return CommitComparison(True, f"since {short}, which is live, {names[0]}{more} changed")
    return CommitComparison(False, f"nothing of it has changed since {short}, which is live")


def _changed(top: Path, commit: str) -> Iterator[str]:
    """The files that differ from a commit, or that a later one changed.

    Rules that were changed and changed back in between differ from no revision's commit: a deploy of rules alone
    makes no revision.
    """
    said = (
        git(top, "diff", "--name-only", "-z", "--no-renames", f"{commit}..HEAD"),
        git(top, "log", "--name-only", "-z", "--no-renames", "--diff-merges=combined", "--format=", f"{commit}..HEAD"),
    )
    yield from dict.fromkeys(name.strip("\n") for each in said for name in (each or "").split("\0") if name.strip("\n"))
