"""What the doctor says of WSL, of Windows, and of drives that SQLite does not lie well on."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch_cli.doctor.system import file_system, operating_system

WSL_2 = "5.15.167.4-microsoft-standard-WSL2"
MOUNTS = """\
/dev/sdc / ext4 rw,relatime 0 0
C:\\134 /mnt/c 9p rw,noatime,aname=drvfs;path=C:\\ 0 0
D: /mnt/my\\040disk drvfs rw,noatime 0 0
server:/home /home/shared nfs4 rw 0 0
/dev/sdd /home/shared/local ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("name", "release", "status", "said"),
    [
        ("Linux", WSL_2, "ok", "under WSL 2"),
        ("Linux", "6.6.87.2-microsoft-standard", "ok", "under WSL 2"),
        ("Linux", "4.4.0-22621-Microsoft", "note", "under WSL 1"),
        ("Linux", "6.1.0-37-amd64", "ok", "Linux 6.1.0"),
        ("Darwin", "25.0.0", "ok", "macOS 25.0.0"),
        ("Windows", "11", "problem", "gunicorn does not run"),
    ],
)
def test_the_system_is_named_and_wsl_with_it(name: str, release: str, status: str, said: str) -> None:
    found = operating_system(name, release)
    assert found.status == status
    assert said in found.said
    assert status == "ok" or found.mend


@pytest.mark.parametrize(
    ("folder", "release", "said"),
    [
        ("/mnt/c/Users/ada/firelaunch/apps/demo", WSL_2, "on a Windows drive (/mnt/c)"),
        ("/mnt/my disk/demo", WSL_2, "on a Windows drive (/mnt/my disk)"),
        ("/home/shared/demo", "6.1.0-37-amd64", "on a network drive (nfs4 at /home/shared)"),
        ("/home/ada/firelaunch", WSL_2, None),
        ("/home/shared/local/demo", "6.1.0-37-amd64", None),
        ("/mnt/cd/demo", WSL_2, None),
        # A virtual machine's 9p is no Windows drive.
        ("/mnt/c/demo", "6.1.0-37-amd64", None),
    ],
)
def test_a_folder_where_sqlite_is_slow_or_its_locks_do_not_hold_is_noted(
    folder: str, release: str, said: str | None, tmp_path: Path
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    found = file_system(Path(folder), mounts, release)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert found.status == "note"
        assert said in found.said


def test_without_a_table_of_mounts_nothing_is_said(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "none", WSL_2) is None
