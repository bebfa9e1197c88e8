"""Structured logs: one JSON object a line on Cloud Run (which files it by severity and trace), plain lines on a laptop.

Nothing a user wrote is logged, and no token: what carries contents goes to :data:`CONTENT`, which is silent unless the
settings turn it on; of an exception that is not our own only its type and place are logged, as its words may quote what
it stumbled over; and every line is searched for addresses and keys before it is written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from .errors import FirelaunchError

__all__ = ["CONTENT", "EMAIL", "REQUEST_ID", "SECRET", "TRACE", "configure_logs"]

CONTENT = logging.getLogger("firelaunch.content")
"""For what users wrote, models answered and providers said; silent unless ``logs.content`` is on."""

EMAIL = re.compile(r"[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")

SECRET = re.compile(
    # JSON web tokens. Bounded, or a text of "eyJeyJ..." would take the square of its length.
    r"eyJ[\w-]{8,1000}+\.[\w-]+(?:\.[\w-]*)?"
    r"|\b(?:sk|pk|rk|whsec)[-_][\w-]{8,}"  # OpenAI, Stripe
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]{10,}"  # Google
    r"|\bBearer\s+[\w.~+/-]{8,}=*"
)
"""What keys and tokens of the services in use look like."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request in hand; the error that a client got quotes it."""

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""The trace id that Cloud Run passes in ``X-Cloud-Trace-Context``."""


class _Careful(logging.Formatter):
    def __init__(self, form: str | None, *, content: bool) -> None:
        super().__init__(form)
        self._content = content

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        if self._content:
            return super().formatException(ei)
        return "\n".join(_frames(ei[1]))

    def clean(self, text: str) -> str:
        """``text`` without keys, tokens and, unless contents are logged, addresses."""
        text = SECRET.sub("[secret]", text)
        return text if self._content or "@" not in text else EMAIL.sub("[email]", text)


def _frames(error: BaseException) -> list[str]:
    """A traceback whose exceptions say no more than their types, but for our own, whose words we chose."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if before is None else [*_frames(before), "which led to:"]
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    return [
        *lines,
        "Traceback (most recent call last):",
        frames,
        f"{name}: {error}" if isinstance(error, FirelaunchError) else name,
    ]


class _Json(_Careful):
    # The field names are Cloud Logging's own: https://cloud.google.com/logging/docs/structured-logging
    def __init__(self, project: str, *, content: bool) -> None:
        super().__init__(None, content=content)
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
            "message": self.clean(message),
        }
        if REQUEST_ID.get():
            entry["request_id"] = REQUEST_ID.get()
        if TRACE.get() and self._project:
            entry["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{TRACE.get()}"
        return json.dumps(entry, ensure_ascii=False)


class _Plain(_Careful):
    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left its own rendering of the exception on the record.
        record.exc_text = None
        line = self.clean(super().format(record))
        record.exc_text = None
        return f"{line} [{REQUEST_ID.get()}]" if REQUEST_ID.get() else line


def configure_logs(*, structured: bool, project: str = "", content: bool = False) -> None:
    """Send the logs of this process to standard error; call it once, at boot.

    Args:
        structured: JSON lines rather than plain ones.
        project: Google Cloud project, for the link from a line to its trace.
        content: whether what users write and models answer may be in them.
    """
    # No line of ours has what these find out for each (https://docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Json(project, content=content) if structured else _Plain(form, content=content))
    CONTENT.disabled = not content
    root = logging.getLogger("firelaunch")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
