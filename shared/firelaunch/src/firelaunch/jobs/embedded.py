"""Jobs on a laptop: threads of the app's own process, which look for jobs whose time has come.

The jobs themselves are in the app's database (a SQLite file in its local data folder, or the Firestore emulator), so
nothing is lost when the process ends: the next one finds them, and takes back the leases of the one that is gone.
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
"""How long a job that another process put off, or whose lease has run out, may lie there."""


class EmbeddedBackend:
    """A :class:`~firelaunch.jobs.base.Backend` whose workers are threads.

    Args:
        workers: jobs at a time.

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
        """See :class:`~firelaunch.jobs.base.Backend`."""
        self._wake.set()

    def start(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        """See :class:`~firelaunch.jobs.base.Backend`: in daemon threads."""
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, args=(due, run), name=f"jobs-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """See :class:`~firelaunch.jobs.base.Backend`."""
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
                # Whatever it was, the job's lease runs out and it is taken up again.
                log.exception("a job could not be run")
                self._stopping.wait(self._poll)
            self._wake.wait(self._poll)

    def _claimed(self, due: Callable[[int], list[str]]) -> Iterator[str]:
        """Jobs that no other thread of this process is about to take, one at a time."""
        while not self._stopping.is_set():
            with self._lock:
                job_id = next((one for one in due(2 * self._workers) if one not in self._busy), None)
                if job_id is None:
                    return
                self._busy.add(job_id)
            self._wake.set()  # there may be more, for the others
            try:
                yield job_id
            finally:
                with self._lock:
                    self._busy.discard(job_id)
