"""Check the operating system, and the file system that an app lies on."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from .base import Finding, note, ok, problem

__all__ = ["file_system", "operating_system"]

_MOUNTS = Path("/proc/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_WINDOWS = {"9p", "drvfs", "virtiofs"}
"""How WSL mounts Windows's drives (https://learn.microsoft.com/windows/wsl/filesystems)."""

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afpfs"}
"""Of these SQLite says that locks may not hold, and that its write-ahead log must not lie there
(https://www.sqlite.org/wal.html, https://www.sqlite.org/faq.html#q5)."""


def operating_system(name: str = platform.system(), release: str = platform.release()) -> Finding:
    """Say what the machine runs; WSL is named, and Windows itself is a problem.

    Args:
        name, release: as :mod:`platform` has them.
    """
    if name == "Windows":
        return problem(
            "system", "Windows itself, where gunicorn does not run", "install WSL: wsl --install; then clone there"
        )
    if "microsoft" not in release.lower():
        return ok("system", f"{'macOS' if name == 'Darwin' else name} {release}")
    if "WSL2" in release or "microsoft-standard" in release:
        return ok("system", f"Linux under WSL 2 ({release})")
    mend = "in PowerShell: wsl --set-version DISTRIBUTION 2; wsl -l lists the names"
    return note("system", f"Linux under WSL 1 ({release}), which is slow and lacks parts of Linux", mend)


def file_system(folder: Path, mounts: Path = _MOUNTS, release: str = platform.release()) -> Finding | None:
    """Say when a folder lies where it is slow and SQLite's locks may not hold; None where it does not.

    Args:
        mounts: the kernel's table of mounts; where there is none, as on macOS, nothing is said.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = folder.resolve()
    at, kind = Path("/"), ""
    for line in lines:
        fields = line.split()
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[1]))
        if place.is_relative_to(point) and len(point.parts) >= len(at.parts):
            at, kind = point, fields[2]
    if kind in _WINDOWS and "microsoft" in release.lower():
        said = f"{place} is on a Windows drive ({at}): every file takes long there, and SQLite's locks may not hold"
        return note("file system", said, "clone the repository below your home in Linux: cd ~ && git clone ...")
    if kind in _NETWORK:
        said = f"{place} is on a network drive ({kind} at {at}): SQLite's locks may not hold there"
        return note("file system", said, "move it to a local disk, or set FIRELAUNCH_DATA to a folder on one")
    return None
