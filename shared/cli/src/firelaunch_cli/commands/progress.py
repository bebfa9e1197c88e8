"""One line for each step of something long: what is being done, for how long, and how it ended."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["Progress"]


class Progress:
    """Counts steps. On a terminal a slow one shows its seconds; elsewhere each is a plain line.

    Args:
        total: how many steps there will be, as far as is known.
        patience: seconds after which a step shows how long it has taken so far.
    """

    def __init__(self, total: int, patience: float = 2.0) -> None:
        self._total = total
        self._patience = patience
        self._done = 0

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """A step; what its block puts into the list is said when it ends, "failed" where it raises."""
        self._done += 1
        width = len(str(self._total))
        line = f"[{self._done:{width}}/{max(self._total, self._done)}] {title} ... "
        click.echo(line, nl=False)
        ended, said = threading.Event(), list[str]()
        ticker = threading.Thread(target=_tick, args=(line, ended, self._patience), daemon=True)
        if sys.stdout.isatty():
            ticker.start()
        try:
            yield said
        except BaseException:
            said = ["failed"]
            raise
        finally:
            ended.set()
            if ticker.is_alive():
                ticker.join()
            click.echo(" ".join(said))


def _tick(line: str, ended: threading.Event, wait: float) -> None:
    start = time.monotonic()
    while not ended.wait(wait):
        wait = 1.0
        click.echo(f"\r{line}{time.monotonic() - start:.0f} s ", nl=False)
