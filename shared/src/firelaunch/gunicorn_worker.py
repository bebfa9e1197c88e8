"""gunicorn's threaded worker, told apart in two things: how it says that it cannot start, and how it ends."""

from __future__ import annotations

import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from .errors import SettingsError
from .lifecycle import Shutdown

__all__ = ["Worker"]


class Worker(ThreadWorker):  # type: ignore[misc]
    """See the module."""

    def load_wsgi(self) -> None:
        """Load the app; on a settings error say what to mend, and end gunicorn with status 4."""
        try:
            super().load_wsgi()
        except SettingsError as error:
            sys.stderr.write(f"The app cannot start:\n{error}\n")
            sys.stderr.flush()
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: take no more connections; answers that are being given have the app's grace."""
        # By its attribute: gunicorn's master imports this file, and has no use for what an app imports.
        shutdown = getattr(self.wsgi, "shutdown", None)
        if isinstance(shutdown, Shutdown):
            shutdown.begin()
        super().handle_exit(sig, frame)
