"""gunicorn's threaded worker, which ends with a settings error's own words rather than with a traceback."""

from __future__ import annotations

import sys

from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from .errors import SettingsError

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
