"""Send gunicorn's log lines through the root logger, which :mod:`firelaunch.telemetry` configures."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import glogging
from gunicorn.arbiter import Arbiter

__all__ = ["Logger"]


_START_FAILED = (Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR)


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's logger: standard error goes to the root's handler, and a log file gets the root's format.

    Where an app cannot start, the worker has said why. What the master adds to it is left out.
    """

    _start_failed = False

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log an error, unless the master tells of a worker that could not start, and of its own end because of it."""
        if msg.startswith("Worker (pid:%s) exited with code") and args[1:2] and args[1] in _START_FAILED:
            self._start_failed = True
        if not self._start_failed:
            super().error(msg, *args, **kwargs)

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None) -> None:
        log.propagate = output == "-"
        if output == "-":
            return
        formatter = next((handler.formatter for handler in logging.getLogger().handlers if handler.formatter), fmt)
        super()._set_handler(log, output, formatter, stream)
