"""Run jobs on a laptop, in threads of the app's own process that poll for due jobs.

The jobs are in the app's database (a SQLite file in its local data folder, or the Firestore emulator). So nothing is
lost when the process ends: the next process finds the jobs, and takes them over when their leases have run out.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator

from ..errors import SettingsError
from .base import Delivery

__all__ = ["EmbeddedBackend"]

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
"""Seconds for which a job may lie unnoticed that another process enqueued, or whose lease has run out."""


class EmbeddedBackend:
    """A :class:`~firelaunch.jobs.base.Backend` whose workers are threads.

    Args:
        workers: the number of jobs that run at a time.

    Raises:
        SettingsError: on Cloud Run (K_SERVICE is set), where a thread has no CPU between requests.
    """

    def __init__(self, workers: int, poll_seconds: float = _POLL_SECONDS) -> None:
        if os.environ.get("K_SERVICE"):
            raise SettingsError("Jobs in the app's own process are for development: set FIRELAUNCH_MODE=cloud.")
        self._workers = workers
        self._poll = poll_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._threads: list[threading.Thread] = []

    def deliver(self, delivery: Delivery) -> None:  # noqa: ARG002 - the job's own document says when it is due
        """Wake a worker thread. The job's document says when the job is due."""
        self._wake.set()

    def start(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        """Start the worker threads, which are daemon threads. See :class:`~firelaunch.jobs.base.Backend`."""
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, args=(due, run), name=f"jobs-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Take no more jobs, and wait for the worker threads to end."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                for job_id in self._claimed(due):
                    run(job_id)
            except Exception:
                # Whatever the error was, the job's lease runs out, and the job is then taken again.
                log.exception("a job could not be run")
                self._stopping.wait(self._poll)
            self._wake.wait(self._poll)

    def _claimed(self, due: Callable[[int], list[str]]) -> Iterator[str]:
        """Yield due jobs one at a time, each claimed so that no other thread of this process takes it."""
        while not self._stopping.is_set():
            with self._lock:
                job_id = next((due_id for due_id in due(2 * self._workers) if due_id not in self._busy), None)
                if job_id is None:
                    return
                self._busy.add(job_id)
            self._wake.set()  # there may be more due jobs for the other threads
            try:
                yield job_id
            finally:
                with self._lock:
                    self._busy.discard(job_id)
