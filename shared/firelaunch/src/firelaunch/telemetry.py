"""Structured logs: one JSON object a line on Cloud Run (which files it by severity and trace), plain lines on a laptop.

There is one configuration, at the root: it holds for every logger of the process, whoever made it.

Nothing a user wrote is logged, and no token: what carries contents goes to :data:`CONTENT`, which is silent unless the
settings turn it on; of an exception that is not our own only its type and place are logged, as its words may quote what
it stumbled over; and every line is searched for addresses and keys before it is written.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from .errors import FirelaunchError

__all__ = ["CONTENT", "EMAIL", "REQUEST_ID", "SECRET", "TRACE", "configure_logs", "log_what_nobody_catches"]

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


_REPORTED = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
"""What makes Error Reporting take an entry for an error
(https://cloud.google.com/error-reporting/docs/formatting-error-messages)."""

_QUIETER = ("httpx", "httpcore", "stripe", "google.auth", "google.cloud", "urllib3")
"""Libraries that log each of their requests at INFO. They are heard from WARNING on, unless they have a level set."""

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n"


class _Careful(logging.Formatter):
    def __init__(self, form: str | None, *, content: bool) -> None:
        super().__init__(form)
        self._content = content

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        if self._content:
            return super().formatException(ei)
        return "\n".join(_frames(ei[1], set()))

    def clean(self, text: str) -> str:
        """``text`` without keys, tokens and, unless contents are logged, addresses."""
        text = SECRET.sub("[secret]", text)
        return text if self._content or "@" not in text else EMAIL.sub("[email]", text)


def _frames(error: BaseException, seen: set[int]) -> list[str]:
    """A traceback in Python's own form, whose exceptions say no more than their types, but for our own.

    Ours say what we chose to say. Error Reporting groups by frames, and reads what ``traceback`` writes.
    """
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = []
    if before is not None and id(before) not in seen:
        lines = [*_frames(before, seen), _CAUSE if error.__cause__ is not None else _CONTEXT]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines.append("Traceback (most recent call last):")
    if error.__traceback__ is not None:
        lines.append("".join(traceback.format_tb(error.__traceback__)).rstrip("\n"))
    lines.append(f"{name}: {error}" if isinstance(error, FirelaunchError) else name)
    for number, part in enumerate(getattr(error, "exceptions", ()), 1):
        if isinstance(part, BaseException) and id(part) not in seen:
            lines += [f"---------------- {number} ----------------", *_frames(part, seen)]
    return lines


class _Json(_Careful):
    # The field names are Cloud Logging's own: https://cloud.google.com/logging/docs/structured-logging
    def __init__(self, project: str, *, content: bool) -> None:
        super().__init__(None, content=content)
        self._project = project
        self._service = {
            "service": os.environ.get("K_SERVICE", "firelaunch"),
            "version": os.environ.get("K_REVISION", ""),
        }

    def format(self, record: logging.LogRecord) -> str:
        message = self.clean(record.getMessage())
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": _severity(record.levelno),
            "logger": record.name,
            "message": message,
        }
        if record.exc_info and record.exc_info[1] is not None:
            trace = self.clean(self.formatException(record.exc_info))
            entry["message"] = f"{message}\n{trace}"
            if record.levelno >= logging.ERROR:
                entry |= {"@type": _REPORTED, "stack_trace": trace, "serviceContext": self._service}
        if record.stack_info:
            entry["message"] += "\n" + self.clean(record.stack_info)
        if REQUEST_ID.get():
            entry["request_id"] = REQUEST_ID.get()
        if TRACE.get() and self._project:
            entry["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{TRACE.get()}"
        return json.dumps(entry, ensure_ascii=False)


def _severity(level: int) -> str:
    """Cloud Logging's name of a level; a level of somebody's own counts as the one below it."""
    known = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
    return next((logging.getLevelName(one) for one in known if level >= one), "DEBUG")


class _Plain(_Careful):
    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left its own rendering of the exception on the record.
        record.exc_text = None
        line = self.clean(super().format(record))
        record.exc_text = None
        return f"{line} [{REQUEST_ID.get()}]" if REQUEST_ID.get() else line


class _Handler(logging.StreamHandler[Any]):
    """Writes to standard error, as it is at the moment."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A line that cannot be formatted: logging itself would dump what it was to hold, uncleaned."""
        error = sys.exception()
        if record.name == __name__ or isinstance(error, OSError):
            return  # this very line is at fault, or standard error is gone
        ours = {logging.__file__, __file__}
        caller = next((frame for frame in reversed(traceback.extract_stack()) if frame.filename not in ours), None)
        where = "?" if caller is None else f"{caller.filename}:{caller.lineno}"
        args = (record.name, type(error).__name__, where)
        logging.getLogger(__name__).error("a line of the logger %s cannot be formatted (%s): %s", *args)


def configure_logs(*, structured: bool, project: str = "", content: bool = False) -> None:
    """Send the logs of this process to standard error; a later call takes the place of an earlier one.

    Args:
        structured: JSON lines rather than plain ones.
        project: Google Cloud project, for the link from a line to its trace.
        content: whether what users write and models answer may be in them.
    """
    # No line of ours has what this finds out for each (https://docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    handler = _Handler(sys.stderr)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Json(project, content=content) if structured else _Plain(form, content=content))
    CONTENT.disabled = not content
    root = logging.getLogger()
    # Others that write to a stream would say everything a second time, as it is. What a test collects is kept.
    root.handlers[:] = [kept for kept in root.handlers if type(kept) not in (logging.StreamHandler, _Handler)]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _QUIETER:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


def log_what_nobody_catches() -> None:
    """Have warnings, and exceptions that end the process or one of its threads, logged like everything else."""
    log = logging.getLogger("firelaunch.uncaught")

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("an exception ended the process: %s", kind.__name__, exc_info=(kind, error, trace))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else "?"
            found = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("an exception ended the thread %s: %s", name, args.exc_type.__name__, exc_info=found)

    def of_nobody(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            found = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("an exception could not be raised: %s", args.exc_type.__name__, exc_info=found)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, of_nobody
    logging.captureWarnings(capture=True)
