"""Show one line for each step of a long command: its title, its time and its result."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["Progress"]


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
        """Show a step. At its end it prints the texts that the block put into the list, or "failed" if it raises."""
        self._done += 1
        width = len(str(self._total))
        line = f"[{self._done:{width}}/{max(self._total, self._done)}] {title} ... "
        click.echo(line, nl=False)
        ended, results = threading.Event(), list[str]()
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
            click.echo(" ".join(results))


def _tick(line: str, ended: threading.Event, wait: float) -> None:
    start = time.monotonic()
    while not ended.wait(wait):
        wait = 1.0
        click.echo(f"\r{line}{time.monotonic() - start:.0f} s ", nl=False)
