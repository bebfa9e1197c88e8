"""Send gunicorn's log lines through the root logger, which :mod:`firelaunch.telemetry` configures."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import glogging

__all__ = ["Logger"]


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's logger: standard error goes to the root's handler, and a log file gets the root's format."""

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None) -> None:
        log.propagate = output == "-"
        if output == "-":
            return
        formatter = next((handler.formatter for handler in logging.getLogger().handlers if handler.formatter), fmt)
        super()._set_handler(log, output, formatter, stream)
