"""Run child processes that write to one log, each with its name and colour."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from firelaunch.server.terminal import line_width, wrapped

from .running import end_with_parent

__all__ = ["Child", "Log", "follow"]

_WIDTH = 10
_COLOURS = {"app": "green", "firestore": "yellow", "auth": "magenta", "dev": "cyan", "members": "blue", "web": "yellow"}
_NOISE = re.compile(
    r"^\w{3} \d+, \d{4} .* (com|io)\.\S+ \w+$"  # Java's line before each message: when, and which class
    r"|Detected (non-)?HTTP/2 connection|^\s*$"
    r"|^API endpoint: |^If you are (using|running) |^\s*export \w+_EMULATOR_HOST=|^Note: "  # how to reach the emulator
)


class Log:
    """A log on standard output that writes whole lines, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain = not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"

    def say(self, source: str, line: str) -> None:
        """Write a line with its terminal escapes, unless it is known noise."""
        line = line.rstrip()
        if _NOISE.search(line):
            return
        name = f"{source:<{_WIDTH}}"
        shown = name if self._plain else click.style(name, fg=_COLOURS.get(source))
        room = line_width(sys.stdout)
        with self._lock:
            for part in wrapped(line, room and max(1, room - _WIDTH - 2), rest="  ").split("\n"):
                click.echo(f"{shown}| {part}", color=None)
            sys.stdout.flush()


class Child:
    """A process in its own session, so that Ctrl-C reaches only this command, which then stops the process in order."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Log) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        self._reader = threading.Thread(target=self._read, args=(name, log), daemon=True)
        self._reader.start()

    def ended(self) -> int | None:
        """Return the process's exit code, or None while it runs."""
        return self._process.poll()

    def stop(self, seconds: float = 10.0) -> None:
        """Terminate the process. If it still runs after ``seconds``, kill its whole group."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._reader.join(timeout=2)

    def _read(self, name: str, log: Log) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        for line in self._process.stdout:
            log.say(name, line)


def follow(name: str, path: Path, log: Log) -> None:
    """Log the lines appended to a file until the file is removed."""

    def read() -> None:
        with path.open(encoding="utf-8", errors="replace") as file:
            while path.exists():
                line = file.readline()
                if line:
                    log.say(name, line)
                else:
                    time.sleep(0.2)

    threading.Thread(target=read, daemon=True).start()
