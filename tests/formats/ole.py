"""Write OLE containers ([MS-CFB]), as old Office files and Outlook's mails are."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

__all__ = ["Storage", "container"]

Storage = Mapping[str, Union[bytes, "Storage"]]

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096
_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


@dataclass
class _Entry:
    name: str
    kind: int  # 1 storage, 2 stream, 5 root
    data: bytes = b""
    children: list[int] = field(default_factory=list)
    start: int = _END
    size: int = 0


def container(root: Storage) -> bytes:
    """Return a container with these storages and streams."""
    entries = [_Entry("Root Entry", 5)]
    _add(entries, 0, root)
    sectors: list[bytes] = []
    fat: list[int] = []
    mini = bytearray()
    mini_fat: list[int] = []
    for entry in entries:
        if entry.kind != 2:
            continue
        entry.size = len(entry.data)
        if entry.size < _CUTOFF:
            entry.start = _chain(mini_fat, len(mini) // _MINI, -(-entry.size // _MINI)) if entry.size else _END
            mini += entry.data + bytes(-entry.size % _MINI)
        else:
            entry.start = _store(sectors, fat, entry.data)
    entries[0].size = len(mini)
    entries[0].start = _store(sectors, fat, bytes(mini)) if mini else _END
    mini_start = _store(sectors, fat, struct.pack(f"<{len(mini_fat)}I", *mini_fat), b"\xff") if mini_fat else _END
    directory = b"".join(_record(entries, number) for number in range(len(entries)))
    directory += _record([_Entry("", 0)], 0) * (-len(entries) % 4)
    directory_start = _store(sectors, fat, directory)
    count = 1
    while count * (_SECTOR // 4) < len(fat) + count:
        count += 1
    fat_start = len(sectors)
    fat += [_FAT] * count
    table = struct.pack(f"<{len(fat)}I", *fat).ljust(count * _SECTOR, b"\xff")
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIII", 0, count, directory_start, 0, _CUTOFF, mini_start, bool(mini_fat), _END, 0)
    difat = [*range(fat_start, fat_start + count)]
    header += struct.pack("<109I", *difat, *[_FREE] * (109 - count))
    return header + b"".join(sectors) + table


def _add(entries: list[_Entry], parent: int, storage: Storage) -> None:
    for name, content in storage.items():
        number = len(entries)
        entries[parent].children.append(number)
        if isinstance(content, bytes):
            entries.append(_Entry(name, 2, content))
        else:
            entries.append(_Entry(name, 1))
            _add(entries, number, content)


def _chain(table: list[int], first: int, count: int) -> int:
    table += [*range(first + 1, first + count), _END]
    return first


def _store(sectors: list[bytes], fat: list[int], data: bytes, fill: bytes = b"\0") -> int:
    count = -(-len(data) // _SECTOR)
    padded = data.ljust(count * _SECTOR, fill)
    first = len(sectors)
    sectors += [padded[at : at + _SECTOR] for at in range(0, len(padded), _SECTOR)]
    return _chain(fat, first, count)


def _record(entries: list[_Entry], number: int) -> bytes:
    """Return a directory entry; siblings form a list to the right, in the order that names have."""
    entry = entries[number]
    siblings = next((each.children for each in entries if number in each.children), [])
    ordered = sorted(siblings, key=lambda each: (len(entries[each].name), entries[each].name.upper()))
    at = ordered.index(number) if number in ordered else -1
    right = ordered[at + 1] if 0 <= at < len(ordered) - 1 else _FREE
    own = sorted(entry.children, key=lambda each: (len(entries[each].name), entries[each].name.upper()))
    name = entry.name.encode("utf-16-le")
    return (
        name.ljust(64, b"\0")
        + struct.pack(
            "<HBBIII", len(name) + 2 if entry.name else 0, entry.kind, 1, _FREE, right, own[0] if own else _FREE
        )
        + bytes(36)
        + struct.pack("<IQ", entry.start if entry.kind else 0, entry.size)
    )
