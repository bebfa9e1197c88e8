"""Serve an app, load it, look at its processes once a second, and say how each figure went on."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator
from support import copy_template, served

from .load import Crowd, Pace, models

__all__ = ["FIGURES", "Report", "run"]

BUSY = 0.6
"""The share of a core that the app is to be busy for."""

_EVERY = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
FIGURES = {"rss_mb": "MB", "pss_mb": "MB", "threads": "threads", "files": "files", "sockets": "sockets"}
"""The figures that are sampled, with their units. Memory is of all processes, the rest of gunicorn and its worker."""

FLAT = {"rss_mb": 0.3, "pss_mb": 0.3, "threads": 0.2, "files": 0.5, "sockets": 0.5}
"""How much a figure may rise in a minute and still be called flat: less than 0.5 GB a day."""

Say = Callable[[str], object]


@dataclass(slots=True)
class Report:
    """The samples and slopes of one app.

    ``slopes`` are by the minute, of the time after the first ``settling_minutes``; ``first`` and ``last`` are the
    medians of the first and the last minute of that time, and ``most`` is the highest of all.
    """

    mode: str
    minutes: float
    settling_minutes: float
    slopes: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    samples: list[dict[str, float]] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        """Whether nothing rises for as long as the app runs."""
        return all(self.slopes[name] <= most for name, most in FLAT.items())


def run(
    folder: Path,
    minutes: float,
    say: Say = lambda _: None,
    *,
    clients: int = 24,
    settling: float = 0.4,
    emulator: tuple[Emulator, str] | None = None,
    look: Callable[[int], object] = lambda _: None,
) -> Report:
    """Load the template's app for ``minutes``, of which the first share ``settling`` does not count.

    Args:
        emulator: the Firestore emulator and a project there; None for embedded mode.
        look: called with the worker's process id at the end, while the app still runs.
    """
    mode = "embedded" if emulator is None else "emulators"
    report = Report(mode, minutes, round(minutes * settling, 2))
    app = copy_template(folder / mode)
    most = 10**6
    plan = f"requests_per_minute = {most}\nuploads_per_minute = {most}\ndocuments = {most}\n"
    toml = app / "firelaunch.toml"
    text = toml.read_text().replace("requests_per_minute = 20\n", plan).replace('"0.50"', f'"{most}"')
    environ = {"OPENAI_API_KEY": "k"}
    if emulator is not None:
        text = text.replace('project = ""', f'project = "{emulator[1]}"')
        environ |= {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": emulator[0].host}
    toml.write_text(text)
    with models() as model, served(app, forked=False, OPENAI_BASE_URL=model.base_url, **environ) as server:
        pace = Pace(10.0)
        port = int(server.url.rpartition(":")[2])
        with Crowd(port, clients, pace) as crowd:
            _watch(server.process.pid, minutes * 60, pace, crowd, report, say)
        report.requests, report.failed = dict(crowd.done), dict(crowd.failed)
        look(_children(server.process.pid)[0])
    _conclude(report)
    return report


def _watch(master: int, seconds: float, pace: Pace, crowd: Crowd, report: Report, say: Say) -> None:
    began = time.monotonic()
    at, cpu = began, _cpu(master)
    while (now := time.monotonic()) - began < seconds:
        time.sleep(_EVERY)
        now, used = time.monotonic(), _cpu(master)
        busy = max(0.0, used - cpu) / (now - at)  # a process that is gone takes its time along
        at, cpu = now, used
        pace.follow(busy, BUSY)
        figures = {"second": round(now - began, 1), "busy": round(busy, 2), "rate": round(pace.rate, 1)}
        report.samples.append({**figures, **_figures(master)})
        say(", ".join(f"{name} {value}" for name, value in report.samples[-1].items()) + f", {crowd.done.total()} done")


def _conclude(report: Report) -> None:
    settled = [s for s in report.samples if s["second"] >= report.settling_minutes * 60]
    report.busy = round(statistics.mean(s["busy"] for s in settled), 2)
    for name in FIGURES:
        # A median of some seconds leaves out what comes and goes: the processes that read files.
        points = _medians([(s["second"] / 60, s[name]) for s in settled])
        report.slopes[name] = round(_slope(points), 3)
        report.first[name], report.last[name] = points[0][1], points[-1][1]
        report.most[name] = max(s[name] for s in report.samples)


def _medians(points: Sequence[tuple[float, float]], size: int = 10) -> list[tuple[float, float]]:
    pieces = [points[at : at + size] for at in range(0, len(points), size)]
    return [(statistics.median(x for x, _ in piece), statistics.median(y for _, y in piece)) for piece in pieces]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def _children(pid: int) -> list[int]:
    try:
        texts = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for text in texts for child in text.split()]


def _family(pid: int) -> list[int]:
    return [pid, *(each for child in _children(pid) for each in _family(child))]


def _cpu(master: int) -> float:
    """CPU seconds of the app, with its processes that have ended."""
    ticks = 0
    for pid in _family(master):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in fields[11:15])
    return ticks / _TICKS


def _figures(master: int) -> dict[str, float]:
    totals: Mapping[str, Any] = dict.fromkeys(FIGURES, 0)
    figures = dict(totals)
    for pid in _family(master):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            for name in ("rss", "pss"):
                kilobytes = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE | re.IGNORECASE)
                figures[f"{name}_mb"] += int(kilobytes[1]) / 1024 if kilobytes else 0
    for pid in [master, *_children(master)]:
        with suppress(OSError):
            figures["threads"] += len([*Path(f"/proc/{pid}/task").iterdir()])
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    is_socket = str(descriptor.readlink()).startswith("socket:")
                    figures["sockets" if is_socket else "files"] += 1
    return {name: round(value, 1) for name, value in figures.items()}
