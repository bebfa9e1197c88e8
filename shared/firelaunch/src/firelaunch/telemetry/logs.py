"""Configure the logs: one JSON object per line on Cloud Run, plain lines on a laptop.

Cloud Run sorts the JSON lines by severity and trace. There is one configuration, at the root logger. It applies to
every logger of the process.

No text of a user and no token is logged. Contents go to :data:`CONTENT`, which is silent unless the settings turn it
on. For exceptions that are not our own, only type and place are logged, because their messages may quote data. On a
laptop those that a mistake in code raises have their message. And addresses and keys are removed from every line before
it is written.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from ..errors import FirelaunchError
from .spans import SPAN

__all__ = [
    "CONTENT",
    "EMAIL",
    "REQUEST_ID",
    "SECRET",
    "TRACE",
    "configure_logs",
    "log_names",
    "log_what_nobody_catches",
]

CONTENT = logging.getLogger("firelaunch.content")
"""The logger for users' texts, models' answers and providers' messages. It is silent unless ``logs.content`` is on."""

_PROMPT_FILE = re.compile(r"[\w.%+-]+@\d+\.md")
"""Matches the name of a prompt's version, such as ``chat@1.md``, which :data:`EMAIL` matches as well."""

EMAIL = re.compile(r"[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")

SECRET = re.compile(
    # JSON web tokens. The bound keeps a text such as "eyJeyJ..." from taking quadratic time.
    r"(?=[AByeprsw])(?:"  # how all of them begin: three quarters of the time of a search
    r"eyJ[\w-]{8,1000}+\.[\w-]+(?:\.[\w-]*)?"
    r"|\b(?:sk|pk|rk|whsec)[-_][\w-]{8,}"  # OpenAI, Stripe
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]{10,}"  # Google
    r"|\bBearer\s+[\w.~+/-]{8,}=*)"
)
"""Matches keys and tokens of the services in use."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current HTTP request. Errors for clients quote it."""

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""The trace id of the current request: of its span, or as Cloud Run passes it in ``X-Cloud-Trace-Context``."""


def log_names() -> dict[str, str]:
    """Return the names by which logs and traces have the current HTTP request, for a record that leads to them."""
    names = {"log_id": REQUEST_ID.get(), "trace": TRACE.get()}
    return {name: value for name, value in names.items() if value}


_REPORTED = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
"""The type of a log entry that Error Reporting treats as an error
(https://cloud.google.com/error-reporting/docs/formatting-error-messages)."""

_OURS = "firelaunch."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of a record that no caller gave."""

_QUIETER = ("httpx", "httpcore", "stripe", "google.auth", "google.cloud", "urllib3")
"""Libraries that log each of their requests at INFO. They log from WARNING on, unless their level is set."""

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n"


_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)
"""Exceptions of Python's own that mistakes in code raise. A ValueError quotes the value, often a user's text."""

_LEFT_OUT = " (the message may quote a user's text; content = true in [logs] of firelaunch.toml shows it)"


class _Redacting(logging.Formatter):
    def __init__(self, form: str | None, *, content: bool, laptop: bool = False) -> None:
        super().__init__(form)
        self._content, self._laptop = content, laptop

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        if self._content:
            return super().formatException(ei)
        return "\n".join(_frames(ei[1], set(), laptop=self._laptop))

    def clean(self, text: str) -> str:
        """Return ``text`` without keys and tokens, and without addresses unless contents are logged."""
        text = SECRET.sub("[secret]", text)
        return text if self._content or "@" not in text else EMAIL.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    return found[0] if _PROMPT_FILE.fullmatch(found[0]) else "[email]"


def _last_line(error: BaseException, *, laptop: bool) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, FirelaunchError) or (
        laptop and kind.__module__ == "builtins" and isinstance(error, _MISTAKES)
    ):
        return f"{name}: {error}"
    return name + (_LEFT_OUT if laptop and error.args else "")


def _frames(error: BaseException, seen: set[int], *, laptop: bool) -> list[str]:
    """Return the lines of a traceback in Python's own form, without messages that may quote data.

    We choose the messages of our own. Error Reporting reads the form that ``traceback`` writes, and groups by frames.
    """
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = []
    if before is not None and id(before) not in seen:
        lines = [*_frames(before, seen, laptop=laptop), _CAUSE if error.__cause__ is not None else _CONTEXT]
    lines.append("Traceback (most recent call last):")
    if error.__traceback__ is not None:
        lines.append("".join(traceback.format_tb(error.__traceback__)).rstrip("\n"))
    lines.append(_last_line(error, laptop=laptop))
    for number, part in enumerate(getattr(error, "exceptions", ()), 1):
        if isinstance(part, BaseException) and id(part) not in seen:
            lines += [f"---------------- {number} ----------------", *_frames(part, seen, laptop=laptop)]
    return lines


class _Json(_Redacting):
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
        if record.name.startswith(_OURS):
            entry = _fields(record, self.clean) | entry
        if REQUEST_ID.get():
            entry["request_id"] = REQUEST_ID.get()
        span = SPAN.get()
        trace_id = TRACE.get() if span is None else f"{span.trace_id:032x}"
        if trace_id and self._project:
            entry["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace_id}"
        if span is not None:
            entry["logging.googleapis.com/spanId"] = f"{span.span_id:016x}"
            entry["logging.googleapis.com/trace_sampled"] = span.sampled
        return json.dumps(entry, ensure_ascii=False)


def _fields(record: logging.LogRecord, clean: Callable[[str], str]) -> dict[str, Any]:
    """Return what the caller gave as ``extra``: texts, numbers and flags."""
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {
        name: clean(value) if isinstance(value, str) else value
        for name, value in given.items()
        if isinstance(value, str | int | float | bool)
    }


def _severity(level: int) -> str:
    """Return Cloud Logging's name of a level. A custom level counts as the next standard level below it."""
    standard_levels = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
    return next((logging.getLevelName(standard) for standard in standard_levels if level >= standard), "DEBUG")


class _Plain(_Redacting):
    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left its own rendering of the exception on the record.
        record.exc_text = None
        line = self.clean(super().format(record))
        record.exc_text = None
        span = SPAN.get()
        marks = [REQUEST_ID.get() or "", "" if span is None else f"trace {span.trace_id:032x}"]
        shown = ", ".join(filter(None, marks))
        return f"{line} [{shown}]" if shown else line


class _Handler(logging.StreamHandler[Any]):
    """Writes to the standard error stream."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Log where a line cannot be formatted. Python's own handler would print the contents without redaction."""
        error = sys.exception()
        if record.name == __name__ or isinstance(error, OSError):
            return  # the line from below failed, or standard error is closed
        logging_files = {logging.__file__, __file__}
        stack = reversed(traceback.extract_stack())
        caller = next((frame for frame in stack if frame.filename not in logging_files), None)
        where = "?" if caller is None else f"{caller.filename}:{caller.lineno}"
        args = (record.name, type(error).__name__, where)
        logging.getLogger(__name__).error("a line of the logger %s cannot be formatted (%s): %s", *args)


def configure_logs(*, structured: bool, project: str = "", content: bool = False, laptop: bool = False) -> None:
    """Send the logs of this process to standard error. A later call replaces an earlier one.

    Args:
        structured: write JSON lines rather than plain ones.
        project: the Google Cloud project, for the link from a line to its trace.
        content: whether the logs may contain users' texts and models' answers.
        laptop: whether the app runs on a laptop, where mistakes in code are shown with their messages.
    """
    # Our lines show neither the caller nor the thread, so don't look them up for each (https://docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _Handler(sys.stderr)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(
        _Json(project, content=content) if structured else _Plain(form, content=content, laptop=laptop)
    )
    CONTENT.disabled = not content
    root = logging.getLogger()
    # Other stream handlers would write every line a second time, without redaction. Handlers of tests are kept.
    root.handlers[:] = [kept for kept in root.handlers if type(kept) not in (logging.StreamHandler, _Handler)]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _QUIETER:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


def log_what_nobody_catches() -> None:
    """Log warnings, and exceptions that end the process or one of its threads, like all other lines."""
    log = logging.getLogger("firelaunch.uncaught")

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("an exception ended the process: %s", kind.__name__, exc_info=(kind, error, trace))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else "?"
            exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("an exception ended the thread %s: %s", name, args.exc_type.__name__, exc_info=exc_info)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("an exception could not be raised: %s", args.exc_type.__name__, exc_info=exc_info)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, unraisable
    logging.captureWarnings(capture=True)
