"""The process in which one file is parsed, which :mod:`.fork_server` has forked.

Before it reads a byte, it limits its own resources: memory, processor time, writing files, starting processes. It
answers on standard output with a JSON list on each line: ``["progress", fraction]``, ``["block", text, kind, start,
page, headings]``, ``["omission", code, count, total]``, and at the end ``["done"]`` or ``["failed", problem, detail]``.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .base import MEMORY_STATUS, Block, Draft, ParseLimits, Unreadable, place
from .omissions import Omission
from .sniff import EXTRACTORS, FORMATS, PICTURES, sniff

_DETAIL = 300
_OF_ANY = {"any": FORMATS, "files": EXTRACTORS, "pictures": PICTURES}
"""What may be asked of a file whose format is to be detected."""


def main(format_name: str, extension: str, limits: ParseLimits) -> None:
    """Parse standard input as ``format_name``, or as its detected format if that is "any".

    With "files" the answer is the files that the document holds, with "pictures" its pages that are pictures.
    """
    _restrict(limits)
    try:
        count = 0
        for block in _blocks(format_name, extension, limits):
            count += 1
            _send("block", block.text, block.kind, block.start, block.page, block.headings)
        if not count:
            raise Unreadable("nothing_found")
    except Unreadable as error:
        _send("failed", error.problem, error.detail[:_DETAIL])
    except MemoryError:
        _send("failed", "too_much_memory", "")
    except ImportError:
        raise  # a defect of the installation, not of the file
    except Exception as error:  # on bad files, the libraries raise all kinds of exceptions
        problem = "too_much_memory" if _near_the_limit(limits) else "damaged"
        _send("failed", problem, f"{type(error).__name__}: {error}"[:_DETAIL])
    else:
        _send("done")


def _blocks(format_name: str, extension: str, limits: ParseLimits) -> Iterator[Block]:
    last = -1.0

    def progress(fraction: float) -> None:
        nonlocal last
        if fraction - last >= 0.01:
            last = fraction
            _send("progress", round(min(fraction, 1.0), 3))

    with open(0, "rb", closefd=False) as file:
        parsers = _OF_ANY.get(format_name, FORMATS)
        own_format = sniff(file, extension, limits) if format_name in _OF_ANY else format_name
        if own_format not in parsers:
            return  # it holds no such files
        module, _, function = parsers[own_format].partition(":")
        parser: Any = getattr(importlib.import_module(f".{module}", __package__), function)
        yield from place(_drafts(parser(file, limits, progress)), limits.text_characters)


def _drafts(parsed: Iterator[Draft | Omission]) -> Iterator[Draft]:
    """Yield a parser's drafts, and send its omissions."""
    for item in parsed:
        if isinstance(item, Omission):
            _send("omission", item.code, item.count, item.total)
        else:
            yield item


def _restrict(limits: ParseLimits) -> None:
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, limits.memory_bytes)
    else:
        watch_memory(limits.memory_bytes)  # macOS accepts RLIMIT_AS but does not enforce it
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_NPROC, 0)


def watch_memory(most: int) -> None:
    """End this process when it takes more than ``most`` bytes of memory; a thread checks 20 times a second."""

    def watch() -> None:
        while _peak() <= most:
            time.sleep(0.05)
        os._exit(MEMORY_STATUS)

    threading.Thread(target=watch, daemon=True).start()


def _peak() -> int:
    """Return the most memory that this process has had, in bytes; macOS reports bytes, Linux kibibytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _near_the_limit(limits: ParseLimits) -> bool:
    """Return whether so much memory was taken that an error is likely a lack of it.

    libxml2 does not report that itself.
    """
    status = Path("/proc/self/status")  # ru_maxrss would be the parent's if that was larger
    if not status.exists():
        return _peak() > limits.memory_bytes // 2
    peak = re.search(r"^VmPeak:\s*(\d+) kB", status.read_text(), re.MULTILINE)
    return peak is not None and int(peak[1]) * 1024 > limits.memory_bytes // 2


def _limit(resource_id: int, value: int) -> None:
    try:
        resource.setrlimit(resource_id, (value, value))
    except (ValueError, OSError):
        if sys.platform != "darwin":  # macOS versions differ in the limits that they accept
            raise


def _send(*message: Any) -> None:
    sys.stdout.write(json.dumps(message, ensure_ascii=False) + "\n")
    if message[0] != "block":  # blocks stay in the buffer, so that many small ones are written at once
        sys.stdout.flush()
