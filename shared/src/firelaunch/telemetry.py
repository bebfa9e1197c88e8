"""Structured logs: one JSON object a line on Cloud Run (which files it by severity and trace), plain lines on a laptop.

Nothing a user wrote is logged, and no token.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

__all__ = ["REQUEST_ID", "TRACE", "configure_logs"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request in hand; the error that a client got quotes it."""

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""The trace id that Cloud Run passes in ``X-Cloud-Trace-Context``."""


class _Json(logging.Formatter):
    # The field names are Cloud Logging's own: https://cloud.google.com/logging/docs/structured-logging
    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["message"] += "\n" + self.formatException(record.exc_info)
        if REQUEST_ID.get():
            entry["request_id"] = REQUEST_ID.get()
        if TRACE.get() and self._project:
            entry["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{TRACE.get()}"
        return json.dumps(entry, ensure_ascii=False)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"{line} [{REQUEST_ID.get()}]" if REQUEST_ID.get() else line


def configure_logs(*, structured: bool, project: str = "") -> None:
    """Send the logs of this process to standard error; call it once, at boot.

    Args:
        structured: JSON lines rather than plain ones.
        project: Google Cloud project, for the link from a line to its trace.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(project) if structured else _Plain("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("firelaunch")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
