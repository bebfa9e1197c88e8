"""``prompts.lock``: the hash of each prompt that was released, so that none is edited under the name it is known by.

An answer's record names its prompt by version; that says something only while a version's text stays as it was. The
file has the form of ``sha256sum``; line ends are hashed as "\\n" and a byte order mark is left out, as git and editors
may change them.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from .errors import SettingsError
from .text_file import read_text_file

__all__ = ["LOCK", "check", "lock", "prompt_files", "released"]

LOCK = "prompts.lock"
_FILE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)@(?P<version>[1-9]\d{0,8})\.md")
_LINE = re.compile(r"(?P<hash>[0-9a-f]{64})  (?P<file>\S+)")


def prompt_files(folder: Path) -> list[tuple[str, int, Path]]:
    """Name, version and path of each prompt in ``folder``."""
    found = ((path, _FILE.fullmatch(path.name)) for path in sorted(folder.glob("*@*.md")))
    return [(match["name"], int(match["version"]), path) for path, match in found if match]


def check(folder: Path, in_use: Iterable[str]) -> None:
    """Hold the files against the lock.

    Args:
        in_use: prompts ("chat@1") that must be in it.

    Raises:
        SettingsError: a locked file was changed, or one of ``in_use`` is not locked; it names the mend.
    """
    locked = _read(folder)
    _refuse_changes(folder, locked)
    missing = [prompt for prompt in in_use if f"{prompt}.md" not in locked]
    if missing:
        raise SettingsError(
            f"{folder / LOCK} does not hold {' and '.join(missing)}: run 'firelaunch lock-prompts' and commit the file."
        )


def lock(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """Add the prompts that are not in the lock yet; their file names. What is in it stays, also without its file.

    Args:
        names: file names ("chat@1.md") of those to add; all of them where it is left out.

    Raises:
        SettingsError: a locked file was changed.
    """
    locked = _read(folder)
    _refuse_changes(folder, locked)
    wanted = {path.name: path for _, _, path in prompt_files(folder) if names is None or path.name in names}
    added = {name: _hash(path) for name, path in wanted.items() if name not in locked}
    if added:
        entries = sorted((locked | added).items())
        (folder / LOCK).write_text("".join(f"{value}  {name}\n" for name, value in entries), encoding="utf-8")
    return sorted(added)


def released(folder: Path) -> frozenset[str]:
    """Read which prompts ("chat@1") the lock holds.

    Raises:
        SettingsError: the file is damaged.
    """
    return frozenset(name.removesuffix(".md") for name in _read(folder))


def _read(folder: Path) -> dict[str, str]:
    path = folder / LOCK
    try:
        lines = read_text_file(path).splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is None or match["file"] in found:
            raise SettingsError(f"{path}: {line[:80]!r} is no line of it: take the file back from git.")
        found[match["file"]] = match["hash"]
    return found


def _hash(path: Path) -> str:
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return hashlib.sha256(data).hexdigest()


def _refuse_changes(folder: Path, locked: dict[str, str]) -> None:
    for prompt, _, path in prompt_files(folder):
        if locked.get(path.name, _hash(path)) == _hash(path):
            continue
        free = max(version for other, version, _ in prompt_files(folder) if other == prompt) + 1
        raise SettingsError(
            f"{path} was changed after its release (see {LOCK}): put it back with 'git checkout', and make the change "
            f"in {prompt}@{free}.md. If no user was ever answered by it, take its line out of {LOCK}."
        )
