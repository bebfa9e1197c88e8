"""gunicorn's threaded worker, with what is ours: how it says that it cannot start, how it ends, and the form of errors
that it answers itself, to requests that no app gets to see.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from .errors import SettingsError
from .lifecycle import Shutdown

__all__ = ["Worker"]


def _write_error(sock: Any, status: int, reason: str, _detail: str) -> None:
    detail = {"code": "invalid_request" if status < 500 else "internal", "message": f"{reason}.", "request_id": ""}
    body = json.dumps({"error": detail}).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


# gunicorn has no setting for the page that it sends for a request it cannot read; a test holds that this replaces it.
util.write_error = _write_error


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
        start_jobs = getattr(self.wsgi, "start_jobs", None)
        if start_jobs is not None:
            start_jobs()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: take no more connections; answers that are being given have the app's grace."""
        # By its attribute: gunicorn's master imports this file, and has no use for what an app imports.
        shutdown = getattr(getattr(self, "wsgi", None), "shutdown", None)
        if isinstance(shutdown, Shutdown):
            shutdown.begin()
        super().handle_exit(sig, frame)
