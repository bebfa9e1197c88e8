"""Show how far a long command is: a line for each step with its time and result, or a count."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["Count", "Progress"]

_LINE_SECONDS = 10.0


class Progress:
    """A counter of steps. On a terminal a slow step shows its seconds; elsewhere each step is a plain line.

    Args:
        total: the expected number of steps.
        patience: seconds after which a step shows how long it has taken so far.
    """

    def __init__(self, total: int, patience: float = 2.0) -> None:
        self._total = total
        self._patience = patience
        self._done = 0

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Show a step. Its line ends with the texts that the block put into the list, or else with its seconds.

        If the block raises, the line ends with "failed".
        """
        self._done += 1
        width = len(str(self._total))
        line = f"[{self._done:{width}}/{max(self._total, self._done)}] {title} ... "
        click.echo(line, nl=False)
        ended, results, began = threading.Event(), list[str](), time.monotonic()
        ticker = threading.Thread(target=_tick, args=(line, ended, self._patience), daemon=True)
        if sys.stdout.isatty():
            ticker.start()
        try:
            yield results
        except BaseException:
            results = ["failed"]
            raise
        finally:
            ended.set()
            if ticker.is_alive():
                ticker.join()
            seconds = f"{time.monotonic() - began:.1f} s"
            # The seconds of a slow step stand on the terminal already, and shorter.
            click.echo(" ".join(results) or (f"\r{line}{seconds}" if ticker.ident else seconds))


def _tick(line: str, ended: threading.Event, wait: float) -> None:
    start = time.monotonic()
    while not ended.wait(wait):
        wait = 1.0
        click.echo(f"\r{line}{time.monotonic() - start:.0f} s ", nl=False)


class Count:
    """How far a long piece of work is, on standard error.

    A terminal shows one line that changes. Elsewhere, as in a log, there is a line every ten seconds.

    Args:
        what: what is counted, such as "documents exported".
        total: how many there will be, if that is known.
        clock: for tests.
    """

    def __init__(self, what: str, total: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._of = f" of {total:,}" if total else ""
        self._total = total
        self._clock = clock
        self._next = clock() + _LINE_SECONDS
        self._redraws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, done: int) -> None:
        """Show that ``done`` are through."""
        line = f"{done:,}{self._of} {self._what}"
        if self._redraws:
            last = self._total is not None and done >= self._total
            click.echo(f"\r\x1b[K{line} ...\r" if not last else "\r\x1b[K", nl=False, err=True)
        elif self._clock() >= self._next:
            self._next = self._clock() + _LINE_SECONDS
            click.echo(line, err=True)
