"""Merge folders three ways with git, in a temporary repository.

git handles renames, modes, binaries and deletions. The app need not be in a repository; if it is, that is left alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

__all__ = ["FileChange", "Merged", "Merger"]

_LEAST = (2, 38)
"""The first version of git with ``git merge-tree --write-tree``."""

_KINDS = {"A": "new", "D": "deleted", "M": "changed", "R": "renamed", "T": "changed"}
_ISOLATED = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
    **{f"GIT_{who}_{what}": "firelaunch" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@dataclass(frozen=True, slots=True)
class FileChange:
    """The merge's change to one file; ``was`` is the former name of a renamed file."""

    kind: str
    path: str
    was: str = ""

    def __str__(self) -> str:
        return f"{self.kind:<8} {f'{self.was} -> ' if self.was else ''}{self.path}"


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge.

    Args:
        tree: git's id of the merged files.
        changes: the changes to the app's files.
        conflicts: git's messages; empty if there are no conflicts.
    """

    tree: str
    changes: tuple[FileChange, ...]
    conflicts: tuple[str, ...]


class Merger:
    """A merger of changes into the folder ``app``.

    Args:
        scratch: an empty folder for the repository.

    Raises (every method): ClickException if git is missing, too old, or fails.
    """

    def __init__(self, scratch: Path, app: Path) -> None:
        self._git_dir = scratch / "git"
        self._app = app
        version = tuple(int(part) for part in self._git("--version").split()[2].split(".")[:2])
        if version < _LEAST:
            raise click.ClickException(f"git {'.'.join(map(str, _LEAST))} or newer is needed; install it.")
        self._git("init", "--quiet", "--bare", str(self._git_dir))
        for setting in ("core.autocrlf=false", "core.bare=false", "advice.addEmbeddedRepo=false", "gc.auto=0"):
            self._git("config", *setting.split("="))

    def tree(self, folder: Path, but: Collection[str] = (), *, ignored: Collection[str] | None = None) -> str:
        """Add a folder's files to the repository and return the id of their tree.

        Args:
            but: files to leave out.
            ignored: files to add although ``.gitignore`` names them; None for all files.
        """
        self._git("read-tree", "--empty")
        self._git("add", "--all", *(["--force"] if ignored is None else []), ".", folder=folder)
        existing = [name for name in ignored or () if (folder / name).is_file()]
        if existing:
            self._git("add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul", folder=folder, names=existing)
        self._git("update-index", "-z", "--force-remove", "--stdin", folder=folder, names=list(but))
        return self._git("write-tree").strip()

    def names(self, tree: str) -> set[str]:
        """Return the names of a tree's files."""
        return set(_split(self._git("ls-tree", "-r", "-z", "--name-only", tree)))

    def merge(self, base: str, ours: str, theirs: str, label: str) -> Merged:
        """Apply the changes from ``base`` to ``theirs`` to ``ours``; ``label`` names theirs in conflict markers."""
        root = self._commit(base)
        for name, tree in (("yours", ours), (label, theirs)):
            self._git("update-ref", f"refs/heads/{name}", self._commit(tree, "-p", root))
        output = self._git("merge-tree", "--write-tree", "-z", "--messages", "yours", label, fails=1)
        tree, _, rest = output.partition("\0")
        unmerged, _, messages = rest.partition("\0\0") if rest[:1] != "\0" else ("", "", rest[1:])
        tree = self._add_their_binaries(tree, _split(unmerged), label)
        return Merged(tree, tuple(self._changes(ours, tree)), tuple(_conflicts(messages)))

    def patch(self, ours: str, merged: Merged, *, colour: bool) -> str:
        """Return the merge's changes as a patch."""
        return self._git("diff", f"--color={'always' if colour else 'never'}", "-M", ours, merged.tree)

    def apply(self, ours: str, merged: Merged) -> None:
        """Write the merge into the app's folder, whose files must still be those of ``ours``."""
        self._git("read-tree", ours)
        self._git("update-index", "--refresh", "-q", folder=self._app)
        self._git("read-tree", "-m", "-u", ours, merged.tree, folder=self._app)

    def _add_their_binaries(self, tree: str, unmerged: list[str], label: str) -> str:
        """Add their version, named after ``label``, next to each file in conflict of which git kept only our version.

        git does so for binaries, which it cannot merge with conflict markers.
        """
        stages: dict[str, dict[str, str]] = {}
        for line in unmerged:
            entry, _, path = line.partition("\t")
            mode, blob, stage = entry.split()
            stages.setdefault(path, {})[stage] = f"{mode},{blob}"
        self._git("read-tree", tree)
        for path, sides in stages.items():
            merged_entry = self._git("ls-files", "-s", "-z", "--", path).partition("\t")[0].split()
            if "3" in sides and merged_entry and sides.get("2") == f"{merged_entry[0]},{merged_entry[1]}":
                self._git("update-index", "--add", "--cacheinfo", f"{sides['3']},{path}.{label}")
        return self._git("write-tree").strip()

    def _changes(self, ours: str, tree: str) -> Iterator[FileChange]:
        words = iter(_split(self._git("diff-tree", "-r", "-z", "-M", "--name-status", ours, tree)))
        for status in words:
            first = next(words)
            yield (
                FileChange(_KINDS[status[0]], next(words), first)
                if status[0] == "R"
                else FileChange(_KINDS[status[0]], first)
            )

    def _commit(self, tree: str, *parents: str) -> str:
        return self._git("commit-tree", tree, *parents, "-m", "x").strip()

    def _git(
        self, *words: str, folder: Path | None = None, names: list[str] | None = None, fails: int | None = None
    ) -> str:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | _ISOLATED
        environ |= {"GIT_DIR": str(self._git_dir)} if self._git_dir.exists() else {}
        if folder is not None:
            environ["GIT_WORK_TREE"] = str(folder)
        stdin = "".join(f"{name}\0" for name in names or ())
        try:
            process = subprocess.run(  # noqa: S603
                ["git", *words],  # noqa: S607 - the user's own git
                cwd=folder or self._git_dir.parent,
                env=environ,
                input=stdin.encode("utf-8", "surrogateescape"),
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise click.ClickException("git is not there, and an upgrade is merged by it; install git.") from None
        if process.returncode not in {0, fails}:
            raise click.ClickException(f"git {words[0]}: {process.stderr.decode(errors='replace').strip()}")
        return process.stdout.decode("utf-8", "surrogateescape")


def _split(text: str) -> list[str]:
    return [part for part in text.split("\0") if part]


def _conflicts(messages: str) -> Iterator[str]:
    """Yield the conflicts from git's records, each of a count, that many paths, a short and a long message."""
    words = iter(messages.split("\0"))
    for count in words:
        if not count:
            return
        for _ in range(int(count)):
            next(words)
        kind, text = next(words), next(words)
        if kind.startswith("CONFLICT"):
            yield text.strip()
